"""What is fitted on validation: temperature, out-of-scope bias, and nothing from test."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from optimize import Classifier, settings
from optimize.bundle.folder import read_manifest
from optimize.data.splits import digest_of
from optimize.pipeline.runner import Build, Runner
from optimize.quantize.calibrate import fit, fit_bias, fit_temperature


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_that_the_labels_were_drawn_at_is_found(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)).astype(np.float32) * 3
    shares = softmax(logits / true, axis=1)
    labels = (shares.cumsum(axis=1) > rng.random((len(logits), 1))).argmax(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30, unique=True), st.data())
def test_bias_gives_as_many_answers_as_wanted(margins, draw):
    """Whatever the margins, so long as no two are equal: no bias parts a tie."""
    away = np.array(margins, dtype=np.float32)
    logits = np.stack([np.zeros_like(away), -away, np.full_like(away, -99)], axis=1)
    wanted = draw.draw(st.integers(0, len(logits)))
    shifted = logits.copy()
    shifted[:, 1] += fit_bias(logits, 1, wanted)
    assert (shifted.argmax(axis=1) == 1).sum() == wanted


def test_no_bias_where_none_is_needed():
    logits = np.array([[2.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    assert fit_bias(logits, 1, 1) == 0.0
    with pytest.raises(ValueError, match="3 of 2 texts"):
        fit_bias(logits, 1, 3)


@pytest.mark.parametrize(("match", "found"), [("recall", 2), ("rate", 3), ("none", 0)])
def test_rate_counts_all_texts_and_recall_those_out_of_scope(match, found):
    labels = np.array([1, 1, 0, 0, 0])
    teacher = np.array([1, 1, 1, 0, 0])
    logits = np.array([[3, 0], [4, 0], [2, 0], [9, 0], [9, 0]], dtype=np.float32)
    calibration = fit(
        logits, labels, temperature=False, out_of_scope=1, teacher_answers=teacher, match=match
    )
    shifted = logits[:, 1] + calibration.bias > logits[:, 0]
    counted = labels == 1 if match == "recall" else np.ones(5, dtype=bool)
    assert shifted[counted].sum() == found
    assert calibration.temperature == 1.0


@pytest.fixture(scope="module")
def out_of_scope_recipe(tiny_recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("oos") / "oos.toml"
    text = tiny_recipe.read_text().replace("[data]", '[data]\nout_of_scope_label = "track"', 1)
    path.write_text(text)
    return path


def with_other_tests(recipe, folder):
    """The same recipe on the same data but for the test split."""
    chosen, _ = settings.load(str(recipe))
    lines = open(chosen.data.source, encoding="utf-8").read().splitlines()  # noqa: PTH123, SIM115
    rows = [json.loads(line) for line in lines]
    for row in rows:
        if row["split"] == "test":
            row["text"] += " indeed"
    changed = folder / "changed.jsonl"
    changed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "changed.toml"
    path.write_text(recipe.read_text().replace(chosen.data.source, str(changed)))
    return path


def test_nothing_that_is_built_or_fitted_has_seen_a_test_text(
    out_of_scope_recipe, tiny_cache, tmp_path
):
    """By digest: with other test texts every stage but the kit is found in the cache."""
    chosen, _ = settings.load(str(out_of_scope_recipe))
    first = Build(chosen, Runner(lambda line: None, tiny_cache))
    first.folder("kit")
    told = []
    other, _ = settings.load(str(with_other_tests(out_of_scope_recipe, tmp_path)))
    second = Build(other, Runner(told.append, tiny_cache))
    kit = second.folder("kit")
    assert [line for line in told if line.endswith("building")] == ["kit: building"]
    differing = [name for name in first.stages if first.stages[name].key != second.stages[name].key]
    assert differing == ["kit"]
    splits = second.splits
    manifest = read_manifest(kit / "student-int8")
    assert manifest.inputs["calibration"] == digest_of(
        splits.label_names, {"validation": splits.validation}
    )
    assert manifest.inputs["data"] == splits.training.key_part


def test_bundle_answers_at_its_teachers_operating_point(out_of_scope_recipe, tiny_cache):
    chosen, _ = settings.load(str(out_of_scope_recipe))
    built = Build(chosen, Runner(lambda line: None, tiny_cache))
    kit, validation = built.folder("kit"), built.splits.validation
    label = built.splits.label_names.index("track")
    out = [text for text, y in zip(validation.texts, validation.labels, strict=True) if y == label]
    found = {}
    for name in ("teacher-onnx", "student-onnx", "student-int8"):
        answers = Classifier(kit / name).predict(out, batch_size=1)
        found[name] = sum(answer.label == "track" for answer in answers)
    assert found["student-onnx"] == found["student-int8"] == found["teacher-onnx"]
    rules = [read_manifest(kit / name) for name in ("student-torch", "student-onnx")]
    assert rules[0].out_of_scope == rules[1].out_of_scope
    assert rules[0].temperature == rules[1].temperature != 1.0
