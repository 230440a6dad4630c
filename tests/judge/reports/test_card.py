"""The model card in the Hub's format."""

import pytest
from answering import ACTING, answering
from msgspec.structs import replace

from optimize.bundle.folder import read_manifest
from optimize.judge.reports.card import hub_card
from optimize.problems import MULTI_LABEL

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


def test_a_card_says_only_what_was_judged_of_its_own_variant(tiny_kit, canned_report):
    report = answering(canned_report("pass"), ("a", "b", "c"))
    shipped = hub_card(read_manifest(tiny_kit / "student-int8"), "o/n", report, "student-int8")
    assert "Safe to ship" in shipped
    assert "an INT8 answer can change" in shipped
    other = hub_card(read_manifest(tiny_kit / "student-onnx"), "o/n", report, "student-onnx")
    assert "Safe to ship" not in other
    assert "No gate judged this variant, student-onnx" in other
    assert "an INT8 answer can change" not in other


def test_a_card_names_the_teacher_and_what_it_is_for(tiny_kit):
    manifest = read_manifest(tiny_kit / "student-int8")
    card = hub_card(manifest, "o/n", None, "")
    assert manifest.recipe["teacher"]["checkpoint"] in card.replace("\\", "")
    assert "one of its labels. It is not for texts of another language" in card
    several = replace(manifest, problem_type=MULTI_LABEL, thresholds=(0.5, 0.5, 0.5))
    card = hub_card(several, "o/n", None, "")
    assert "answers one of its labels to every text" not in card
    assert "A text may be given none of its labels" in card
