"""Do the tests notice wrong code?  python tools/mutants.py WORK [--modules objectives/dense.py ...] [--each 4]

Draws small changes (a sign, a comparison, a constant, a statement that is gone; see mutations.py), makes each in a copy
of the checkout in WORK, and runs the tests that run the changed function, quickest first. A change that no test notices
survived: a test is missing, or the change changes nothing; those are listed in equivalent_mutants.tsv, with the reason.
Started again with the same WORK, it goes on, and with --again it tries those that survived once more. The survivors and
a table are printed at the end; the exit code is 1 where less than --least of the changes were noticed.

A process that has the libraries imported forks for each change, so that a change costs the time of its tests alone.
Tools that exist do not fit: mutmut leaves out decorated functions, which here is all that runs under
``torch.inference_mode``, and what is computed when a module is imported; cosmic-ray imports PyTorch for every change.
"""

import argparse
import compileall
import contextlib
import csv
import gc
import importlib
import json
import os
import py_compile
import random
import resource
import shutil
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from mutations import Mutation, mutations

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = ROOT / "tools" / "equivalent_mutants.tsv"
MODULES = ("objectives", "metrics", "apply", "evaluation", "models/weights/importers")
TESTS = ("objectives", "metrics", "apply", "evaluation", "models/weights/test_importers*", "tasks")
COPIED = ("avlearn", "configs", "recipes", "tests", "tools", "docs", "pyproject.toml", "README.md")
# Imported before anything forks; nothing of ours, because that is what is changed.
LIBRARIES = ["torch", "torchvision", "torchaudio", "timm", "lightning", "numpy", "sklearn.linear_model", "scipy.signal"]
LIBRARIES += ["scipy.ndimage", "scipy.optimize", "scipy.stats", "av", "cv2", "soxr", "librosa", "pyarrow.parquet"]
LIBRARIES += ["pydantic", "typer", "rich", "matplotlib.pyplot", "pytest", "hypothesis"]
LIBRARIES += ["safetensors.torch", "transformers"]
MISSED = ("survived", "unreached")
NAMED = ("module", "source", "before", "after")
PYTEST = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:benchmark"]
MEMORY = 8 << 30  # bytes that a change may take
BUSY = 10
MARGIN, LEAST = 5, 30  # times the tests' own time, and seconds, before a change is called endless


class Watch:
    """A plugin of pytest that notes how long each test takes and which functions of a folder it runs.

    What fixtures run counts for all tests of their file: the first one to ask makes them for the others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen, self.names = f"{folder}/", set(), {}
        self.functions: dict[str, set[str]] = defaultdict(set)
        self.shared: dict[str, set[str]] = defaultdict(set)
        self.seconds: Counter[str] = Counter()
        self.setup: Counter[str] = Counter()
        self.left_out: set[str] = set()

    def _called(self, frame, event, argument) -> None:
        code = frame.f_code
        if event == "call" and code not in self.names:
            path = code.co_filename
            name = code.co_qualname.split(".<locals>.<")[0]  # what lambdas and comprehensions are in
            self.names[code] = f"{path[len(self.folder) :]}:{name}" if path.startswith(self.folder) else ""
        if event == "call":
            self.seen.add(self.names[code])

    def _watched(self, into: set[str]):
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            into |= self.seen - {""}
            self.seen.clear()

    def plugin(self) -> object:
        """What pytest takes."""
        import pytest

        watch = self

        class Plugin:
            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_setup(self, item):
                return (yield from watch._watched(watch.shared[item.nodeid.partition("::")[0]]))

            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_call(self, item):
                return (yield from watch._watched(watch.functions[item.nodeid]))

            def pytest_runtest_logreport(self, report):
                if report.when == "call":
                    watch.seconds[report.nodeid] = report.duration
                else:
                    watch.setup[report.nodeid.partition("::")[0]] += report.duration
                if not report.passed:
                    watch.left_out.add(report.nodeid)  # a test that fails or is skipped tells nothing

        return Plugin()

    def table(self) -> dict[str, dict]:
        """By test: its own seconds, those of all fixtures of its file, and functions."""
        kept = [name for name in self.functions if name not in self.left_out]
        return {
            name: {
                "seconds": round(self.seconds[name], 3),
                "setup": round(self.setup[name.partition("::")[0]], 3),
                "functions": sorted(self.functions[name] | self.shared[name.partition("::")[0]]),
            }
            for name in kept
        }


def in_child(work: Callable[[], int], log: Path, seconds: float = 3600.0) -> tuple[int | None, float]:
    """Exit code of what runs in a fork of this process, None where it took too long; and how long that was.

    It may take so many seconds of the processor, and on a machine with other work `BUSY` times as long.
    """
    began = time.monotonic()
    child = os.fork()
    if not child:
        os.setsid()
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (round(seconds), round(seconds) + 5))
        code = 3
        try:
            code = int(work())
        finally:
            os._exit(code)  # nothing of this process's own is to be finished twice
    status = None
    while status is None and time.monotonic() - began < BUSY * seconds:
        time.sleep(0.02)
        ended, found = os.waitpid(child, os.WNOHANG)
        status = found if ended else None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # with all that it started
    if status is None:
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return None if code in (-signal.SIGXCPU, -signal.SIGKILL) else code, time.monotonic() - began


class Campaign:
    """A folder with a copy of the checkout, what each test runs, and what became of each change."""

    def __init__(self, work: Path, budget: float) -> None:
        self.work, self.tree, self.budget = work, work / "tree", budget
        self.log, self.journal = work / "last.log", work / "journal.jsonl"
        work.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.tree, ignore_errors=True)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, self.tree / name)
        # Compiled once, and known by their content: two changes within a second would have one time.
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self.tree / "avlearn", quiet=1, invalidation_mode=mode)
        os.chdir(self.tree)
        sys.path.insert(0, str(self.tree))
        os.environ |= {"PYTHONPATH": str(self.tree), "OMP_NUM_THREADS": "1"}
        for name in LIBRARIES:
            importlib.import_module(name)
        gc.freeze()  # or every child would go through all objects of the libraries, and copy their pages
        rows = self.journal.read_text().splitlines() if self.journal.exists() else []
        self.results = {row["key"]: row for row in map(json.loads, rows)}
        self.tests: dict[str, dict] = {}

    def pytest(self, tests: list[str], changed: bool) -> int:
        """For a child: the exit code of pytest, stopped at the first failure."""
        import pytest

        if changed:
            sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
        return pytest.main(["-x", *PYTEST, *tests])

    def watch_tests(self) -> None:
        """Run each file of tests once, unless it is known already."""
        files = sorted({path for pattern in TESTS for path in self.tree.glob(f"tests/{pattern}")})
        files = [f for path in files for f in (sorted(path.rglob("test_*.py")) if path.is_dir() else [path])]
        for file in files:
            known = self.work / "tests" / f"{sha256(file.read_bytes()).hexdigest()[:16]}.json"
            if not known.exists():
                known.parent.mkdir(exist_ok=True)
                code, seconds = in_child(lambda file=file, known=known: self._watch(file, known), self.log)
                said = f": exit code {code}" if code else ""
                print(f"{seconds:6.1f} s  {file.relative_to(self.tree)}{said}", flush=True)
            if known.exists():
                self.tests |= json.loads(known.read_text())

    def _watch(self, file: Path, known: Path) -> int:
        import pytest

        watch = Watch(self.tree)
        pytest.main([*PYTEST, str(file)], plugins=[watch.plugin()])
        known.write_text(json.dumps(watch.table()))
        return 0

    def tests_of(self, module: str, function: str) -> list[str]:
        """Quickest first, those that run the function before those that run others of its module, within the budget."""
        order = []
        for name, test in self.tests.items():
            if any(f.startswith(f"{module}:") for f in test["functions"]):
                near = not function or f"{module}:{function}" in test["functions"]
                order.append((not near, test["seconds"] + test["setup"], name))
        chosen, files, total = [], set(), 0.0
        for _, _, name in sorted(order):
            file = name.partition("::")[0]
            total += self.tests[name]["seconds"] + (0.0 if file in files else self.tests[name]["setup"])
            if total > self.budget and chosen:
                break
            chosen.append(name)
            files.add(file)
        return chosen

    def run(self, module: str, drawn: list[Mutation], again: bool) -> list[dict]:
        """What became of the changes of a module."""
        source = (self.tree / module).read_bytes()
        lines = source.decode().splitlines()
        rows, checked = [], False
        for mutation in drawn:
            named = json.dumps([module, mutation.start, mutation.end, mutation.after]).encode()
            key = sha256(named + source).hexdigest()[:16]
            row = self.results.get(key)
            if row is None or (again and row["result"] in MISSED):
                tests = self.tests_of(module, mutation.function)
                if tests and not checked:
                    self._check(module)
                    checked = True
                result, seconds = self._try(module, mutation, tests)
                row = {"key": key, "module": module, "line": mutation.line, "source": lines[mutation.line - 1].strip()}
                row |= {"before": mutation.before, "after": mutation.after, "result": result}
                row |= {"tests": len(tests), "seconds": round(seconds, 1)}
                with self.journal.open("a") as journal:
                    journal.write(json.dumps(row) + "\n")
                print(f"{result:9s} {seconds:5.1f} s  {_said(row)}", flush=True)
            rows.append(row)
        return rows

    def _check(self, module: str) -> None:
        tests = self.tests_of(module, "")
        code, _ = in_child(lambda: self.pytest(tests, False), self.log)
        if code:
            raise SystemExit(f"{module}: its tests fail without a change; see {self.log}")

    def _try(self, module: str, mutation: Mutation, tests: list[str]) -> tuple[str, float]:
        if not tests:
            return "unreached", 0.0
        path = self.tree / module
        source = path.read_bytes()
        path.write_bytes(mutation.applied(source))
        limit = MARGIN * sum(self.tests[name]["seconds"] + self.tests[name]["setup"] for name in tests) + LEAST
        code, seconds = in_child(lambda: self.pytest(tests, True), self.log, limit)
        path.write_bytes(source)
        return {None: "timeout", 0: "survived"}.get(code, "killed"), seconds


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _said(row: dict) -> str:
    return f"{row['module']}:{row['line']}  {_one_line(row['before'])}  ->  {_one_line(row['after'])}"


def reasons() -> dict[tuple[str, ...], str]:
    """Why a change changes nothing, by module, line of source, and the piece of it before and after."""
    if not EQUIVALENT.exists():
        return {}
    with EQUIVALENT.open(newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {tuple(row[column] for column in NAMED): row["reason"] for row in rows}


def report(rows: list[dict]) -> float:
    """Print the survivors and a table; the share of changes that were noticed."""
    known = reasons()
    counts: dict[str, Counter] = defaultdict(Counter)
    for row in rows:
        named = tuple(" ".join(row[column].split()) for column in NAMED)
        result = "equivalent" if row["result"] in MISSED and named in known else row["result"]
        counts[row["module"]][result] += 1
        if result in MISSED:
            print(f"{result:9s} {_said(row)}")
    columns = ("killed", "timeout", "survived", "unreached", "equivalent")
    total = sum(counts.values(), Counter())
    print(f"\n{'module':42s}" + "".join(f"{name:>11s}" for name in columns))
    for module, count in [*sorted(counts.items()), ("all", total)]:
        print(f"{module:42s}" + "".join(f"{count[name]:11d}" for name in columns))
    noticed = total["killed"] + total["timeout"]
    share = noticed / max(total.total() - total["equivalent"], 1)
    print(f"\n{100 * share:.1f} % of {total.total()} changes were noticed, {total['equivalent']} change nothing")
    return share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the copy and the journal")
    parser.add_argument("--modules", nargs="+", default=MODULES, help="files or folders, within avlearn/")
    parser.add_argument("--each", type=int, default=1_000_000, help="changes of a module at most; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests for a change at most")
    parser.add_argument("--least", type=float, default=0.9, help="share that has to be noticed")
    parser.add_argument("--again", action="store_true", help="try those that survived once more")
    arguments = parser.parse_args()
    campaign = Campaign(arguments.work.resolve(), arguments.budget)
    campaign.watch_tests()
    places = [campaign.tree / "avlearn" / name for name in arguments.modules]
    files = [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    rows = []
    for file in files:
        module = str(file.relative_to(campaign.tree))
        every = mutations(file.read_bytes())
        drawn = random.Random(f"{arguments.seed}:{module}").sample(every, min(arguments.each, len(every)))
        rows += campaign.run(module, sorted(drawn, key=lambda m: (m.function, m.start)), arguments.again)
    return 0 if report(rows) >= arguments.least else 1


if __name__ == "__main__":
    sys.exit(main())
