"""Losses, thresholds, scores and the gate, where a text may have several labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optimize.judge.gates.evidence import Evidence
from optimize.judge.gates.rules import decide_all
from optimize.judge.label_sets import NO_LABEL, LabelSets, indicators
from optimize.judge.records import Predictions, Timing, VariantFacts
from optimize.judge.statistics.label_f1 import (
    macro_f1_of_sets,
    macro_f1_sets_interval,
    micro_f1,
    micro_f1_interval,
    paired_drop,
)
from optimize.settings.load import parse

TABLES = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(2, 4)))


@given(st.lists(st.sets(st.integers(0, 3)), min_size=1))
def test_ids_of_sets_lead_back_to_the_sets(rows):
    sets = LabelSets("abcd", several=True)
    ids = sets.ids([sorted(row, reverse=True) for row in rows])
    assert [set(sets.members[each]) for each in ids] == rows
    assert len(sets.names) == len(sets.members) == len(set(map(frozenset, rows)))
    again = sets.of_names([["abcd"[label] for label in row] for row in rows])
    assert again == ids
    has = indicators(ids, sets.members, 4)
    assert [set(np.flatnonzero(row)) for row in has] == rows


def test_one_label_a_text_keeps_its_class_id():
    sets = LabelSets(("x", "y"), several=False)
    assert sets.ids([1, 0]) == sets.of_names([["y"], ["x"]]) == (1, 0)
    assert (sets.names, sets.members) == (("x", "y"), None)
    assert LabelSets("ab", several=True).ids([[]]) == (0,)
    empty = LabelSets("ab", several=True)
    empty.ids([[]])
    assert empty.names == (NO_LABEL,)


@given(TABLES, st.integers(0, 99))
def test_micro_f1_is_its_formula(truth, seed):
    answers = np.random.default_rng(seed).random(truth.shape) < 0.5
    hits = int((truth & answers).sum())
    wrong, missed = int((answers & ~truth).sum()), int((truth & ~answers).sum())
    expected = 2 * hits / (2 * hits + wrong + missed) if hits + wrong + missed else 1.0
    assert micro_f1(truth, answers) == pytest.approx(expected)
    each = []
    for label in range(truth.shape[1]):
        both = int(truth[:, label].sum() + answers[:, label].sum())
        if both:
            each.append(2 * int((truth & answers)[:, label].sum()) / both)
    assert macro_f1_of_sets(truth, answers) == pytest.approx(np.mean(each) if each else 1.0)


def table(seed, texts=300, flip=0.1):
    rng = np.random.default_rng(seed)
    truth = rng.random((texts, 3)) < 0.4
    return truth, truth ^ (rng.random(truth.shape) < flip)


def test_intervals_hold_the_estimate_and_equal_answers_have_no_drop():
    truth, answers = table(0)
    for value, interval in (
        (micro_f1(truth, answers), micro_f1_interval(truth, answers)),
        (macro_f1_of_sets(truth, answers), macro_f1_sets_interval(truth, answers)),
    ):
        assert 0 <= interval.low < value < interval.high <= 1
    same = paired_drop(truth, answers, answers)
    assert (same.drop, same.interval.low, same.interval.high, same.differing) == (0, 0, 0, 0)
    perfect = micro_f1_interval(truth, truth)
    assert perfect.low == perfect.high == 1


def test_the_interval_of_the_paired_drop_covers():
    """Of 90 % intervals some nine of ten hold the drop of the whole population."""
    rng = np.random.default_rng(5)
    size, drawn, held = 40_000, 300, 0
    truth, theirs = table(1, size, 0.08)
    ours = theirs ^ (rng.random(theirs.shape) < 0.03)
    real = micro_f1(truth, theirs) - micro_f1(truth, ours)
    for run in range(40):
        rows = rng.integers(size, size=drawn)
        found = paired_drop(truth[rows], theirs[rows], ours[rows], seed=run).interval
        held += found.low <= real <= found.high
    assert 31 <= held <= 40


def test_the_interval_is_scipys():
    """Its own BCa, of other random samples, over rows."""
    from scipy.stats import bootstrap

    truth, answers = table(3, 200, 0.15)
    rows = np.arange(len(truth))
    ends = bootstrap(
        (rows,),
        lambda drawn: micro_f1(truth[drawn], answers[drawn]),
        vectorized=False,
        n_resamples=2000,
        confidence_level=0.9,
        method="BCa",
        random_state=0,
    ).confidence_interval
    found = micro_f1_interval(truth, answers, 0.9)
    assert found.low == pytest.approx(ends.low, abs=0.004)
    assert found.high == pytest.approx(ends.high, abs=0.004)


N = 400
GATE = {
    "kind": "accuracy", "candidate": "student-int8", "reference": "teacher-torch", "max_drop_pp": 3
}  # fmt: skip


def verdict_of(lost, texts=N, without=0):
    """The gate where so many texts lose one of their two labels; others have no label at all."""
    sets = LabelSets("abc", several=True)
    truth = sets.ids([(0, 1)] * texts + [()] * without)
    ours = sets.ids([(0,)] * lost + [(0, 1)] * (texts - lost) + [()] * without)
    sure = (1.0,) * (texts + without)
    timing = Timing(
        series={}, batch_sizes={}, startup_s={}, peak_rss_bytes={}, replicates=1,
        dropped_blocks=0, seconds=1.0,
    )  # fmt: skip
    names = ("teacher-torch", "student-int8")
    evidence = Evidence(
        variants={
            name: VariantFacts(size_bytes=1, parameters=1, model_sha256="") for name in names
        },
        timing=timing,
        controls={},
        predictions={
            "teacher-torch": Predictions(labels=truth, confidences=sure),
            "student-int8": Predictions(labels=ours, confidences=sure),
        },
        labels=np.array(truth),
        isa="other",
        mode="full",
        members=sets.members,
        classes=3,
    )
    chosen = parse({"judge": {"variants": names}, "gates": {"acc": GATE}}, "test")
    (result,) = decide_all(chosen.active_gates, evidence, ())
    return result


def test_the_gate_on_micro_f1_breaks_where_labels_are_lost():
    assert verdict_of(0).verdict == "pass"
    assert verdict_of(20).verdict == "pass"
    undecided = verdict_of(42)
    assert (undecided.verdict, "more examples" in undecided.remedy) == ("inconclusive", True)
    failed = verdict_of(60)
    assert (failed.verdict, failed.measured[:5]) == ("fail", "drop ")
    assert failed.value == pytest.approx(100 * (1 - 2 * 740 / (740 + 800)))


def test_few_texts_that_are_all_answered_alike_prove_nothing():
    assert verdict_of(0, texts=98).verdict == "inconclusive"
    assert verdict_of(0, texts=99).verdict == "pass"
    # F1 is of the texts with labels alone, however many others there are.
    few = verdict_of(0, texts=40, without=600)
    assert (few.verdict, few.reason[-14:]) == ("inconclusive", "40 have labels")
    assert verdict_of(0, texts=60, without=600).verdict == "pass"


@pytest.mark.torch
class TestLosses:
    def test_labels_alone(self):
        import torch
        from torch.nn import functional

        from optimize.data.splits import UNLABELLED
        from optimize.training.cross_entropy import hard_label_loss

        logits, labels = torch.randn(5, 3), torch.randint(0, 2, (5, 3))
        expected = 3 * functional.binary_cross_entropy_with_logits(logits, labels.float())
        assert torch.allclose(hard_label_loss(logits, labels), expected)
        more = torch.cat([labels, torch.full((5, 3), UNLABELLED)])
        halved = hard_label_loss(torch.cat([logits, torch.randn(5, 3)]), more)
        assert torch.allclose(halved, expected / 2)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    def test_soft_targets(self, temperature):
        import torch
        from torch.distributions import Bernoulli, kl_divergence

        from optimize.distill.losses import binary_soft_target_loss

        ours, theirs = torch.randn(6, 4), torch.randn(6, 4)
        expected = (
            kl_divergence(
                Bernoulli(logits=theirs / temperature), Bernoulli(logits=ours / temperature)
            )
            .sum(dim=1)
            .mean()
        )
        found = binary_soft_target_loss(ours, theirs, temperature)
        assert torch.allclose(found, expected * temperature**2, atol=1e-5)
        assert binary_soft_target_loss(theirs, theirs, temperature).abs() < 1e-6

    def test_metrics(self):
        from optimize.training.evaluation import metric_of, score_of

        logits = np.array([[2.0, -1], [-1, 3], [-2, -2]], dtype=np.float32)
        labels = np.array([[1, 1], [0, 1], [0, 0]])
        assert score_of(logits, labels) == {"micro_f1": pytest.approx(6 / 7)}  # all above -1.5
        assert score_of(logits, 0 * labels) == {"micro_f1": 0.0}
        assert metric_of(labels) == "micro_f1"
        assert score_of(logits, np.array([0, 1, 1])) == {"accuracy": pytest.approx(2 / 3)}


@pytest.mark.torch
class TestThresholds:
    @given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=1, max_size=20))
    def test_no_other_threshold_has_a_better_f1(self, rows):
        from optimize.training.thresholds import best_threshold

        probabilities = np.array([value / 20 for value, _ in rows])
        has = np.array([int(each) for _, each in rows])

        def f1(threshold):
            given = probabilities > threshold
            times = given.sum() + has.sum()
            return 2 * (given & (has == 1)).sum() / times if times else 1.0

        found = best_threshold(probabilities, has)
        assert 0 <= found <= 1
        if has.any():
            # Below the least probability too: but 0 itself is never above a threshold of 0.
            tried = [f1(value) for value in np.linspace(0, 1, 41)]
            assert f1(found) >= max(tried) - 1e-12

    def test_rare_labels_share_a_threshold_and_the_temperature_is_found(self):
        from optimize.quantize.calibrate import fit_several
        from optimize.training.thresholds import LEAST_POSITIVES

        rng = np.random.default_rng(0)
        logits = (rng.normal(size=(4000, 3)) * 3).astype(np.float32)
        logits[:, 2] -= 12
        labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits / 2))).astype(np.int64)
        labels[LEAST_POSITIVES - 1 :, 2] = 0
        labels[: LEAST_POSITIVES - 1, 2] = 1
        found = fit_several(logits[:, :2], labels[:, :2], temperature=True)
        assert found.temperature == pytest.approx(2.0, rel=0.1)
        three = fit_several(logits, labels, temperature=False)
        assert three.temperature == 1.0
        assert len(set(three.thresholds)) == 3
