import math

import hypothesis.extra.numpy as arrays
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optimize.data.splits import UNLABELLED
from optimize.distill.losses import (
    cosine_loss,
    decoupled_loss,
    distillation_loss,
    hidden_loss,
    logit_loss,
    pooled_loss,
    relation_loss,
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


def test_decoupled_parts_make_up_kl():
    """Zhao et al. 2022, equation 5, at T = 1: KL of the target + (1 − p) · KL of the others."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 1, 5, generator=generator)
    target = teacher.argmax(dim=-1)
    certainty = teacher.softmax(dim=-1)[0, target].item()
    whole = soft_target_loss(student, teacher, 1.0)
    assert torch.allclose(decoupled_loss(student, teacher, 1.0, 1 - certainty), whole, atol=1e-6)


@given(logits, logits, temperatures)
def test_decoupled_loss_is_zero_for_the_teacher_and_never_negative(student, teacher, temperature):
    assert decoupled_loss(student, teacher, temperature, 8.0).item() >= -1e-4
    assert abs(decoupled_loss(teacher, teacher, temperature, 8.0).item()) < 1e-4


@given(logits, logits, st.floats(-3, 3))
def test_logit_loss_does_not_see_a_shift(student, teacher, shift):
    plain = logit_loss(student, teacher)
    assert torch.allclose(logit_loss(student + shift, teacher), plain, atol=1e-3)
    assert logit_loss(teacher, teacher).item() == 0


def test_where_each_logit_is_read_alone_a_shift_is_an_error():
    """As where a text may have several labels: a shift moves every probability."""
    student, teacher = torch.tensor([[3.0, 1.0]]), torch.tensor([[7.0, 5.0]])
    assert logit_loss(student, teacher).item() == 0
    assert logit_loss(student, teacher, centred=False).item() == 16


def test_logit_loss_by_hand():
    # centred: (1, −1) against (0, 0)
    assert logit_loss(torch.tensor([[3.0, 1.0]]), torch.tensor([[5.0, 5.0]])).item() == 1


@pytest.mark.parametrize(("other", "expected"), [((1, 1), 0), ((-3, -3), 2), ((1, -1), 1)])
def test_cosine_loss_by_hand(other, expected):
    found = cosine_loss(torch.tensor([other], dtype=torch.float32), torch.tensor([[2.0, 2.0]]))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def states(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_hidden_loss_is_the_mean_of_layers_and_does_not_see_padding():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    teacher = [states(2, 3, 4, seed=1), states(2, 3, 4, seed=2)]
    zeros = [torch.zeros(2, 3, 4)] * 2
    assert hidden_loss(teacher, teacher, mask).item() == 0
    assert hidden_loss(zeros, teacher, mask).item() == pytest.approx(1, rel=1e-5)
    assert hidden_loss([teacher[0], zeros[1]], teacher, mask).item() == pytest.approx(0.5, rel=1e-5)
    padded = [layer.clone() for layer in teacher]
    padded[0][0, 2] = 99
    assert hidden_loss(padded, teacher, mask).item() == 0
    with pytest.raises(ValueError, match="1 layers of the student stand for 2"):
        hidden_loss(teacher[:1], teacher, mask)


def test_relations_need_no_equal_width_and_do_not_see_padding():
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    teacher = [states(2, 3, 8, seed=kind) for kind in range(3)]
    assert relation_loss(teacher, teacher, mask, 2).item() == pytest.approx(0, abs=1e-6)
    # Twice the width at 1/2^(1/4) of the size: the same products over √d, the same relations.
    wide = [torch.cat([kind, kind], dim=-1) * 2**-0.25 for kind in teacher]
    regrouped = [kind.view(2, 3, 2, 2, 4).transpose(2, 3).reshape(2, 3, 16) for kind in wide]
    assert relation_loss(regrouped, teacher, mask, 2).item() == pytest.approx(0, abs=1e-5)
    other = [states(2, 3, 8, seed=9 + kind) for kind in range(3)]
    plain = relation_loss(other, teacher, mask, 2).item()
    assert plain > 0.01
    for kind in other:
        kind[0, 2] = 99
    assert relation_loss(other, teacher, mask, 2).item() == pytest.approx(plain, rel=1e-5)
    with pytest.raises(ValueError, match=r"set distill\.relation_heads"):
        relation_loss(teacher, teacher, mask, 3)


@pytest.mark.parametrize("loss", ["logits", "pooled", "cosine", "hidden", "relations", "decoupled"])
def test_each_loss_leads_downhill(loss):
    """Gradient descent on it brings the student to the teacher."""
    mask = torch.ones(4, 3, dtype=torch.int64)
    teacher = states(4, 3, 8, seed=1)
    student = states(4, 3, 8, seed=2).requires_grad_()
    flat = slice(None), 0
    losses = {
        "logits": lambda: logit_loss(student[flat], teacher[flat]),
        "pooled": lambda: pooled_loss(student[flat], teacher[flat]),
        "cosine": lambda: cosine_loss(student[flat], teacher[flat]),
        "hidden": lambda: hidden_loss([student], [teacher], mask),
        "relations": lambda: relation_loss([student] * 3, [teacher] * 3, mask, 2),
        "decoupled": lambda: decoupled_loss(student[flat], teacher[flat], 2.0, 4.0),
    }
    optimizer = torch.optim.Adam([student], lr=0.05)
    first = losses[loss]().item()
    for _ in range(200):
        optimizer.zero_grad()
        losses[loss]().backward()
        optimizer.step()
    assert losses[loss]().item() < 0.05 * first
