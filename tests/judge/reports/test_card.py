"""The model card in the Hub's format."""

import pytest
from answering import ACTING, answering

from optimize.bundle.folder import read_manifest
from optimize.judge.reports.card import hub_card

yaml = pytest.importorskip("yaml")


@pytest.mark.parametrize("judged", [True, False])
def test_metadata_is_yaml_and_words_follow(tiny_kit, canned_report, judged):
    manifest = read_manifest(tiny_kit / "student-int8")
    report = answering(canned_report("pass"), ("a", "b", "c")) if judged else None
    card = hub_card(manifest, "owner/name", report, "student-int8")
    _, front, words = card.split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["pipeline_tag"] == "text-classification"
    assert "int8" in found["tags"]
    assert ("How it was judged" in words) is judged
    assert "leave out what the manifest adds" in words


def test_names_of_others_do_not_break_out(tiny_kit, canned_report):
    report = answering(canned_report("pass"), ("a", "b", "c"))
    report = report.model_copy(update={"recipe": f"{ACTING}\nx: y\n---\n"})
    card = hub_card(read_manifest(tiny_kit / "student-int8"), ACTING, report, "student-int8")
    front = card.split("---\n", 2)[1]
    assert yaml.safe_load(front)["library_name"] == "optimize"
    assert "<script" not in card.split("```")[0].split("---\n", 2)[-1]
