"""Why a stage is built or found: what its key is made of, and what differs from an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from optimize.pipeline.cache import Entry
from optimize.pipeline.key import Json
from optimize.pipeline.stage import Stage

SHOWN = 12  # characters of a digest
ABSENT = "absent"


def explanation(stage: Stage) -> list[str]:
    """What a stage's key is made of, a line a part."""
    lines = [f"{stage.name}-{stage.key[:20]}", f"  made by {stage.make}"]
    for part in ("values", "inputs", "versions", "code"):
        lines.append(f"  {part}")
        leaves = sorted(flat(stage.parts[part]))
        lines += [f"    {name} = {_shown(value)}" for name, value in leaves]
        if not leaves:
            lines.append("    none")
    return lines


def difference(stage: Stage, entries: Iterable[Entry]) -> list[str]:
    """What is another than in the newest stage of that name in the cache, a line a part.

    Args:
        stage: the one asked for.
        entries: the cache's.
    """
    known = [entry for entry in entries if entry.name == stage.name]
    if any(entry.key == stage.key[: len(entry.key)] for entry in known):
        return [f"{stage.name}: in the cache under this very key, nothing to build"]
    if not known:
        return [f"{stage.name}: the cache holds none, so it is built"]
    newest = max(known, key=lambda entry: entry.used)
    before, now = dict(flat(newest.parts)), dict(flat(stage.parts))
    lines = [f"{stage.name}: built, since {newest.folder.name} differs in"]
    for name in sorted(before.keys() | now.keys()):
        was, is_now = before.get(name, ABSENT), now.get(name, ABSENT)
        if was != is_now:
            lines.append(f"    {name}: {_shown(was)} → {_shown(is_now)}")
    return lines


def diagram(stages: Mapping[str, Stage]) -> str:
    """The stages and what each reads, as Mermaid."""
    lines = ["flowchart TD"]
    for name, stage in stages.items():
        lines.append(f'    {_node(name)}["{name}<br/><small>{_room(stage)}</small>"]')
        for role, each in stage.inputs.items():
            label = "" if name == "kit" or role == "model" else f"|{role}|"
            lines.append(f"    {_node(each.name)} -->{label} {_node(name)}")
    return "\n".join(lines)


def _room(stage: Stage) -> str:
    module, _, function = stage.make.partition(":")
    return f"{module.removeprefix('optimize.')}.{function}"


def _node(name: str) -> str:
    return name.replace("-", "_")


def flat(value: Json, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """The leaves of nested tables, each with its path."""
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from flat(each, f"{prefix}.{name}" if prefix else name)
    elif prefix:
        yield prefix, value


def _shown(value: Json) -> str:
    text = str(value)
    hexadecimal = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return f"{text[:SHOWN]}…" if hexadecimal else text
