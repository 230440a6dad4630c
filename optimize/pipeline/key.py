"""What a stage's result depends on, and the digest of it.

Nothing is listed by hand but what may be left out: the code that counts is what a stage's function
reaches by import, read off the syntax trees.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel

from optimize.models import checkpoint
from optimize.settings.training import (
    DistillSettings,
    GenerateSettings,
    StudentSettings,
    TeacherSettings,
)

PACKAGE = Path(__file__).resolve().parents[1]
NAME = PACKAGE.name
# A value of JSON: what a key is made of.
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

# Modules that are in no key, as patterns, and why. They are not followed either.
LEFT_OUT_MODULES = {
    "optimize": "hands on names of other rooms",
    "optimize.settings*": "reads recipes; the values that it gives are keyed",
    "optimize.training.profile": "adds up seconds, and changes no result",
}
WHERE_IT_LIES = "where a file lies does not matter; a digest of its content is keyed"
# Settings that are in no key, and why.
LEFT_OUT_FIELDS: dict[type[BaseModel], dict[str, str]] = {
    TeacherSettings: dict.fromkeys(("checkpoint", "revision", "logits"), WHERE_IT_LIES),
    StudentSettings: dict.fromkeys(("checkpoint", "revision"), WHERE_IT_LIES),
    GenerateSettings: dict.fromkeys(("checkpoint", "revision"), WHERE_IT_LIES),
    DistillSettings: {
        "transfer": WHERE_IT_LIES,
        "transfer_revision": WHERE_IT_LIES,
        "control": "a control that is trained beside a student does not change it",
    },
}
# Distributions that others bring along without a module of ours naming them, and that change what
# those do.
BROUGHT_ALONG = {"transformers": ("tokenizers", "accelerate", "safetensors")}
ALWAYS = ("numpy",)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@runtime_checkable
class Keyed(Protocol):
    """A value that says itself what it adds to a key: data, a checkpoint, a file."""

    @property
    def key_part(self) -> str:
        """Digest of its content."""


class Imports(NamedTuple):
    """What a module imports: rooms of this package, and top-level names of others."""

    inside: frozenset[str]
    outside: frozenset[str]


class Code:
    """The package's modules as syntax trees.

    Args:
        root: the package's folder.
    """

    def __init__(self, root: Path = PACKAGE) -> None:
        self._root = root
        # Each module is read once: every stage asks for most of them.
        self._sources: dict[str, str] = {}
        self._found: dict[str, Imports] = {}
        self._closures: dict[str, frozenset[str]] = {}

    def modules(self) -> list[str]:
        """Every module of the package."""
        paths = sorted(self._root.rglob("*.py"))
        dotted = (path.relative_to(self._root).with_suffix("").parts for path in paths)
        return [".".join((NAME, *parts)).removesuffix(".__init__") for parts in dotted]

    def closure(self, module: str) -> frozenset[str]:
        """The modules that one reaches by import, itself included; what is left out ends a path."""
        if module not in self._closures:
            found: set[str] = set()
            ahead = [module]
            while ahead:
                here = ahead.pop()
                if here not in found and not is_left_out(here):
                    found.add(here)
                    ahead += sorted(self._imports(here).inside)
            self._closures[module] = frozenset(found)
        return self._closures[module]

    def digest(self, module: str) -> str:
        """SHA-256 of a module's syntax tree: a comment or docstring does not retrain a model."""
        return _digest(self._source(module))

    def distributions(self, module: str) -> dict[str, str]:
        """Versions of the distributions that a module's closure imports."""
        names = {name for each in self.closure(module) for name in self._imports(each).outside}
        known = _distributions()
        wanted = {*ALWAYS, *(found for name in names for found in known.get(name, ()))}
        wanted |= {more for name in wanted for more in BROUGHT_ALONG.get(name, ())}
        return {name: _version(name) for name in sorted(wanted)}

    def _imports(self, module: str) -> Imports:
        if module not in self._found:
            self._found[module] = self._imports_in(module)
        return self._found[module]

    def _imports_in(self, module: str) -> Imports:
        inside, outside = set(), set()
        for name in _imported_names(self._source(module), module):
            if name.partition(".")[0] == NAME:
                inside.add(self._module_of(name))
            else:
                outside.add(name.partition(".")[0])
        return Imports(frozenset(inside), frozenset(outside))

    def _source(self, module: str) -> str:
        if module not in self._sources:
            path = self._path(module)
            if path is None:
                raise ValueError(f"{module} is no module of {self._root}")
            self._sources[module] = path.read_text(encoding="utf-8")
        return self._sources[module]

    def _module_of(self, name: str) -> str:
        """``optimize.x.y`` as it is where that is a module, else ``optimize.x``, which holds y."""
        return name if self._path(name) is not None else name.rpartition(".")[0]

    def _path(self, module: str) -> Path | None:
        place = self._root.joinpath(*module.split(".")[1:])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
        return None


CODE = Code()


def parts_of(
    make: str,
    values: Mapping[str, object],
    inputs: Mapping[str, str],
    code: Code = CODE,
) -> dict[str, Json]:
    """All that a result depends on.

    Args:
        make: ``MODULE:FUNCTION`` that makes it.
        values: what the function is given.
        inputs: keys of the stages that it reads, by role.
        code: where modules are read from.

    Raises:
        TypeError: a value that no key can be made of.
    """
    module = make.partition(":")[0]
    return {
        "make": make,
        "values": {name: encoded(value) for name, value in values.items()},
        "inputs": dict(inputs),
        "code": {name: code.digest(name) for name in sorted(code.closure(module))},
        "versions": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            **code.distributions(module),
        },
    }


def key_of(name: str, parts: Mapping[str, Json]) -> str:
    """SHA-256 of a stage's name and parts."""
    return hashlib.sha256(json.dumps([name, parts], sort_keys=True).encode()).hexdigest()


def encoded(value: object) -> Json:
    """A value as it enters a key.

    Raises:
        TypeError: it is none of those that can.
    """
    if isinstance(value, BaseModel):
        left_out = set(LEFT_OUT_FIELDS.get(type(value), ()))
        return encoded(value.model_dump(mode="json", exclude=left_out) | _weights(value))
    if isinstance(value, Mapping):
        return {str(name): encoded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Keyed):
        return value.key_part
    raise TypeError(f"a {type(value).__name__} cannot be part of a key; give it a key_part")


def _weights(section: BaseModel) -> dict[str, str]:
    """What a section that names a checkpoint is keyed by instead of the name."""
    if not isinstance(section, TeacherSettings | StudentSettings | GenerateSettings):
        return {}
    if section.checkpoint is None or section.checkpoint == "teacher":
        return {"weights": str(section.checkpoint)}
    return {"weights": checkpoint.digest(section.checkpoint, section.revision)}


def is_left_out(module: str) -> bool:
    """Whether a module is in no key; :data:`LEFT_OUT_MODULES` says why."""
    return any(fnmatchcase(module, pattern) for pattern in LEFT_OUT_MODULES)


@lru_cache(maxsize=256)
def _version(distribution: str) -> str:
    return metadata.version(distribution)


@lru_cache(maxsize=1)
def _distributions() -> Mapping[str, list[str]]:
    """Distributions by the top-level names that they install."""
    return metadata.packages_distributions()


@lru_cache(maxsize=1024)
def _digest(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


@lru_cache(maxsize=1024)
def _imported_names(source: str, module: str) -> frozenset[str]:
    """Dotted names that a module imports, wherever it does; not what only type checkers read."""
    return frozenset(_names_in(ast.parse(source), module))


def _names_in(node: ast.AST, module: str) -> Iterator[str]:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        for otherwise in node.orelse:
            yield from _names_in(otherwise, module)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            raise ValueError(f"{module} imports by a relative path; write it in full")
        if node.module != "__future__":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _names_in(child, module)
