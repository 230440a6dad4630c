"""The document shows the code as it is, and the code keeps the document's rule."""

from pathlib import Path

import pytest

from optimize.experiments import architecture

DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_document_is_current():
    text = DOCUMENT.read_text(encoding="utf-8")
    command = f"python -m optimize.experiments.architecture --write {DOCUMENT.name}"
    assert architecture.updated(text) == text, f"run: {command}"
    assert set(architecture.MARK.findall(text)[0]) != set()
    assert [mark[1] for mark in architecture.MARK.findall(text)] == list(architecture.PARTS)


def test_wings_import_only_what_lies_below():
    """A circle would have no order."""
    ordered = architecture.wings()
    assert ordered.index("settings") < ordered.index("data") < ordered.index("training")
    assert ordered.index("training") < ordered.index("distill") < ordered.index("pipeline")


@pytest.mark.parametrize(
    ("wing", "allowed"),
    [
        ("bundle", set()),
        ("settings", set()),
        ("data", {"bundle", "settings"}),
        ("models", {"bundle", "settings"}),
        ("judge", {"bundle", "settings", "models"}),  # models: the worker, lazily
        ("training", {"bundle", "settings", "data", "models"}),
        ("quantize", {"bundle", "settings", "data", "models", "training"}),
        ("distill", {"bundle", "settings", "data", "models", "training"}),
    ],
)
def test_a_wing_imports_what_it_may(wing, allowed):
    assert architecture._imported_by(wing) <= allowed


def test_writing_brings_a_stale_document_up_to_date(tmp_path):
    stale = tmp_path / "a.md"
    stale.write_text("before\n<!-- imports -->\nold\n<!-- end -->\nafter\n")
    assert architecture.main(["--write", str(stale)]) == 0
    text = stale.read_text()
    assert text.startswith("before\n<!-- imports -->\n| wing | imports |")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
