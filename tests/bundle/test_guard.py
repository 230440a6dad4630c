"""A stranger's bundle in a process with limits."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from optimize.bundle.classifier import AnswerError
from optimize.bundle.folder import BundleError
from optimize.bundle.guard import GuardError, guarded
from optimize.cli import main

pytestmark = pytest.mark.torch  # the models are made with the package onnx


def onnx_model(nodes, *initializers):
    """A classifier of three labels whose nodes make ``scores`` from ``input_ids``."""
    from onnx import TensorProto, helper

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "g", [ids], [scores], list(initializers))
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def endless():
    """A loop of 2⁶² rounds."""
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [
            value("round", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("x", TensorProto.FLOAT, None),
        ],
        [value("on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axes"], ["sum"], keepdims=1),
        helper.make_node("Expand", ["sum", "three"], ["start"]),
        helper.make_node("Loop", ["rounds", "true", "start"], ["scores"], body=body),
    ]
    return onnx_model(
        nodes,
        numpy_helper.from_array(np.array(2**62), "rounds"),
        numpy_helper.from_array(np.array(True), "true"),
        numpy_helper.from_array(np.array([1]), "axes"),
        numpy_helper.from_array(np.array([1, 3]), "three"),
    )


def huge():
    """A tensor of 64 GB for every text."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "axes"], ["sum"], keepdims=1),
        helper.make_node("Expand", ["sum", "shape"], ["wide"]),
        helper.make_node("Slice", ["wide", "from", "to", "axes"], ["scores"]),
    ]
    return onnx_model(
        nodes,
        numpy_helper.from_array(np.array([1]), "axes"),
        numpy_helper.from_array(np.array([1, 16 * 10**9]), "shape"),
        numpy_helper.from_array(np.array([0]), "from"),
        numpy_helper.from_array(np.array([3]), "to"),
    )


@pytest.fixture
def bundle(tiny_kit, tmp_path):
    """The tiny bundle with another model in it, its digests made anew."""

    def made(model):
        folder = shutil.copytree(tiny_kit / "student-int8", tmp_path / "bundle")
        (folder / "model.onnx").write_bytes(model)
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["model.onnx"] = {
            "size_bytes": len(model),
            "sha256": hashlib.sha256(model).hexdigest(),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return made


def test_it_answers_as_without(tiny_kit):
    from optimize import Classifier

    text = "please track my order"
    with guarded(tiny_kit / "student-int8") as guard:
        (label,), (probability,) = guard.predict(text)
        with pytest.raises(ValueError, match="half of a surrogate pair"):
            guard.predict("\ud800")
    ((expected, known),) = Classifier(tiny_kit / "student-int8", threads=1).predict([text])
    assert (label, round(probability, 4)) == (expected, round(known, 4))


def test_an_endless_loop_is_stopped(bundle):
    with (
        pytest.raises(GuardError, match=r"more than 3 s for .*: it was stopped"),
        guarded(bundle(endless()), timeout_s=3.0) as guard,
    ):
        guard.predict("refund")


def test_what_a_bundle_prints_does_not_stop_it(tiny_kit, monkeypatch):
    """Warnings of every call fill a pipe that nobody reads, and the child waits for ever."""
    import optimize.bundle.guard as module

    loud = "import os; os.write(2, b'a warning of the library\\n' * 10_000)\n"
    monkeypatch.setattr(module, "START", loud + module.START)
    with guarded(tiny_kit / "student-int8", timeout_s=20.0) as guard:
        assert guard.predict("refund")


def test_memory_has_a_limit(bundle):
    with guarded(bundle(huge())) as guard, pytest.raises((AnswerError, GuardError)):
        guard.predict("refund")


def test_what_is_no_bundle_is_refused_as_without(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"), guarded(tmp_path):
        pass


def test_the_command(bundle, tiny_kit, capsys):
    assert main(["predict", str(tiny_kit / "student-int8"), "--untrusted", "refund"]) == 0
    assert "\trefund" in capsys.readouterr().out
    assert main(["predict", "--timeout", "3", str(bundle(endless())), "refund"]) == 1
    assert "took more than 3 s" in capsys.readouterr().err


def test_a_module_in_the_folder_that_one_stands_in_does_not_run(tiny_kit, tmp_path, monkeypatch):
    """A downloaded bundle may lie beside a file that is named as one of Python's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)  # it would take the folder off anyway
    for name in ("queue.py", "numpy.py", "runpy.py"):
        (tmp_path / name).write_text("from pathlib import Path\nPath('ran').touch()\n")
    with guarded(tiny_kit / "student-int8") as guard:
        assert guard.predict("refund").labels
    assert not (tmp_path / "ran").exists()
