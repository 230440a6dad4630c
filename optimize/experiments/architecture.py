"""The package's structure, read off its code: what docs/architecture.md shows.

    python -m optimize.experiments.architecture [--write docs/architecture.md]

Prints the wings with their rooms, which wing imports which, and the stages of the sample's recipe.
With ``--write`` the file's parts between the marks are brought up to date.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from optimize import settings
from optimize.data.splits import Split, Splits
from optimize.pipeline.explain import diagram
from optimize.pipeline.graph import graph
from optimize.pipeline.key import NAME, PACKAGE

MARK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
FIRST_SENTENCE = re.compile(r"(.+?)(?:\.(?:\s|$)|;|$)", re.DOTALL)


def wings() -> list[str]:
    """Names of the wings, from the ground up: each after those that it imports."""
    below = {name: _imported_by(name) for name in _wing_names()}
    ordered: list[str] = []
    while below:
        ready = sorted(name for name, needs in below.items() if needs <= set(ordered))
        if not ready:
            raise ValueError(f"wings import each other in a circle: {sorted(below)}")
        ordered += ready
        for name in ready:
            del below[name]
    return ordered


def tree() -> str:
    """Every wing and room with the first words of its docstring."""
    lines = []
    for wing in wings():
        folder = PACKAGE / wing
        lines.append(f"{f'{wing}/':<26}{_words(folder / '__init__.py')}")
        for path in sorted(folder.rglob("*.py")):
            if path.name == "__init__.py" and path.parent == folder:
                continue
            room = path.relative_to(folder)
            name = f"{room.parent}/" if path.name == "__init__.py" else str(room.with_suffix(""))
            lines.append(f"  {name:<23} {_words(path)}")
    return "```text\n" + "\n".join(line.rstrip() for line in lines) + "\n```\n"


def imports() -> str:
    """Which wing imports which."""
    rows = ["| wing | imports |", "| --- | --- |"]
    rows += [f"| {wing} | {', '.join(sorted(_imported_by(wing))) or '—'} |" for wing in wings()]
    return "\n".join(rows) + "\n"


def stages() -> str:
    """The stages of the sample's recipe, as a drawing in Mermaid."""
    split = Split(("a", "b"), np.arange(2))
    chosen, _ = settings.load("sample", None, ["quantize.compare=none"])
    return f"```mermaid\n{diagram(graph(chosen, Splits(('a', 'b'), split, split, split)))}\n```\n"


PARTS = {"tree": tree, "imports": imports, "stages": stages}


def updated(text: str) -> str:
    """A document with every marked part as the code has it now."""
    return MARK.sub(lambda mark: mark[1] + PARTS[mark[2]]() + mark[3], text)


def _wing_names() -> list[str]:
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def _imported_by(wing: str) -> set[str]:
    """Wings that the modules of one import, at any depth; not what only type checkers read."""
    known = set(_wing_names())
    found = {
        name.split(".")[1]
        for path in (PACKAGE / wing).rglob("*.py")
        for name in _names(ast.parse(path.read_text(encoding="utf-8")))
        if name.startswith(f"{NAME}.")
    }
    return (found & known) - {wing}


def _names(tree: ast.AST) -> Iterator[str]:
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.dump(tree.test):
        return
    if isinstance(tree, ast.ImportFrom) and tree.module:
        yield from (f"{tree.module}.{alias.name}" for alias in tree.names)
    for child in ast.iter_child_nodes(tree):
        yield from _names(child)


def _words(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    found = FIRST_SENTENCE.match(text)
    return " ".join(found[1].split()) if found else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the parts, or bring a document up to date."""
    parser = argparse.ArgumentParser(description="The package's structure, read off its code.")
    parser.add_argument("--write", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    if arguments.write is None:
        sys.stdout.write("\n".join(part() for part in PARTS.values()))
    else:
        text = arguments.write.read_text(encoding="utf-8")
        arguments.write.write_text(updated(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
