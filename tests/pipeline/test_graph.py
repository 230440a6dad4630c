import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import optimize
from optimize import Classifier, settings
from optimize.bundle.folder import read_manifest
from optimize.distill.student import labels_alone
from optimize.judge.kit import KitError, read_kit
from optimize.pipeline.graph import can_quantize, graph
from optimize.pipeline.runner import Build, Runner, build
from optimize.settings.judging import COMPARED, VARIANTS


def test_kit_holds_every_variant_and_the_texts(tiny_kit):
    kit = read_kit(tiny_kit)
    without = set() if can_quantize("optimum-dynamic") else {COMPARED}
    assert set(kit.variants) == set(VARIANTS) - without
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
    kit = build(gated, told.append, tiny_cache)
    assert kit != tiny_kit
    assert [line for line in told if line.endswith("building")] == ["kit: building"]
    assert "size" in json.loads((kit / "kit.json").read_text())["settings"]["gates"]


def test_control_is_built_beside_the_student_and_judged(tiny_recipe, tiny_cache, tiny_kit):
    told = []
    chosen, _ = settings.load(str(tiny_recipe), None, ["distill.control=true"])
    kit = read_kit(build(chosen, told.append, tiny_cache))
    built = [line.split(":")[0] for line in told if line.endswith(": building")]
    alone = "student-undistilled"
    assert built == [alone, f"{alone}-onnx", f"calibrated-{alone}-onnx", "kit"]
    assert alone in kit.variants
    assert chosen.judged_variants[-1] == alone
    recipe = kit.variants[alone].manifest.recipe["distill"]
    assert recipe["epochs"] == chosen.distill.epochs  # as many examples: nothing was added


def test_control_sees_as_many_examples_and_misspelt_copies_too(tiny_recipe):
    asked = ["distill.augment=2", "distill.misspelt=3", "distill.epochs=4", "distill.pooled=1.0"]
    chosen, _ = settings.load(str(tiny_recipe), None, asked)
    labelled, texts = 48, 130
    alone = labels_alone(chosen.distill, labelled, texts)
    assert (alone.misspelt, alone.augment, alone.pooled) == (3, 0, 0)
    assert alone.epochs * 4 * labelled == pytest.approx(4 * (texts + 3 * labelled), rel=0.1)
    assert alone.learning_rate == chosen.distill.learning_rate


def test_cross_fitted_logits_are_of_teachers_that_have_not_seen_the_texts(
    tiny_recipe, tiny_cache, tiny_kit
):
    import numpy as np

    from optimize.data.folds import fold_rows
    from optimize.training.soft_targets import SoftTargets

    runner = Runner(lambda line: None, tiny_cache)
    chosen, _ = settings.load(str(tiny_recipe), None, ["distill.folds=2", "distill.augment=1"])
    one, _ = settings.load(str(tiny_recipe), None, ["distill.augment=1"])
    built = Build(chosen, runner)
    crossed = SoftTargets.read(built.folder("teacher-outputs")).logits[:]
    plain = SoftTargets.read(Build(one, runner).folder("teacher-outputs")).logits[:]
    count = len(built.splits.train)
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
    assert build(same, told.append, tiny_cache) == tiny_kit
    assert told == []


def test_changed_text_in_a_kit_is_noticed(tiny_kit, tmp_path):
    copy = shutil.copytree(tiny_kit, tmp_path / "kit")
    path = copy / "data" / "test.jsonl"
    content = path.read_text()
    path.unlink()  # the copy may be a hard link
    path.write_text(content.replace("please", "pleas3", 1))
    with pytest.raises(KitError, match="it was changed"):
        read_kit(copy)


# Options under which every stage there is has a part in the kit.
EVERY_STAGE = [
    "distill.augment=1",
    'distill.augment_kinds=["drop", "replace"]',
    "distill.folds=2",
    "distill.control=true",
    "generate.texts=10",
]


@pytest.mark.parametrize("given", [EVERY_STAGE, ["teacher.logits='x.npz'"]])
def test_every_stage_names_a_function_that_takes_its_values_and_inputs(
    tiny_recipe, tiny_backbone, tmp_path, monkeypatch, given
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.npz").write_bytes(b"x")
    asked = [*given, f"generate.checkpoint={tiny_backbone}"]
    chosen, _ = settings.load(str(tiny_recipe), None, asked)
    for stage in Build(chosen, Runner(pytest.fail, tmp_path)).stages.values():
        function = stage.function()
        assert f"{function.__module__}:{function.__qualname__}" == stage.make
        inspect.signature(function).bind("result", "run", **stage.values, **stage.inputs)


def test_graph_holds_inputs_before_what_reads_them_and_each_once(tiny_recipe, tmp_path):
    chosen, _ = settings.load(str(tiny_recipe))
    built = Build(chosen, Runner(pytest.fail, tmp_path / "cache"))
    names = list(built.stages)
    for name, stage in built.stages.items():
        for each in stage.inputs.values():
            assert built.stages[each.name].key == each.key
            assert names.index(each.name) < names.index(name)
    again = graph(chosen, built.splits)
    assert {n: s.key for n, s in again.items()} == {n: s.key for n, s in built.stages.items()}
    assert not (tmp_path / "cache").exists()  # nothing is built by asking


CACHED = """
import sys
from pathlib import Path
from optimize import settings
from optimize.pipeline.runner import build
build(settings.load(sys.argv[1])[0], print, Path(sys.argv[2]))
print(sorted({"torch", "transformers", "onnxruntime"} & set(sys.modules)))
"""


def test_a_build_that_is_cached_imports_nothing_heavy(tiny_recipe, tiny_cache, tiny_kit):
    command = [sys.executable, "-c", CACHED, str(tiny_recipe), str(tiny_cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


ONE_STAGE = """
import sys
from pathlib import Path
from optimize import settings
from optimize.pipeline.runner import Build, Runner
recipe, cache, stage = sys.argv[1:]
Build(settings.load(recipe)[0], Runner(print, Path(cache))).folder(stage)
"""

# One line a wing: (module, what stands there, what shall stand there, stages built anew).
BROKEN = {
    "data": (
        "data/transfer_set.py",
        "unlabelled = np.full(shape, UNLABELLED, dtype=np.int64)",
        "unlabelled = np.full(shape, 0, dtype=np.int64)",
        "transfer-set",
    ),
    "training": (
        "training/cross_entropy.py",
        "return total / len(labels)",
        "return 0 * total / len(labels)",
        "teacher",
    ),
    "distill": (
        "distill/student.py",
        "labels = transfer_set.labels if outputs else labelled.labels",
        "labels = 0 * (transfer_set.labels if outputs else labelled.labels)",
        "student",
    ),
    "models": (
        "models/encoder.py",
        "return tuple(index * available // layers for index in range(1, layers + 1))",
        "return tuple(index for index in range(1, layers + 1))",
        "teacher",
    ),
    "quantize": ("quantize/int8.py", "per_channel=True", "per_channel=False", "int8-ort-dynamic"),
    "card": ("quantize/card.py", "# Text classifier, INT8", "# A classifier, INT8", None),
}


# The first of those that train again takes seconds like the others, and stands for them.
SLOW = ("training", "models")
WINGS = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in BROKEN]


@pytest.mark.whole
@pytest.mark.parametrize("wing", WINGS)
def test_a_broken_line_is_never_answered_with_yesterdays_model(
    wing, tiny_recipe, tiny_cache, tiny_kit, tmp_path
):
    """As a pull request that breaks a wing: built with the cache of the branch that it leaves."""
    path, before, after, first = BROKEN[wing]
    package = tmp_path / "code" / "optimize"
    ignored = shutil.ignore_patterns("__pycache__", "sample")
    shutil.copytree(Path(optimize.__file__).parent, package, ignore=ignored)
    text = (package / path).read_text()
    assert text.count(before) == 1
    (package / path).write_text(text.replace(before, after))
    cache = shutil.copytree(tiny_cache, tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-c", ONE_STAGE, str(tiny_recipe), str(cache), first or "kit"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "code")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    built = [line.split(":")[0] for line in done.stdout.splitlines() if line.endswith(": building")]
    assert done.returncode == 0, done.stderr
    if first is None:
        assert built[-1] == "kit"
        assert built[0] == "teacher-validation-logits"  # made in the same room
        assert all(name.startswith("calibrated-") for name in built[1:-1])
        (kit,) = {*cache.glob("kit-*/result")} - {*_kits_in(tiny_cache, cache)}
        assert "# A classifier, INT8" in (kit / "student-int8" / "README.md").read_text()
    else:
        assert built == [first]  # and so is all that is made of it, by its key


def _kits_in(cache, copy):
    return (copy / path.relative_to(cache) for path in cache.glob("kit-*/result"))
