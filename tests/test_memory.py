"""Memory that runs out names the stage and what to lower; other errors stay what they are."""

import pytest

from optimize.memory import OutOfMemoryError, remedy, told_when_out

TORCH = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError(TORCH), OSError(12, "Cannot allocate memory")]
)
def test_every_library_says_it_in_its_own_way(error):
    words = r"in the stage student .*distill\.batch_size"
    with pytest.raises(OutOfMemoryError, match=words), told_when_out("student"):
        raise error


@pytest.mark.parametrize(
    ("stage", "setting"),
    [
        ("teacher", "teacher.batch_size"),
        ("teacher-fold-1", "teacher.batch_size"),
        ("teacher-outputs", "distill.augment"),
        ("transfer-set", "distill.transfer"),
        ("student-undistilled", "distill.batch_size"),
        ("kit", "smaller model"),
    ],
)
def test_each_stage_has_settings_of_its_own(stage, setting):
    assert setting in remedy(stage)


def test_another_error_stays_what_it_is():
    with pytest.raises(ValueError, match="not that"), told_when_out("teacher"):
        raise ValueError("not that")


def test_before_the_first_stage_and_only_once():
    with pytest.raises(OutOfMemoryError, match="outside of the stages"), told_when_out():
        raise MemoryError
    words = "in the stage teacher"
    with pytest.raises(OutOfMemoryError, match=words), told_when_out(), told_when_out("teacher"):
        raise MemoryError
