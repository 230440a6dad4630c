import json

import pytest

from optimize import Classifier, settings
from optimize.bundle.folder import read_manifest
from optimize.data.transfer_set import TransferSet
from optimize.judge.kit import KitError, read_kit
from optimize.pipeline import graph as pipeline
from optimize.settings.recipe import VARIANTS


def test_kit_holds_every_variant_and_the_texts(tiny_kit):
    kit = read_kit(tiny_kit)
    assert set(kit.variants) == set(VARIANTS)
    assert len(kit.examples("test").texts) == len(kit.examples("validation").texts) == 24
    assert kit.manifest.labels == ("cancel", "refund", "track")


def test_bundle_answers_better_than_chance(tiny_kit):
    examples = read_kit(tiny_kit).examples("test")
    classifier = Classifier(tiny_kit / "student-int8")
    answers = classifier.predict(examples.texts, batch_size=1)
    right = [a.label == classifier.labels[y] for a, y in zip(answers, examples.labels, strict=True)]
    assert sum(right) > 20


def test_int8_is_smaller_and_says_what_it_is(tiny_kit):
    int8, fp32 = (read_manifest(tiny_kit / name) for name in ("student-int8", "student-onnx"))
    assert int8.size_bytes < fp32.size_bytes
    assert (int8.quantization, fp32.quantization) == ("ort-dynamic", None)
    assert (int8.opset, int8.ir_version) == (17, 8)
    assert int8.inputs["model"] == fp32.files["model.onnx"].sha256
    assert "student-int8" not in (tiny_kit / "student-int8" / "README.md").read_text()


def test_changed_gate_trains_nothing(tiny_kit, tiny_recipe, tiny_cache):
    told = []
    gate = 'gates.size={kind = "size", min_reduction_pct = 50.0}'
    gated, _ = settings.load(str(tiny_recipe), overrides=[gate])
    kit = pipeline.build(gated, told.append, tiny_cache)
    assert kit != tiny_kit
    assert [line for line in told if line.endswith("building")] == ["kit: building"]
    assert "size" in json.loads((kit / "kit.json").read_text())["settings"]["gates"]


def test_control_is_built_beside_the_student_and_judged(tiny_recipe, tiny_cache, tiny_kit):
    told = []
    chosen, _ = settings.load(str(tiny_recipe), None, ["distill.control=true"])
    kit = read_kit(pipeline.build(chosen, told.append, tiny_cache))
    built = [line.split(":")[0] for line in told if line.endswith(": building")]
    alone = "student-undistilled"
    assert built == [alone, f"{alone}-onnx", f"calibrated-{alone}-onnx", "kit"]
    assert alone in kit.variants
    assert chosen.judged_variants[-1] == alone
    recipe = kit.variants[alone].manifest.recipe["distill"]
    assert recipe["epochs"] == chosen.distill.epochs  # as many examples: nothing was added


def test_control_sees_as_many_examples_and_misspelt_copies_too(tiny_recipe, tmp_path, monkeypatch):
    asked = ["distill.augment=2", "distill.misspelt=3", "distill.epochs=4"]
    chosen, _ = settings.load(str(tiny_recipe), None, asked)
    stages = pipeline.Stages(chosen, lambda line: None, tmp_path)
    seen = []
    monkeypatch.setattr(stages, "_student", lambda name, distill, store: seen.append(distill))
    stages.undistilled()
    texts, labelled = len(TransferSet(stages.transfer())), len(stages.splits.train)
    assert texts > 2 * labelled
    (alone,) = seen
    assert (alone.misspelt, alone.augment, alone.pooled) == (3, 0, 0)
    assert alone.epochs * 4 * labelled == pytest.approx(4 * (texts + 3 * labelled), rel=0.1)


def test_cross_fitted_logits_are_of_teachers_that_have_not_seen_the_texts(
    tiny_recipe, tiny_cache, tiny_kit
):
    import numpy as np

    from optimize.data.folds import fold_rows
    from optimize.training.soft_targets import SoftTargets

    chosen, _ = settings.load(str(tiny_recipe), None, ["distill.folds=2", "distill.augment=1"])
    stages = pipeline.Stages(chosen, lambda line: None, tiny_cache)
    crossed = SoftTargets.read(stages.logits()).logits[:]
    one, _ = settings.load(str(tiny_recipe), None, ["distill.augment=1"])
    plain = SoftTargets.read(pipeline.Stages(one, lambda line: None, tiny_cache).logits()).logits[:]
    count = len(stages.splits.train)
    assert len(crossed) == len(plain) > count
    np.testing.assert_array_equal(crossed[count:], plain[count:])
    assert not np.isclose(crossed[:count], plain[:count]).all(axis=1).any()
    rows = [fold_rows(count, fold, 2) for fold in (0, 1)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(count))


@pytest.mark.parametrize("given", ["teacher.fine_tune=false", "teacher.logits='x.npz'"])
def test_folds_of_a_teacher_that_is_given_are_refused(tiny_recipe, given):
    with pytest.raises(settings.SettingsError, match=r"distill\.folds trains teachers of its own"):
        settings.load(str(tiny_recipe), None, ["distill.folds=2", given])


def test_second_build_does_nothing(tiny_kit, tiny_recipe, tiny_cache):
    told = []
    same, _ = settings.load(str(tiny_recipe))
    assert pipeline.build(same, told.append, tiny_cache) == tiny_kit
    assert told == []


def test_changed_text_in_a_kit_is_noticed(tiny_kit, tmp_path):
    import shutil

    copy = shutil.copytree(tiny_kit, tmp_path / "kit")
    path = copy / "data" / "test.jsonl"
    content = path.read_text()
    path.unlink()  # the copy may be a hard link
    path.write_text(content.replace("please", "pleas3", 1))
    with pytest.raises(KitError, match="it was changed"):
        read_kit(copy)
