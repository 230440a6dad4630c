"""What the pages are completed with when they are built: settings, commands, links into the code.

MkDocs calls these by their names (MkDocs documentation, "Hooks").
"""

from __future__ import annotations

import argparse
import posixpath
import re
import textwrap
from pathlib import Path
from typing import Any, get_args

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\((?P<target>\.\.?/[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


class DocsError(ValueError):
    """A page that points to what is not there."""


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """A page's text, with what is generated put in, and links out of ``docs/`` made absolute."""
    for mark, make in (("<!-- settings -->", settings), ("<!-- commands -->", commands)):
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return LINK.sub(lambda found: _link(found, page.file.src_uri, config.repo_url), markdown)


def _link(found: re.Match[str], page: str, repository: str) -> str:
    target = found["target"]
    place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    if place.startswith("docs/"):
        return found[0]
    if not (ROOT / place).exists():
        raise DocsError(f"docs/{page} links to {target}, and there is no {place}")
    return f"]({repository}/blob/main/{place}{found['anchor'] or ''})"


def settings() -> str:
    """Every table of a recipe, from the classes that read it."""
    from optimize.settings.gates import Gate, Regression
    from optimize.settings.judging import Workload
    from optimize.settings.recipe import Settings
    from optimize.settings.variants import VariantSettings

    parts = []
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and hasattr(kind, "model_fields") and kind is not Regression:
            parts.append(_table(f"[{name}]", kind))
    parts.append(_table("[variants.NAME]", VariantSettings))
    parts.append(_table("[judge.workloads.NAME]", Workload))
    for gate in get_args(get_args(Gate)[0]):
        (kind,) = get_args(gate.model_fields["kind"].annotation)
        parts.append(_table(f'[gates.NAME] kind = "{kind}"', gate))
    parts.append(_table("[regression]", Regression))
    return "\n\n".join(parts)


def _table(title: str, kind: Any) -> str:
    words, told = _docstring(kind)
    rows = [
        f"| `{name}` | `{_default(field)}` | {told.get(name) or field.description or ''} |"
        for name, field in kind.model_fields.items()
        if name != "kind"
    ]
    return "\n".join(
        [
            f"## `{title}`",
            "",
            words,
            "",
            "| key | default | what it is |",
            "| --- | --- | --- |",
            *rows,
        ]
    )


def _default(field: Any) -> str:
    if field.is_required():
        return "to be given"
    value = field.get_default(call_default_factory=True)
    text = "none" if value is None else str(list(value)) if isinstance(value, tuple) else str(value)
    return text if len(text) < 60 else "see there"


def _docstring(kind: Any) -> tuple[str, dict[str, str]]:
    """The words of a docstring, and what it says of each attribute, those of its bases too."""
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = textwrap.dedent("    " + (base.__doc__ or ""))
        _, _, attributes = text.partition("Attributes:\n")
        for found in re.finditer(r"^ {4,8}(\w+): (.+(?:\n {9,}.+)*)", attributes, re.MULTILINE):
            told[found[1]] = " ".join(found[2].split()).replace("|", "\\|").replace("``", "`")
    words = (kind.__doc__ or "").partition("Attributes:")[0]
    return " ".join(words.split()).replace("``", "`"), told


def commands() -> str:
    """The help of every command, as it is printed."""
    from optimize.cli.arguments import build_parser, every_command
    from optimize.cli.commands import RUNNERS

    parts = []
    for name, _, command in every_command(build_parser(RUNNERS)):
        command.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=96)
        parts.append(f"## `optimize {name}`\n\n```text\n{command.format_help().strip()}\n```")
    return "\n\n".join(parts)
