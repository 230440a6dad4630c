import math

import hypothesis.extra.numpy as arrays
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optimize.build.losses import (
    UNLABELLED,
    distillation_loss,
    pooled_loss,
    soft_target_loss,
)

logits = arrays.arrays("float32", (3, 4), elements=st.floats(-8, 8, width=32)).map(torch.from_numpy)
temperatures = st.floats(0.5, 8)


def test_equals_the_formula_by_hand():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    # T = 1: p = (3/4, 1/4), q = (1/2, 1/2); KL(p ‖ q) = 3/4·ln(3/2) + 1/4·ln(1/2)
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert soft_target_loss(student, teacher, 1.0).item() == pytest.approx(divergence, rel=1e-6)
    mixed = distillation_loss(student, teacher, torch.tensor([0]), 1.0, 0.25)
    assert mixed.item() == pytest.approx(0.25 * math.log(2) + 0.75 * divergence, rel=1e-6)


@given(logits, logits, temperatures)
def test_soft_loss_is_never_negative_and_zero_for_the_teacher(student, teacher, temperature):
    assert soft_target_loss(student, teacher, temperature).item() >= -1e-4
    assert abs(soft_target_loss(teacher, teacher, temperature).item()) < 1e-4


@given(logits, logits, st.floats(-3, 3))
def test_a_shift_of_all_logits_changes_nothing(student, teacher, shift):
    plain = soft_target_loss(student, teacher, 2.0)
    assert torch.allclose(soft_target_loss(student + shift, teacher, 2.0), plain, atol=1e-3)


def test_gradient_keeps_its_scale_with_temperature():
    """Hinton et al. 2015, section 2: T² makes up for the 1/T² of the soft targets' gradient."""
    teacher = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    norms = []
    for temperature in (50.0, 100.0):
        student = torch.zeros(8, 5, requires_grad=True)
        soft_target_loss(student, teacher, temperature).backward()
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.02)


@given(logits, logits)
def test_an_unlabelled_example_has_no_hard_loss(student, teacher):
    labels = torch.full((3,), UNLABELLED)
    assert distillation_loss(student, teacher, labels, 2.0, 1.0).item() == 0.0


@given(logits, logits)
def test_alpha_one_is_cross_entropy(student, teacher):
    labels = torch.tensor([0, 1, 3])
    expected = torch.nn.functional.cross_entropy(student, labels)
    assert torch.allclose(distillation_loss(student, teacher, labels, 2.0, 1.0), expected)


@pytest.mark.parametrize(
    ("shape", "temperature", "alpha", "words"),
    [
        ((2, 4), 1.0, 0.5, r"shape \(3, 4\), the teacher's \(2, 4\); both"),
        ((3, 4), 0.0, 0.5, "temperature is 0.0; it must be above 0"),
        ((3, 4), math.nan, 0.5, "temperature is nan"),
        ((3, 4), 1.0, 1.5, r"alpha is 1.5; it must be in \[0, 1\]"),
    ],
)
def test_refusals(shape, temperature, alpha, words):
    with pytest.raises(ValueError, match=words):
        distillation_loss(
            torch.zeros(3, 4), torch.zeros(shape), torch.tensor([0, 1, 2]), temperature, alpha
        )


@given(logits, st.floats(0.01, 100))
def test_pooled_loss_has_no_scale(teacher, scale):
    teacher = teacher + torch.tensor([10.0, 0, 0, 0])
    assert pooled_loss(teacher, teacher).item() == 0
    assert pooled_loss(torch.zeros_like(teacher), teacher).item() == pytest.approx(1, rel=1e-4)
    student = teacher * 0.5
    expected = pooled_loss(student, teacher)
    assert torch.allclose(pooled_loss(scale * student, scale * teacher), expected, rtol=1e-3)
