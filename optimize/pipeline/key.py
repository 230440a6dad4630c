"""The digest of all that a stage depends on."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimize.models.folder import library_versions


def key_of(parts: Mapping[str, Any], modules: Sequence[str], libraries: Sequence[str]) -> str:
    """The digest of what a stage depends on.

    Args:
        parts: settings, digests of the inputs, keys of the stages before; JSON values.
        modules: file names in ``optimize`` whose code makes the result.
        libraries: distributions whose version may change it.
    """
    content = {
        "parts": parts,
        "code": {name: code_digest(Path(__file__).parents[1] / name) for name in modules},
        "libraries": library_versions(libraries),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code_digest(path: Path) -> str:
    """SHA-256 of a module's syntax tree: a comment or docstring does not retrain a model."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
