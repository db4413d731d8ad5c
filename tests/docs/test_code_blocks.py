"""Every block of code in the README and the site does what it says, in a folder with small inputs.

A block runs as it stands unless a comment before it says otherwise: ``<!-- test: HOW -->``, where HOW is one of

- ``with WORDS``: they are added to each ``avlearn pretrain`` or ``finetune``;
- ``exit N``: the commands end with that code;
- ``parsed (WHY)``: only the command lines are read, and a recipe is composed;
- ``imported (WHY)``: only the imports are run, and the calls of what they import are held to its signature;
- ``saved as FILE``: it lies in the folder for the blocks below, which use it;
- ``installed by .ci/run``: it is a line of that script, or names extras of this package;
- ``printed``: a block of text; the block above it prints these lines, with whatever numbers.

The blocks of a page share a folder and the names of Python.
"""

import ast
import inspect
import re
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
import torch
from released_names import released_shapes
from typer.main import get_command
from typer.testing import CliRunner

from avlearn import plugins
from avlearn.cli import app
from avlearn.data.manifest import write_manifest
from avlearn.data.scan import scan_folder
from avlearn.data.world import WorldConfig, make_world
from avlearn.errors import AvlearnError
from avlearn.media import remux
from avlearn.models import registry
from avlearn.objectives import OBJECTIVES
from avlearn.tasks import load_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"python", "sh", "text", "yaml", "toml"}
RUN = {"python", "sh"}
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line that it begins at, its language, and how it is tested."""

    page: str
    line: int
    language: str
    how: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def argument(self, word: str) -> str | None:
        """What follows words of how it is tested; None where it is tested in another way."""
        return self.how.removeprefix(word).strip() if self.how.startswith(f"{word} ") else None


def read_blocks(page: str, text: str) -> list[Block]:
    """The blocks of a page. A fence without a language, or code by indentation, is an error."""
    blocks, opened, how = [], None, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            if opened is None:
                assert line[3:] in LANGUAGES, f"{page}:{number}: a block is one of {sorted(LANGUAGES)}"
                opened, code = number, []
            else:
                language = text.splitlines()[opened - 1][3:]
                blocks.append(Block(page, opened, language, how, "\n".join(code) + "\n"))
                opened, how = None, ""
        elif opened is not None:
            code.append(line)
        elif found := re.fullmatch(r"<!-- test: (.*) -->", line):
            how = found[1]
        else:
            assert not line.startswith(("    ", "\t")), f"{page}:{number}: code stands in a fence with its language"
            assert "```" not in line, f"{page}:{number}: a fence begins its line"
            assert not how, f"{page}:{number}: how a block is tested stands right before it"
    assert opened is None, f"{page}:{opened}: the block does not end"
    return blocks


BLOCKS = {page: read_blocks(page, (ROOT / page).read_text()) for page in PAGES}


@pytest.fixture(scope="session")
def inputs(small_world, tmp_path_factory) -> Path:
    """What a reader has: videos, and released weights."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(small_world, folder / "solo")
    shutil.copytree(small_world / "clips", folder / "videos")
    make_world(folder / "duets", 4, 7, WorldConfig.preset("duets"), workers=1)
    write_manifest(scan_folder(folder / "videos"), folder / "held_out.parquet")
    clips = folder / "duets" / "clips"
    films = folder / "films"
    films.mkdir()
    for name in ("000000.mp4", "000002.mp4"):
        (films / name).write_bytes((clips / name).read_bytes())
    remux(clips / "000003.mp4", films / "late.mp4", audio_delay=0.2)
    (films / "broken.mp4").write_text("not a film\n")
    for name in ("in.mp4", "clip.mp4", "a.mp4"):
        (folder / name).write_bytes((clips / "000000.mp4").read_bytes())
    shapes = released_shapes("psf_slowfast_8x8_r50").items()
    torch.save({"model_state": {name: torch.ones(shape) for name, shape in shapes}}, folder / "SLOWFAST_8x8_R50.pyth")
    return folder


@pytest.fixture
def desk(inputs, tmp_path, monkeypatch) -> Path:
    """The folder that a page's blocks run in. What they register is forgotten afterwards."""
    for path in inputs.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AVLEARN_PLUGINS", "")
    yield tmp_path
    of_page = {name for name in sys.modules if (tmp_path / f"{name}.py").exists()}
    for name in of_page:
        del sys.modules[name]
    plugins._loaded -= of_page
    for name in [name for name, (_, builder) in registry._builders.items() if builder.__module__ in of_page]:
        del registry._builders[name]
    for name in [name for name, objective in OBJECTIVES.items() if objective.__module__ in of_page]:
        del OBJECTIVES[name]


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.language in RUN for block in BLOCKS[page])])
def test_the_code_of_a_page_runs(page, desk):
    names, printed = {"__name__": "__page__"}, ""
    for block in BLOCKS[page]:
        if (name := block.argument("saved as")) is not None:
            (desk / name).write_text(block.code)
        elif block.how.startswith("imported"):
            check_imports(block)
        elif block.language == "python":
            exec(compile("\n" * block.line + block.code, ROOT / page, "exec"), names)
        elif block.language == "sh":
            printed = run_commands(block)
        elif block.how == "printed":
            missing = [line for line in block.code.splitlines() if shape(line) not in map(shape, printed.splitlines())]
            assert not missing, f"{block.place} is not what is printed: {missing}\n{printed}"


def shape(line: str) -> str:
    """A line without its numbers, and with single spaces."""
    return " ".join(NUMBER.sub("#", line).split())


def run_commands(block: Block) -> str:
    """Run a block's commands. Gives what they print."""
    printed = ""
    for line in command_lines(block):
        if line.startswith(("pip ", "pytest ", "mkdocs ")):
            check_installed(block, line)
            continue
        command, words = avlearn_command(block, line)
        if block.how.startswith("parsed"):
            check_parsed(command, words)
            continue
        if "workers" in {parameter.name for parameter in command.params}:
            words += ["--workers", "1"]
        if command.name in ("pretrain", "finetune"):
            words += ["trainer.threads=1", "trainer.accelerator=cpu", *shlex.split(block.argument("with") or "")]
        result = CliRunner().invoke(app, words)
        error = result.exception
        assert error is None or isinstance(error, (AvlearnError, SystemExit)), f"{block.place}: {error!r}"
        code = error.exit_code if isinstance(error, AvlearnError) else result.exit_code
        assert code == int(block.argument("exit") or 0), f"{block.place}: {line}: {code}\n{result.output}\n{error}"
        printed += result.output
    return printed


def command_lines(block: Block) -> list[str]:
    """Commands of a block, one a line; comments, and what only prints, are left out."""
    whole = block.code.replace("\\\n", " ").splitlines()
    lines = [part.strip() for line in whole for part in line.split(" #")[0].split("&&")]
    return [line.removeprefix("srun ") for line in lines if line and not line.startswith(("#", "echo "))]


def avlearn_command(block: Block, line: str):
    """The command that a line calls, and the words behind ``avlearn``."""
    program, *words = shlex.split(line)
    assert program == "avlearn", f"{block.place}: no test knows how to run: {line}"
    command, name, rest, context = get_command(app), "avlearn", list(words), None
    while hasattr(command, "commands"):
        context = command.make_context(name, rest, parent=context)
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    return command, words


def check_parsed(command, words: list[str]) -> None:
    """Options and their values are known, and the recipe can be composed. Files that are named need not be there."""
    words = words[words.index(command.name) + 1 :]
    for word in words:
        if not word.startswith("-") and ("." in word or "/" in word) and "=" not in word:
            path = Path(word)
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.mkdir() if word.endswith("/") else path.touch()
    context = command.make_context(command.name, words)
    if command.name in ("pretrain", "finetune"):
        load_recipe(context.params["recipe"], context.params["overrides"] or [])


def check_installed(block: Block, line: str) -> None:
    """The line, or one with more options, is in the script that CI runs; or it installs extras that there are."""
    assert block.how == "installed by .ci/run", f"{block.place}: only .ci/run installs and runs all tests"
    extras = re.fullmatch(r"pip install -e '?\.(?:\[([\w,]+)\])?'?", line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    if not any(f"{run} ".startswith(f"{line} ") for run in script):
        assert extras, f"{block.place}: .ci/run has no line: {line}"
        assert set(filter(None, (extras[1] or "").split(","))) <= set(project["optional-dependencies"])


def check_imports(block: Block) -> None:
    """What is imported is there, and is called with arguments that it has."""
    names: dict[str, object] = {}
    tree = ast.parse(block.code)
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(ast.Module(imports, []), block.place, "exec"), names)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    known = [call for call in calls if call.func.id in names]
    assert known, f"{block.place}: nothing is called that is imported"
    for call in known:
        keywords = {keyword.arg: None for keyword in call.keywords}
        inspect.signature(names[call.func.id]).bind(*call.args, **keywords)


def test_pages_name_what_is_there():
    """Of the API: what is printed from docstrings, and what is linked. Of the architecture: files."""
    for page in PAGES:
        text = (ROOT / page).read_text()
        for name in re.findall(r"^::: (\S+)$|\]\[(avlearn\.[\w.]+)\]", text, re.MULTILINE):
            assert is_public("".join(name)), f"{page}: {name}"
    for file in re.findall(r"`([\w/]+(?:\.py|/))`", (ROOT / "docs" / "architecture.md").read_text()):
        within = file.replace("NAME", "*") if "/" in file[:-1] else f"**/{file}"
        assert any((ROOT / "avlearn").glob(within)) or (ROOT / file).is_file(), f"docs/architecture.md: {file}"


def is_public(name: str) -> bool:
    """Whether it is a module, or a name of one."""
    module, _, attribute = name.rpartition(".")
    try:
        import_module(name)
    except ImportError:
        return hasattr(import_module(module), attribute)
    return True


@pytest.mark.parametrize(
    "text",
    ["```\navlearn sync a.mp4\n```\n", "```console\navlearn\n```\n", "text\n\n    avlearn sync a.mp4\n",
     "- item\n  ```sh\n  avlearn sync a.mp4\n  ```\n", "```sh\navlearn\n", "<!-- test: printed -->\n\n```text\n```\n"],
)  # fmt: skip
def test_a_block_that_would_not_be_tested_is_an_error(text):
    with pytest.raises(AssertionError):
        read_blocks("page", text)


@pytest.mark.parametrize(
    "language, how, code",
    [
        ("python", "", "avlearn_is_not_a_name"),
        ("python", "imported (why)", "from avlearn import probe\nprobe(1, 2, 3, nothing=4)"),
        ("python", "imported (why)", "from avlearn import no_such_name\nno_such_name()"),
        ("sh", "", "avlearn no-such-command"),
        ("sh", "", "avlearn probe clip.mp4 --no-such-option"),
        ("sh", "", "avlearn probe broken.mp4"),
        ("sh", "", "make all"),
        ("sh", "parsed (why)", "avlearn pretrain sync_world no.such.key=1"),
        ("sh", "parsed (why)", "avlearn sync clip.mp4 --no-such-option"),
        ("sh", "", "pip install -e ."),
        ("sh", "installed by .ci/run", "pip install -e '.[no_such_extra]'"),
        ("sh", "installed by .ci/run", "pytest --no-such-option"),
    ],
)
def test_a_block_that_does_not_work_is_found(language, how, code, desk, monkeypatch):
    monkeypatch.setitem(BLOCKS, "README.md", [Block("README.md", 1, language, how, code)])
    with pytest.raises((Exception, SystemExit)):
        test_the_code_of_a_page_runs("README.md", desk)


def test_lines_that_are_not_printed_are_found(desk, monkeypatch):
    run = Block("README.md", 1, "sh", "", "avlearn probe clip.mp4\n")
    said = Block("README.md", 4, "text", "printed", "clip.mp4: a film\n")
    monkeypatch.setitem(BLOCKS, "README.md", [run, said])
    with pytest.raises(AssertionError, match="is not what is printed"):
        test_the_code_of_a_page_runs("README.md", desk)
