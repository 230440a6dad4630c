"""What an INT8 model would do without VNNI."""

import numpy as np
import pytest

from optimize import Classifier, settings
from optimize.bundle.session import session_options
from optimize.data.splits import Split
from optimize.judge.kit import read_kit
from optimize.pipeline.runner import Build, Runner
from optimize.pipeline.saturation import Guarded, overflowing_pairs
from optimize.pipeline.shape_checks import checked

pytestmark = pytest.mark.torch
ENTRY = "session.x64quantprecision"


@pytest.mark.parametrize(
    ("column", "share"),
    [
        ([127, 1, 0, 0], 0.0),
        ([127, 2, 0, 0], 0.5),  # 255 · 129 = 32,895
        ([1, 127, 127, 1], 0.0),  # neighbours of two pairs are never added
        ([-127, -2, 127, 2], 1.0),
        ([127, -127, -127, 127], 0.0),
        ([127, 127, 127], 1.0),  # the last has no neighbour
    ],
)
def test_pairs_that_could_pass_sixteen_bits(column, share):
    assert overflowing_pairs([np.array(column, np.int8)[:, None]]) == share


def test_every_pair_counts_once():
    quiet, loud = np.zeros((6, 2), np.int8), np.full((2, 2), 127, np.int8)
    assert overflowing_pairs([quiet, loud]) == 2 / 8
    assert overflowing_pairs([]) == 0


@pytest.mark.parametrize("recipe", ["ort-dynamic", "ort-static"])
def test_a_models_own_weights_are_looked_at(tiny_recipe, tiny_cache, tmp_path, recipe):
    """Per channel the largest weight is 127; static INT8 keeps its weights behind other nodes."""
    changes = [f"quantize.recipe={recipe}", "quantize.compare=none"]
    chosen, _ = settings.load(str(tiny_recipe), tmp_path, changes)
    kit = Build(chosen, Runner(lambda line: None, tiny_cache)).folder("kit")
    examples = read_kit(kit).examples("validation")
    validation = Split(examples.texts, examples.labels)
    found = checked(kit / "student-int8", kit / "student-onnx", validation)
    assert 0 < found.overflowing < 1
    assert checked(kit / "student-onnx", kit / "student-onnx", validation).overflowing == 0


def test_guarded_kernels_are_asked_for_and_say_the_same(tiny_kit):
    assert session_options(1, guarded=True).get_session_config_entry(ENTRY) == "1"
    with pytest.raises(RuntimeError):
        session_options(1, guarded=False).get_session_config_entry(ENTRY)
    texts = list(read_kit(tiny_kit).examples("validation").texts)
    bundle = tiny_kit / "student-int8"
    ours, guarded = (each(bundle).logits(texts, batch_size=1) for each in (Classifier, Guarded))
    np.testing.assert_allclose(ours, guarded, atol=1e-4)
