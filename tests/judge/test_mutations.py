"""Real workers, made worse on purpose: no mutation may pass."""

import dataclasses
import json
import math
import shutil
import sys

import msgspec
import pytest
from two_runs import FEW_BLOCKS

from optimize import settings
from optimize.bundle.manifest import FileEntry
from optimize.judge import run as measure
from optimize.judge.held_against import HeldAgainst
from optimize.judge.kit import read_kit
from optimize.judge.run import judge
from optimize.judge.workers.process import WorkerError, WorkerSpec

MUTANT = """
import sys
import optimize.judge.workers.worker as worker
{body}
worker.main()
"""
EVERY_TENTH_CALL_DOUBLED = """
import time
predict_proba = worker.Classifier.predict_proba
count = 0
def slower(self, texts, *, batch_size):
    global count
    count += 1
    start = time.perf_counter_ns()
    answer = predict_proba(self, texts, batch_size=batch_size)
    end = time.perf_counter_ns()
    if count % 10 == 0:
        while time.perf_counter_ns() - end < end - start:
            pass
    return answer
worker.Classifier.predict_proba = slower
"""
WRONG_ANSWERS = """
answer = worker.Worker._predict
def wrong(self, texts, batch_size):
    found = answer(self, texts, batch_size)
    found["labels"][:{count}] = [(label + 1) % 3 for label in found["labels"][:{count}]]
    return found
worker.Worker._predict = wrong
"""
NAN_TIME = """
worker.Worker._block = lambda self, name, offset, rows, calls: {"ns": [float("nan")] * calls}
"""


def judged(kit, mode="quick", against=None, **change):
    plain = settings.parse(FEW_BLOCKS | change, "test")
    stored = against is not None and against.report is not None
    chosen = settings.against_baseline(plain, stored=stored) if against else plain
    return judge(kit, chosen, "test", mode, lambda line: None, against)


def paired(kit):
    return kit.with_bundle(kit.variants["student-int8"].folder, "baseline"), HeldAgainst("the same")


def verdicts(report):
    return {result.name: result.verdict for result in report.gates}


@pytest.fixture
def mutate(monkeypatch):
    """Run one variant's workers with changed code."""

    def go(body, variant="student-int8"):
        command = (sys.executable, "-c", MUTANT.replace("{body}", body))

        def spec(name, folder, threads, **more):
            plain = WorkerSpec(name, folder, threads, **more)
            return dataclasses.replace(plain, command=command) if name == variant else plain

        monkeypatch.setattr(measure, "WorkerSpec", spec)

    return go


def test_lost_answers_never_pass(tiny_kit, mutate):
    kit, against = paired(read_kit(tiny_kit))
    lost = math.ceil(0.3 * 24)
    mutate(WRONG_ANSWERS.format(count=lost))
    report = judged(kit, against=against, regression={"max_drop_pp": 30.0})
    assert verdicts(report)["regression-accuracy"] == "fail"
    assert len(report.baseline.changes) == lost
    assert report.baseline.changes[0].text in kit.examples("test").texts


def test_padded_bytes_fail(tiny_kit, tmp_path):
    kit = read_kit(tiny_kit)
    copy = shutil.copytree(tiny_kit / "student-int8", tmp_path / "bundle")
    path = copy / "tokenizer.json"
    size = kit.variants["student-int8"].facts.size_bytes
    content = path.read_bytes() + b" " * math.ceil(0.02 * size + 1)
    path.unlink()
    path.write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["tokenizer.json"] = msgspec.to_builtins(FileEntry.of(path))
    (copy / "manifest.json").unlink()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    kit, against = paired(kit)
    report = judged(kit.with_bundle(copy, "student-int8"), against=against)
    assert verdicts(report)["regression-size"] == "fail"


@pytest.fixture(scope="module")
def stored(tiny_kit):
    return judged(read_kit(tiny_kit))


def against(stored, tiny_kit):
    return judged(read_kit(tiny_kit), against=HeldAgainst("stored", stored))


def test_deleted_baseline_row_fails(stored, tiny_kit):
    report = against(stored.model_copy(update={"gates": ()}), tiny_kit)
    assert verdicts(report)["regression-entries"] == "fail"


def test_changed_fingerprint_decides_no_time(stored, tiny_kit):
    other = stored.fingerprint.model_copy(update={"cpu": "another"})
    found = verdicts(against(stored.model_copy(update={"fingerprint": other}), tiny_kit))
    for gate in ("regression-speed[typical]", "regression-startup", "regression-memory"):
        assert found[gate] == "inconclusive"
    assert found["regression-entries"] == found["regression-size"] == "pass"


def test_other_texts_are_no_baseline(stored, tiny_kit):
    found = verdicts(against(stored.model_copy(update={"data_digest": "0" * 64}), tiny_kit))
    assert found["regression-accuracy"] == found["regression-speed[typical]"] == "fail"


def test_nan_in_a_measurement_is_no_pass(tiny_kit, mutate):
    kit, against = paired(read_kit(tiny_kit))
    mutate(NAN_TIME)
    with pytest.raises(WorkerError, match="its answer to 'block' is none"):
        judged(kit, against=against)


@pytest.mark.slow
def test_every_tenth_call_doubled_never_passes(tiny_kit, mutate):
    """Exactly +10 % time against a limit of +5 %, by the full sequential rule."""
    kit, against = paired(read_kit(tiny_kit))
    mutate(EVERY_TENTH_CALL_DOUBLED)
    judge_table = FEW_BLOCKS["judge"] | {"blocks": 8, "block_ms": 10.0}
    report = judged(kit, "full", against, judge=judge_table)
    assert verdicts(report)["regression-speed[typical]"] != "pass"
