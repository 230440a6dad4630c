"""A kit vouches for itself: what was altered is refused before anything is measured."""

import json
import shutil

import numpy as np
import pytest

from optimize import settings
from optimize.bundle.manifest import FileEntry
from optimize.judge.checks import RepeatedTextsWarning, check_kit, check_texts
from optimize.judge.kit import KitError, read_kit
from optimize.judge.statistics.accuracy import distinct_rows
from optimize.judge.workers.process import WorkerError, WorkerProcess, WorkerSpec


@pytest.fixture
def copied(tiny_kit, tmp_path):
    return shutil.copytree(tiny_kit, tmp_path / "kit", copy_function=shutil.copyfile)


def zeroed_head(path):
    """Every answer becomes the same, and so does a broken candidate's beside it."""
    content = bytearray(path.read_bytes())
    content[-400:] = bytes(400)
    path.write_bytes(content)


def padded(path):
    """A larger teacher makes any student smaller beside it."""
    path.write_bytes(path.read_bytes() + b" " * 3_000_000)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


ALTERED = [
    ("teacher-torch/model.safetensors", zeroed_head, "was changed or cut short"),
    ("teacher-torch/config.json", padded, "was changed or cut short"),
    ("teacher-torch/tokenizer.json", flipped, "was changed or cut short"),
    ("student-torch/model.safetensors", flipped, "was changed or cut short"),
    ("student-int8/model.onnx", flipped, "was changed or cut short"),
    ("teacher-onnx/model.onnx", lambda path: path.unlink(), "is missing"),
    ("student-torch/adapter_config.json", lambda path: path.write_text("{}"), "is not in the"),
    ("teacher-torch/manifest.json", flipped, "it was changed"),
    ("data/test.jsonl", flipped, "it was changed"),
]


@pytest.mark.parametrize(("file", "alter", "words"), ALTERED)
def test_an_altered_kit_is_refused(copied, file, alter, words):
    alter(copied / file)
    with pytest.raises(KitError, match=words):
        read_kit(copied)


@pytest.mark.torch
def test_a_worker_refuses_an_altered_pytorch_variant(copied):
    zeroed_head(copied / "teacher-torch" / "model.safetensors")
    with pytest.raises(WorkerError, match="was changed or cut short"):
        WorkerProcess(WorkerSpec("w", copied / "teacher-torch", 1), "a text")


def test_an_altered_bundle_is_refused_in_place_of_a_kits(tiny_kit, copied):
    flipped(copied / "student-int8" / "model.onnx")
    with pytest.raises(KitError, match="was changed or cut short"):
        read_kit(tiny_kit).with_bundle(copied / "student-int8", "student-int8")


def test_sizes_are_those_of_the_files(tiny_kit):
    for variant in read_kit(tiny_kit).variants.values():
        files = [path for path in variant.folder.iterdir() if path.name in variant.manifest.files]
        assert variant.facts.size_bytes == sum(path.stat().st_size for path in files)


def with_tests(kit, rows):
    """The kit with other test texts, its own digests made anew."""
    path = kit / "data" / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = json.loads((kit / "kit.json").read_text())
    entry = FileEntry.of(path)
    manifest["files"]["data/test.jsonl"] = {
        "size_bytes": entry.size_bytes,
        "sha256": entry.sha256,
    }
    (kit / "kit.json").write_text(json.dumps(manifest))
    return read_kit(kit)


def chosen_with(margin):
    table = {
        "judge": {"variants": ["teacher-torch", "student-int8"]},
        "gates": {"accuracy": {"kind": "accuracy", "max_drop_pp": margin}},
    }
    return settings.parse(table, "test")


def test_one_text_six_hundred_times_cannot_decide(copied):
    kit = with_tests(copied, [{"text": "track my parcel", "label": "track"}] * 600)
    with pytest.raises(KitError, match=r"needs 299 different texts .* 'test' has 1; add texts"):
        check_texts(kit, chosen_with(1.0))


@pytest.mark.parametrize("kind", ["size", "accuracy", "speedup"])
def test_a_gate_on_a_variant_that_is_not_there_is_refused_at_once(tiny_kit, kind):
    limits = {"size": "min_reduction_pct", "accuracy": "max_drop_pp", "speedup": "min_ratio"}
    gate = {"kind": kind, "candidate": "small", limits[kind]: 50.0}
    table = {"variants": {"small": {"model": "small"}}, "gates": {"mine": gate}}
    words = (
        r"gates\.mine is on the variant 'small', and the kit .* holds teacher-torch, .*drop_gates"
    )
    with pytest.raises(KitError, match=words):
        check_kit(read_kit(tiny_kit), settings.parse(table, "test"))


def test_repeated_texts_are_warned_of_with_what_counts(copied):
    rows = [{"text": f"track {number % 300}", "label": "track"} for number in range(400)]
    kit = with_tests(copied, rows)
    with pytest.warns(RepeatedTextsWarning, match="100 of 400 texts .* n = 300"):
        check_texts(kit, chosen_with(1.0))


def test_case_and_white_space_tell_no_two_texts_apart():
    texts = ("A b", "a  B", "c", "a b")
    assert distinct_rows(texts, np.array([0, 0, 1, 1])).tolist() == [0, 2, 3]


def test_a_gate_of_a_variant_against_itself_is_refused():
    table = {
        "gates": {"size": {"kind": "size", "candidate": "teacher-torch", "min_reduction_pct": 0}}
    }
    with pytest.raises(settings.SettingsError, match="candidate and reference are both"):
        settings.parse(table, "test")


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"kind": "speedup", "min_ratio": 2, "by": {"typical": -1.0}}, "by.typical = -1 cannot be"),
        ({"kind": "speedup", "min_ratio": 2, "by": {"@avx2": 0.0}}, "by.@avx2 = 0 cannot be"),
        ({"kind": "accuracy", "max_drop_pp": 1, "by": {"@avx2": 200}}, "cannot be a max_drop_pp"),
        ({"kind": "size", "min_reduction_pct": 1, "by": {"@avx2": 101}}, "cannot be a min_reduc"),
    ],
)
def test_a_limit_by_workload_must_be_one_the_gate_could_have(gate, words):
    with pytest.raises(settings.SettingsError, match=words):
        settings.parse({"gates": {"g": gate}}, "test")


def test_a_slowdown_by_workload_must_be_above_zero():
    with pytest.raises(settings.SettingsError, match=r"regression.by.typical"):
        settings.parse({"regression": {"by": {"typical": -100}}}, "test")
