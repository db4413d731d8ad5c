"""The package in numbers: python tools/house.py [FOLDER]

Prints files, lines, and the lengths of functions in lines, of which the longest are named.
"""

import ast
import sys
from pathlib import Path
from statistics import median


def main(folder: Path) -> None:
    paths = sorted(folder.rglob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    lengths = sorted(
        (node.end_lineno - node.lineno + 1, f"{path}:{node.name}")
        for path, text in zip(paths, texts, strict=True)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    )
    counts = [length for length, _ in lengths]
    print(f"{len(paths)} files, {sum(len(text.splitlines()) for text in texts)} lines, {len(lengths)} functions")
    p95 = counts[-len(counts) // 20]
    print(f"lines of a function: median {median(counts):g}, 95 % at most {p95}, longest {counts[-1]}")
    for length, name in reversed(lengths[-5:]):
        print(f"  {length:3}  {name}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "avlearn"))
