"""What cannot be cut out of a checkpoint is refused before anything trains."""

import pytest

from optimize.models.encoder import StudentError
from optimize.pipeline.preflight import preflight
from optimize.settings import load

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("student.width=17", "ask for a multiple of 16 below 32"),
        ("student.width=64", "ask for a multiple of 16 below 32"),
        ("student.feed_forward=9999", "the model's layers have 64"),
        ("student.layers=7", "layers"),
    ],
)
def test_a_shape_that_is_not_there(tiny_recipe, change, told):
    settings, _ = load(str(tiny_recipe), None, [change])
    with pytest.raises(StudentError, match=told):
        preflight(settings)


def test_a_shape_that_is_there(tiny_recipe):
    changes = ["student.width=16", "student.feed_forward=32", "student.layers=1"]
    assert preflight(load(str(tiny_recipe), None, changes)[0]) is not None
    static = ["student.shape=static", "student.width=17", "student.layers=all"]
    assert preflight(load(str(tiny_recipe), None, static)[0]) is not None
