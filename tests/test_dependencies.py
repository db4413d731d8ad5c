"""What the package imports, its installation brings."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = {  # of what is installed, by what is imported
    "PIL": "pillow", "cv2": "opencv-python-headless", "huggingface_hub": "huggingface-hub", "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}  # fmt: skip


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
    return {name.split(".")[0] for name in found}


def test_every_library_that_is_imported_is_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["remote"] + extras["faces"] + extras["mteb"] + extras["cluster"]
    installed = {re.match(r"[\w-]+", name)[0] for name in wanted}
    libraries = set().union(*map(imported, (ROOT / "avlearn").rglob("*.py"))) - {"avlearn", *sys.stdlib_module_names}
    assert "torch" in libraries
    assert {NAMES.get(name, name) for name in libraries} <= installed
