"""The map in docs/architecture.md is that of the package: rooms import from rooms below them, modules in no circle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "avlearn"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def floors() -> dict[str, int]:
    """Of each room, and of each module that stands beside them, by the page's table."""
    rows = re.findall(r"^\| (\d) \| (.*?) \|", PAGE, re.MULTILINE)
    return {name: int(floor) for floor, names in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", names)}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imported(nodes: list[ast.stmt]) -> set[str]:
    """Modules of the package."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return found & MODULES.keys()


def room(module: str) -> str:
    return f"{module}.".split(".")[1]


def test_rooms_import_from_below():
    floor = floors()

    def below(lower: str, upper: str) -> bool:
        """Files of one floor may import each other, rooms may not."""
        return floor[lower] < floor[upper] or (floor[lower] == floor[upper] and not (PACKAGE / lower).is_dir())

    assert {room(module) for module in MODULES} - {"", "__main__"} == floor.keys()
    wrong = []
    for module, path in MODULES.items():
        for other in imported(list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))):
            ours, theirs = room(module), room(other)
            if ours != theirs and ours in floor and theirs in floor and not below(theirs, ours):
                wrong.append(f"{module} imports {other}")
    assert wrong == []


def test_folders_of_apply_import_from_those_before():
    order = ["flow", "faces", "sync", "localize", "separate", "explain"]
    assert {path.parent.name for path in (PACKAGE / "apply").glob("*/*.py")} == set(order)
    wrong = [
        f"{module} imports {other}"
        for place, folder in enumerate(order)
        for module, path in MODULES.items()
        if module.startswith(f"avlearn.apply.{folder}.")
        for other in imported(list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
        if other.startswith(tuple(f"avlearn.apply.{later}." for later in order[place + 1 :]))
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {
        module: imported(ast.parse(path.read_text(encoding="utf-8")).body) - {module}
        for module, path in MODULES.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)
