"""The one reader of ``[tool.optimize]`` in pyproject.toml and of recipe TOML files.

They come from ``--recipe``, or else the project's ``[tool.optimize]``, or else the recipe that a
kit carries, or else the recipe ``sample``. What a recipe ``extends`` it wins over, key by key.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from optimize.disk import read_regular
from optimize.settings.gates import BASELINE
from optimize.settings.recipe import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_RECIPE = "sample"
LARGEST_RECIPE_BYTES = 1 << 20


class SettingsError(ValueError):
    """Settings that cannot be used; the message names the source, the key and the remedy."""


def load(
    recipe: str | None = None, project: Path | None = None, overrides: Iterable[str] = ()
) -> tuple[Settings, str]:
    """Settings and the words for where they came from.

    Args:
        recipe: a shipped recipe's name or a TOML file; wins over the project.
        project: folder whose pyproject.toml may hold ``[tool.optimize]``.
        overrides: as for :func:`with_overrides`.

    Raises:
        SettingsError: no such recipe, bad TOML, unknown key or value out of range.
    """
    if recipe is not None:
        table, source = _extended(_read_recipe(recipe), (recipe,)), f"recipe {recipe}"
    elif project is not None and (own := _project_table(project)) is not None:
        table = _extended(own, ())
        source = f"[tool.optimize] of {(project / 'pyproject.toml').name}"
    else:
        table, source = _extended(_read_recipe(DEFAULT_RECIPE), ()), f"recipe {DEFAULT_RECIPE}"
    return with_overrides(table, source, overrides)


def against_baseline(settings: Settings, *, stored: bool) -> Settings:
    """The same with the variant ``baseline`` and the gates of ``[regression]``.

    Args:
        settings: those of the run.
        stored: the baseline is a report, whose entries must be those of this run.

    Raises:
        SettingsError: a gate of the recipe has the name of one of them.
    """
    added = {
        name: gate
        for name, gate in settings.regression.gates().items()
        if stored or gate.kind != "entries"
    }
    if taken := sorted(added.keys() & settings.gates.keys()):
        raise SettingsError(f"gates.{taken[0]} has a name that --baseline needs; rename it")
    judge = {**settings.judge.model_dump(), "variants": (*settings.judge.variants, BASELINE)}
    gates = {name: gate.model_dump() for name, gate in (settings.gates | added).items()}
    table = {**settings.model_dump(), "judge": judge, "gates": gates}
    return parse(table, "the baseline's gates")


def with_overrides(
    table: Mapping[str, Any], source: str, overrides: Iterable[str]
) -> tuple[Settings, str]:
    """A whole recipe's table with ``key.path=value`` assignments laid over it."""
    for assignment in overrides:
        table = _merge(table, _assignment(assignment))
        source += f", {assignment}"
    return parse(table, source), source


def has_project_settings(project: Path) -> bool:
    """Whether the folder's pyproject.toml has a ``[tool.optimize]`` table."""
    return _project_table(project) is not None


def parse(table: Mapping[str, Any], source: str) -> Settings:
    """A table as settings.

    Raises:
        SettingsError: every unknown key and bad value, each with its path.
    """
    try:
        return Settings.model_validate(table)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}{_given(fault)}"
            for fault in error.errors(include_url=False)
        ]
        raise SettingsError(f"{source} is not usable:\n" + "\n".join(lines)) from None


def shipped_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    folder = resources.files("optimize") / "recipes"
    return tuple(sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".toml")))


def _given(fault: Any) -> str:
    value = fault.get("input")
    return f" (given: {value!r})" if isinstance(value, str | int | float | bool) else ""


def _read_recipe(name: str) -> dict[str, Any]:
    if name in shipped_recipes():
        text = (resources.files("optimize") / "recipes" / f"{name}.toml").read_text("utf-8")
    else:
        text = _text_of(
            Path(name), f"and it is not one of the shipped recipes {', '.join(shipped_recipes())}"
        )
    return {"name": _name_of(Path(name)), **toml_table(text, name)}


def _name_of(path: Path) -> str:
    """A recipe's name by its file's, which may hold what a name does not."""
    plain = unicodedata.normalize("NFKD", path.stem).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._") or "recipe"


def _project_table(project: Path) -> dict[str, Any] | None:
    path = project / "pyproject.toml"
    if not path.is_file():
        return None
    tool = toml_table(_text_of(path, ""), str(path)).get("tool", {})
    own = tool.get("optimize")
    if own is not None and not isinstance(own, dict):
        raise SettingsError(f"{path}: tool.optimize is {own!r}; a table [tool.optimize] is needed")
    return None if own is None else {"name": "project", **own}


def _text_of(path: Path, otherwise: str) -> str:
    """A file of TOML, whose encoding is UTF-8; editors may begin it with a byte-order mark."""
    try:
        content = read_regular(path, LARGEST_RECIPE_BYTES)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8, which TOML is "
            f"written in; convert the file, e.g. `iconv -f latin1 -t utf-8 {path}`"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            ", ".join(
                filter(
                    None, (f"no recipe {str(path)!r}: not a readable file ({reason})", otherwise)
                )
            )
        ) from None


def toml_table(text: str, source: str) -> dict[str, Any]:
    """TOML text as a table.

    Raises:
        SettingsError: it is not TOML; the message names the source and the place.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(f"{source} is not TOML: {error}") from error


def recipe_files(recipe: str | None, project: Path) -> set[Path]:
    """The files of a recipe and of those that it extends; a shipped one is no file of anyone's.

    Args:
        recipe: as :func:`load` takes it; the project's own where none is named.
        project: folder whose pyproject.toml may hold that one.
    """
    own = _project_table(project) if recipe is None else None
    found = set() if own is None else {(project / "pyproject.toml").resolve()}
    name = recipe or str((own or {}).get("extends", DEFAULT_RECIPE))
    while name not in shipped_recipes() and Path(name).resolve() not in found:
        found.add(Path(name).resolve())
        base = _read_recipe(name).get("extends")
        if not isinstance(base, str):
            break
        name = base
    return found


def _extended(table: dict[str, Any], chain: tuple[str, ...]) -> dict[str, Any]:
    """The table laid over the recipe that it extends, and over that one's in turn."""
    table = dict(table)
    base = table.pop("extends", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise SettingsError(f"extends = {base!r}: the name of one recipe or its file is needed")
    if base in chain:
        raise SettingsError(f"recipes extend each other in a circle: {' -> '.join((*chain, base))}")
    return _merge(_extended(_read_recipe(base), (*chain, base)), table)


def with_base(table: Mapping[str, Any], base: str) -> dict[str, Any]:
    """A table laid over the recipe that it extends."""
    return _extended({"extends": base, **table}, ())


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(below, value)
        else:
            merged[key] = value
    return merged


def _assignment(text: str) -> dict[str, Any]:
    """``a.b=1`` as ``{"a": {"b": 1}}``; a value that is not TOML is taken as a string."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise SettingsError(f"override {text!r} is not KEY=VALUE, e.g. distill.epochs=3")
    try:
        return tomllib.loads(f"{key} = {value}")
    except tomllib.TOMLDecodeError:
        quoted = value.strip().replace("\\", "\\\\").replace('"', '\\"')
        return toml_table(f'{key} = "{quoted}"', f"override {text!r}")
