"""The reference project's way, through optimum, where that is installed."""

from importlib import metadata

import onnx
import pytest

from optimize import settings
from optimize.bundle.folder import read_manifest
from optimize.judge.kit import read_kit
from optimize.pipeline.graph import StageError, can_quantize
from optimize.pipeline.runner import Build, Runner, build
from optimize.settings.judging import COMPARED

needs_optimum = pytest.mark.skipif(
    not can_quantize("optimum-dynamic"), reason="the extra `optimum` is not installed"
)


@needs_optimum
def test_optimum_dynamic_keeps_one_scale_per_tensor(tiny_kit):
    graph = onnx.load(str(tiny_kit / COMPARED / "model.onnx")).graph
    scales = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name.endswith("_scale")
    ]
    assert scales
    assert {scale.size for scale in scales} == {1}


@needs_optimum
def test_manifest_says_who_exported(tiny_kit):
    exporters = {
        name: read_manifest(tiny_kit / name).recipe["export"]["exporter"]
        for name in ("student-int8", COMPARED)
    }
    assert exporters == {
        "student-int8": "torch.onnx.export(dynamo=False)",
        COMPARED: "optimum",
    }


@pytest.fixture
def without_optimum(monkeypatch, tmp_path):
    """It was taken away, and pip has left empty folders of it."""
    real = metadata.version

    def version(name):
        if name == "optimum-onnx":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    (tmp_path / "left" / "optimum" / "exporters").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "left"))
    monkeypatch.setattr(metadata, "version", version)


def test_without_optimum_the_row_is_left_out_and_said_so(
    without_optimum, tiny_recipe, tiny_cache, tiny_kit
):
    told = []
    chosen, _ = settings.load(str(tiny_recipe), None, ["judge.blocks=25"])  # another kit
    kit = build(chosen, told.append, tiny_cache)
    assert COMPARED not in read_kit(kit).variants
    assert told[0].startswith(f"{COMPARED}: left out, since optimum is not installed")


def test_without_optimum_its_recipe_is_refused(without_optimum, tiny_recipe, tmp_path):
    asked = ["quantize.recipe=optimum-dynamic"]
    chosen, _ = settings.load(str(tiny_recipe), None, asked)
    with pytest.raises(StageError, match=r"needs optimum, which is not installed: `pip install"):
        _ = Build(chosen, Runner(print, tmp_path)).stages
