"""What the pages say is so: Python runs, commands and settings parse, links lead somewhere."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from optimize.cli.arguments import build_parser
from optimize.cli.commands import RUNNERS
from optimize.cli.examples import EXAMPLES
from optimize.settings.load import parse, toml_table, with_base
from optimize.settings.recipe import Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    if path.name != "architecture.md"  # drawn from the code, and tested there
)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)")
# Pages whose Python asks a bundle of pairs, or of several labels; tests/problems asks such ones.
OTHER_BUNDLES = ("pairs", "several-labels")
NAME = {page: str(page.relative_to(ROOT)) for page in PAGES}


def fences(page, language):
    text = page.read_text(encoding="utf-8")
    return [found[2] for found in FENCE.finditer(text) if found[1] == language]


def pages_with(language, besides=()):
    return [
        pytest.param(page, id=NAME[page])
        for page in PAGES
        if fences(page, language) and page.parent.name not in besides
    ]


def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", pages_with("python", besides=OTHER_BUNDLES))
def test_python_runs(page, tmp_path, tiny_kit):
    """One piece after the other, as one who reads would; what is said to be printed is."""
    (tmp_path / "kit").symlink_to(tiny_kit)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(fences(page, "python"))], cwd=tmp_path, text=True,
        capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    promised = re.search(r"^prints\n\n```text\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    if promised:
        assert done.stdout == promised[1]


@pytest.mark.parametrize("page", pages_with("console"))
def test_commands_parse(page):
    """Each command of ours, as far as the shell's own parts of the line."""
    parser = build_parser(RUNNERS)
    for line in "".join(fences(page, "console")).splitlines():
        for part in re.split(r"\s(?:&&|\||>)\s", line.removeprefix("$ ").split("  #")[0]):
            words = shlex.split(part.split(" # ")[0])
            if words[:1] == ["optimize"]:
                parser.parse_args(words[1:])


@pytest.mark.parametrize("page", pages_with("toml"))
def test_settings_are_read(page):
    for piece in fences(page, "toml"):
        table = toml_table(piece, NAME[page])
        table = table.get("tool", {}).get("optimize", table)
        if "tool" in table:
            continue  # another tool's
        own = set(table.get("judge", {}).get("variants", ())) & set(table.get("variants", ()))
        # A recipe that judges its own variants alone stands on nothing.
        parse(table if own else with_base({"judge": {}, **table}, "sample"), NAME[page])


@pytest.mark.parametrize("page", [pytest.param(page, id=NAME[page]) for page in PAGES])
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{NAME[page]} links to {target}"


def test_the_reference_has_every_key_and_command():
    module = hooks()
    told = module.settings()
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and hasattr(kind, "model_fields"):
            assert f"## `[{name}]`" in told
            section = told.partition(f"## `[{name}]`")[2].partition("\n## ")[0]
            for key in kind.model_fields:
                row = re.search(rf"^\| `{key}` \| .+ \| (.+) \|$", section, re.MULTILINE)
                assert row, f"{name}.{key} is not told"
    commands = module.commands()
    assert all(example in commands for example in EXAMPLES.values())


def test_a_link_out_of_the_pages_that_leads_nowhere_is_an_error():
    module = hooks()

    class Page:
        class file:  # noqa: N801
            src_uri = "how-to/x.md"

    class Config:
        repo_url = "https://example.org/o"

    found = module.on_page_markdown("[a](../../SECURITY.md) [b](../gates.md#x)", Page, Config, None)
    assert found == "[a](https://example.org/o/blob/main/SECURITY.md) [b](../gates.md#x)"
    with pytest.raises(module.DocsError, match="no NOWHERE"):
        module.on_page_markdown("[a](../../NOWHERE)", Page, Config, None)
