"""The worker's protocol, and what its parent says when it goes wrong."""

import signal
import sys
import time

import numpy as np
import pytest

from optimize import Classifier
from optimize.judge.answers import predict
from optimize.judge.kit import read_kit
from optimize.judge.workers import process
from optimize.judge.workers.process import WorkerError, WorkerProcess, WorkerSpec
from optimize.judge.workers.worker import PROTOCOL

TEXTS = ["please track my order", "refund", "cancel the thing now"]


def started(folder, code=None, threads=1):
    spec = WorkerSpec("w", folder, threads)
    if code is not None:
        spec = WorkerSpec("w", folder, threads, (sys.executable, "-c", code))
    return WorkerProcess(spec, TEXTS[0])


@pytest.mark.parametrize(
    "variant", ["student-int8", pytest.param("student-torch", marks=pytest.mark.torch)]
)
def test_worker_answers_as_the_model(tiny_kit, variant):
    with started(tiny_kit / variant) as worker:
        answers = predict(worker, TEXTS, 1)
        assert worker.about["protocol"] == PROTOCOL
        assert worker.ask("memory")["peak_rss_bytes"] > 10 << 20
        assert ("torch" in worker.about) == (variant == "student-torch")
    reference = Classifier(tiny_kit / variant.replace("torch", "onnx"), threads=1)
    expected = reference.predict_proba(TEXTS, batch_size=1)
    assert list(answers.labels) == expected.argmax(1).tolist()
    np.testing.assert_allclose(answers.confidences, expected.max(1), atol=1e-4)


def test_a_block_has_a_duration_for_each_call(tiny_kit):
    with started(tiny_kit / "student-int8") as worker:
        worker.ask("workload", name="w", batches=[[TEXTS[0]], [TEXTS[1]]])
        assert worker.ask("warm", name="w", seconds=0.01)["mean_s"] > 0
        taken = worker.ask("block", name="w", offset=1, rows=2, calls=5)["ns"]
    assert len(taken) == 5
    assert all(duration > 0 for duration in taken)


def test_what_a_library_prints_does_not_break_the_protocol(tiny_kit):
    code = """
import optimize.judge.workers.worker as w
load = w.load
def loud(*arguments):
    print("hello from a library")
    return load(*arguments)
w.load = loud
w.main()
"""
    with started(tiny_kit / "student-int8", code) as worker:
        assert predict(worker, TEXTS, 2).labels


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "it ended"),
        ("import os; os._exit(1)", "it ended"),
        ("import sys; sys.stderr.write('no such kernel'); raise SystemExit(1)", "no such kernel"),
        ("print('{\"protocol\": 99}', flush=True); input()", "speaks protocol 99, this judge 2"),
        ('print(\'{"error": "MemoryError: "}\', flush=True); input()', "MemoryError"),
    ],
)
def test_a_worker_that_does_not_start_says_why(tiny_kit, code, words):
    with pytest.raises(WorkerError, match=words):
        started(tiny_kit / "student-int8", code)


def test_a_worker_that_hangs_is_given_up(tiny_kit, monkeypatch):
    monkeypatch.setattr(process, "ANSWER_TIMEOUT_S", 0.5)
    with pytest.raises(WorkerError, match=r"no answer in 0\.5 s"):
        started(tiny_kit / "student-int8", "import time; time.sleep(60)")


def test_a_broken_bundle_is_named(tiny_kit, tmp_path):
    import shutil

    copy = shutil.copytree(tiny_kit / "student-int8", tmp_path / "bundle")
    (copy / "model.onnx").unlink()
    (copy / "model.onnx").write_bytes(b"0")
    with pytest.raises(WorkerError, match=r"worker w .*BundleError.*model\.onnx"):
        started(copy)


def test_unknown_variants_of_a_request_end_the_worker(tiny_kit):
    with (
        started(tiny_kit / "student-int8") as worker,
        pytest.raises(WorkerError, match="AttributeError"),
    ):
        worker.ask("no_such_thing")


def test_a_probability_that_is_not_finite_is_an_error(tiny_kit):
    code = """
import numpy, optimize.judge.workers.worker as w
w.Classifier.predict_proba = lambda self, texts, batch_size: numpy.full((len(texts), 3), numpy.nan)
w.main()
"""
    with (
        started(tiny_kit / "student-int8", code) as worker,
        pytest.raises(WorkerError, match="not finite; the model is broken"),
    ):
        predict(worker, TEXTS, 1)


def test_the_examples_of_a_kit_are_as_long_as_their_labels(tiny_kit):
    examples = read_kit(tiny_kit).examples("validation")
    assert len(examples.texts) == len(examples.labels)


READY = 'import json, sys\nsys.stdin.readline()\nprint(json.dumps({"protocol": 2}), flush=True)\n'


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('Segmentation fault (core dumped)', flush=True)", r"which is no JSON"),
        ("print('[1, 2]', flush=True)", "which is no JSON object"),
        ("print('{' * 100_000, flush=True)", r"it answered b'\{\{\{.*, which is no JSON"),
        ("sys.stdout.write('x' * 3_000_000); sys.stdout.flush(); input()", "has no end after"),
        ("sys.stdout.write('{}'); sys.stdout.flush()", "it ended without an answer"),
        ("raise SystemExit(3)", "it ended"),
    ],
)
def test_a_worker_that_babbles_is_told_by_name(tiny_kit, monkeypatch, code, words):
    monkeypatch.setattr(process, "ANSWER_TIMEOUT_S", 20.0)
    monkeypatch.setattr(process, "LARGEST_ANSWER", 1_000_000)
    with started(tiny_kit / "student-int8", f"{READY}sys.stdin.readline()\n{code}\n") as worker:
        with pytest.raises(WorkerError, match=words) as raised:
            worker.ask("predict")
        assert str(raised.value).startswith("worker w (")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no such signal")
def test_a_worker_that_the_system_ends_says_how(tiny_kit):
    """The kernel kills what takes the most memory, and the child can say nothing any more."""
    end = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    told = {
        end: "killed by signal 9, as where memory runs out: End",
        "sys.exit(3)\n": "exit code 3",
    }
    for code, words in told.items():
        with (
            started(tiny_kit / "student-int8", f"{READY}sys.stdin.readline()\n{code}") as worker,
            pytest.raises(WorkerError, match=words),
        ):
            worker.ask("predict")


def test_a_line_that_never_ends_is_given_up_in_time(tiny_kit, monkeypatch):
    """An answer that keeps coming does not put the deadline off."""
    drip = "import time\nwhile True: sys.stdout.write('x'); sys.stdout.flush(); time.sleep(0.01)\n"
    with started(tiny_kit / "student-int8", READY + drip) as worker:
        monkeypatch.setattr(process, "ANSWER_TIMEOUT_S", 0.5)
        with pytest.raises(WorkerError, match=r"no (whole )?answer in 0\.5 s"):
            worker.ask("predict")


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no job control here")
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_stopped_worker_is_given_up(tiny_kit, monkeypatch, size):
    """Also where the request is larger than a pipe holds, which would wait for ever."""
    with started(tiny_kit / "student-int8") as worker:
        monkeypatch.setattr(process, "ANSWER_TIMEOUT_S", 0.5)
        worker._process.send_signal(signal.SIGSTOP)
        words = r"no answer in 0\.5 s" if size < 1000 else r"it took no request in 0\.5 s"
        with pytest.raises(WorkerError, match=words):
            worker.ask("predict", texts=["x" * size], batch_size=1)


def test_a_request_larger_than_a_pipe_is_answered(tiny_kit):
    with started(tiny_kit / "student-int8") as worker:
        assert len(predict(worker, ["track my order" * 20] * 1000, 32).labels) == 1000


def test_texts_of_a_split_are_asked_in_parts(tiny_kit, monkeypatch):
    texts = [f"track my order {number}" for number in range(300)]
    sizes = []

    class Counting:
        def __init__(self, worker):
            self.worker, self.spec = worker, worker.spec

        def ask(self, op, **given):
            sizes.append(len(given["texts"]))
            return self.worker.ask(op, **given)

    with started(tiny_kit / "student-int8") as worker:
        asked = Counting(worker)
        whole = predict(asked, texts, 1)
        assert sizes == [32, 64, 128, 76]
        sizes.clear()
        # Where they take long, a request has no more of them than before, and then fewer.
        monkeypatch.setattr("optimize.judge.answers.SHORT_S", 0.0)
        assert predict(asked, texts, 1) == whole
        assert sizes == [32] * 9 + [12]


def test_a_worker_sleeps_before_the_next_is_asked(tiny_kit):
    spinning = "import time\nend = time.time() + 0.3\nwhile time.time() < end: pass\ninput()\n"
    with started(tiny_kit / "student-int8", READY + spinning) as worker:
        begun = time.monotonic()
        worker.settle()
        assert time.monotonic() - begun > 0.1
        begun = time.monotonic()
        worker.settle()
        assert time.monotonic() - begun < 0.1
