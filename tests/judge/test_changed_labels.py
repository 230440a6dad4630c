"""A change that adds or renames labels is held against its base on what both know."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from two_runs import FEW_BLOCKS

from optimize import settings
from optimize.judge.held_against import HeldAgainst, as_here, stored_facts
from optimize.judge.kit import Kit, KitError, read_kit
from optimize.judge.label_sets import rows_without
from optimize.judge.reports.tables import baseline_words
from optimize.judge.run import judge
from optimize.judge.stored import check_verdicts

RECIPE = FEW_BLOCKS | {"regression": {"max_drop_pp": 30.0}}


def judged(kit):
    chosen = settings.against_baseline(settings.parse(RECIPE, "test"), stored=False)
    return judge(kit, chosen, "test", "quick", lambda line: None, HeldAgainst("git:main"))


def verdicts(report):
    return {result.name: result.verdict for result in report.gates}


def before(kit, target, names):
    """The kit's INT8 bundle with other names for its labels."""
    shutil.copytree(kit.folder / "student-int8", target)
    path = target / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["labels"] = [names.get(name, name) for name in manifest["labels"]]
    path.unlink()
    path.write_text(json.dumps(manifest))
    return target


@pytest.fixture
def renamed(tiny_kit, tmp_path):
    """A kit held against a bundle from before its first label was renamed; and that label."""
    kit = read_kit(tiny_kit)
    first = kit.manifest.labels[0]
    return kit.with_bundle(before(kit, tmp_path / "before", {first: "retired"}), "baseline"), first


def test_the_texts_whose_label_the_base_does_not_know_are_not_held_against_it(renamed):
    kit, first = renamed
    report = judged(kit)
    ids = kit.manifest.labels.index(first)
    known = sum(label != ids for label in report.labels)
    assert 0 < known < len(report.labels)
    assert (report.baseline.lacks, report.baseline.shared) == ((first,), known)
    # The same model: without this, each text of the renamed label would be one that changed.
    assert report.baseline.changes == ()
    assert verdicts(report)["regression-accuracy"] == "pass"
    assert f"0 of {known} labels changed" in baseline_words(report)
    assert f"it does not know {first}" in baseline_words(report)
    # What the base answers stands under the name that it had.
    answers = report.predictions["test"]["baseline"].labels
    assert set(answers) <= set(range(len(report.label_names)))
    assert report.label_names[-1] == "retired"
    check_verdicts(report, "report")


def test_what_is_lost_on_the_shared_labels_still_fails(renamed, tmp_path):
    kit, first = renamed
    second, third = (name for name in kit.manifest.labels if name not in (first, "retired"))
    turned = before(kit, tmp_path / "turned", {second: third, third: second})
    kit = kit.with_bundle(turned, "student-int8")
    report = judged(kit)
    assert verdicts(report)["regression-accuracy"] == "fail"
    assert len(report.baseline.changes) > report.baseline.shared / 2


def test_a_label_that_is_no_more_takes_no_text_away(tiny_kit, tmp_path):
    kit = read_kit(tiny_kit)
    labels = (*kit.manifest.labels, "retired")
    old = before(kit, tmp_path / "old", {})
    manifest = json.loads((old / "manifest.json").read_text())
    (old / "manifest.json").write_text(json.dumps(manifest | {"labels": labels}))
    held = kit.with_bundle(old, "baseline")
    assert held.manifest.labels == labels
    assert held.lacks("baseline") == ()


def test_without_a_shared_label_there_is_nothing_to_compare(tiny_kit, tmp_path):
    kit = read_kit(tiny_kit)
    names = {name: f"old {name}" for name in kit.manifest.labels}
    with pytest.raises(KitError, match="nothing can be compared"):
        kit.with_bundle(before(kit, tmp_path / "before", names), "baseline")


def test_a_label_that_every_text_gained_leaves_nothing_to_compare(tmp_path):
    """Each text has labels that both know, and none has only such."""
    manifest = SimpleNamespace(
        labels=("new", "old"), splits={"test": "t.jsonl"}, problem_type="multi_label_classification"
    )
    (tmp_path / "t.jsonl").write_text('{"text": "a", "labels": ["new", "old"]}\n')
    kit = Kit(tmp_path, manifest, {})
    before = SimpleNamespace(
        labels=("old", "older"), problem_type=manifest.problem_type, text_pair=False
    )
    manifest.text_pair = False
    with pytest.raises(KitError, match="knows the labels of none of the test texts"):
        kit._with_baseline(tmp_path, before)


def test_only_a_baseline_may_know_other_labels(tiny_kit, tmp_path):
    kit = read_kit(tiny_kit)
    old = before(kit, tmp_path / "before", {kit.manifest.labels[0]: "retired"})
    with pytest.raises(KitError, match="kit built from the same data"):
        kit.with_bundle(old, "student-int8")


def test_a_set_of_labels_is_left_out_for_any_of_its_labels():
    classes, members = ("a", "b", "c"), ((0,), (0, 2), (), (1,))
    ids = np.array([0, 1, 2, 3, 1])
    assert rows_without(ids, {"c"}, classes, members).tolist() == [0, 2, 3]
    assert rows_without(np.array([0, 2, 1]), {"c"}, classes, None).tolist() == [0, 2]


def test_a_stored_report_is_read_by_the_names_of_its_labels(renamed, tiny_kit):
    held, _ = renamed
    report, kit = judged(held), read_kit(tiny_kit)
    # It has the name of a label that is no more, which none of its answers says.
    assert stored_facts(report, "student-int8", kit, "test").missing is None
    answers = report.predictions["test"]["student-int8"]
    assert as_here(answers, report, kit).labels == answers.labels
    assert "'retired'" in stored_facts(report, "baseline", kit, "test").missing
    turned = report.model_copy(update={"label_names": (*report.label_names[::-1],)})
    last = len(report.label_names) - 1
    ids = tuple(last - label for label in answers.labels)
    assert as_here(answers.model_copy(update={"labels": ids}), turned, kit).labels == answers.labels
