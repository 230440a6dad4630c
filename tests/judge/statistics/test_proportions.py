"""Paired proportions, and intervals for single figures."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optimize.judge.statistics.proportions import (
    Z_95,
    examples_needed,
    expected_calibration_error,
    macro_f1,
    macro_f1_interval,
    tango_interval,
    tango_noninferior,
    tango_z,
    wilson_interval,
)

unhurried = settings(deadline=None)  # the first call imports scipy, and machines are shared


@st.composite
def paired_counts(draw, least=1):
    n = draw(st.integers(least, 2000))
    b = draw(st.integers(0, n))
    return b, draw(st.integers(0, n - b)), n


class TestTango:
    def test_airway_hyper_responsiveness(self):
        """Fagerland, Lydersen & Laake (Statistics in Medicine 33, 2014), table V.

        Data of Bentur et al. (2009): 1 and 7 discordant pairs of 21. Tango's score interval is
        printed as (-0.517, -0.026).
        """
        assert tango_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)

    def test_off_diagonal_zero(self):
        # With b = c = 0 the formula is Z^2 = n d / (1 - d), so that the ends are z^2 / (n + z^2).
        z = 1.959963984540054
        end = z**2 / (50 + z**2)
        assert tango_interval(0, 0, 50) == pytest.approx((-end, end), abs=1e-9)

    def test_formula_by_hand(self):
        # A = 2000, B = -30 + 2000 * 0.01 = -10, C = -15 * 0.0099 = -0.1485.
        q = (math.sqrt(100 + 4 * 2000 * 0.1485) + 10) / 4000
        expected = -10 / math.sqrt(1000 * (2 * q + 0.0099))
        assert tango_z(15, 15, 1000, 0.01) == pytest.approx(expected)

    @unhurried
    @given(paired_counts())
    def test_is_mcnemar_at_margin_zero(self, counts):
        b, c, n = counts
        expected = (b - c) / math.sqrt(b + c) if b + c else 0.0
        assert tango_z(b, c, n, 0.0) == pytest.approx(expected)

    @unhurried
    @given(paired_counts(), st.floats(1e-6, 0.99))
    def test_exchanging_the_roles_changes_the_sign(self, counts, margin):
        b, c, n = counts
        assert tango_z(b, c, n, margin) == pytest.approx(-tango_z(c, b, n, -margin), abs=1e-6)

    @unhurried
    @given(paired_counts(least=2), st.floats(0.001, 0.5))
    def test_more_drop_never_turns_fail_into_pass(self, counts, margin):
        b, c, n = counts
        passes = tango_noninferior(b, c, n, margin)
        if b + c < n:
            assert tango_noninferior(b + 1, c, n, margin) <= passes
        if c > 0:
            assert tango_noninferior(b, c - 1, n, margin) <= passes
            assert tango_noninferior(b + 1, c - 1, n, margin) <= passes

    @unhurried
    @given(paired_counts(), st.floats(0.001, 0.5))
    def test_a_drop_at_the_margin_never_passes(self, counts, margin):
        b, c, n = counts
        assume(b - c >= margin * n)
        assert not tango_noninferior(b, c, n, margin)

    @unhurried
    @given(paired_counts(), st.floats(0.5, 0.99))
    def test_interval_holds_the_drop_and_ends_where_z_does(self, counts, level):
        b, c, n = counts
        low, high = tango_interval(b, c, n, level)
        assert -1 <= low <= (b - c) / n <= high <= 1
        narrow = tango_interval(b, c, n, level / 2)
        assert low <= narrow.low <= narrow.high <= high

    def test_interval_and_test_agree(self):
        high = tango_interval(20, 10, 2000, 0.90).high
        assert tango_z(20, 10, 2000, high) == pytest.approx(-Z_95)
        assert tango_noninferior(20, 10, 2000, high + 1e-6)
        assert not tango_noninferior(20, 10, 2000, high - 1e-6)

    def test_every_pair_disagrees(self):
        assert tango_interval(5, 0, 5).high == 1
        assert tango_interval(0, 5, 5).low == -1

    @pytest.mark.parametrize(("b", "c", "n"), [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (0, 0, 0)])
    def test_refuses_impossible_counts(self, b, c, n):
        with pytest.raises(ValueError, match="do not fit"):
            tango_z(b, c, n, 0.01)
        with pytest.raises(ValueError, match="do not fit"):
            tango_interval(b, c, n)

    @pytest.mark.parametrize("margin", [0.0, 1.0, -0.01, math.nan])
    def test_refuses_a_margin(self, margin):
        with pytest.raises(ValueError, match="margin"):
            tango_noninferior(0, 0, 1000, margin)


class TestExamplesNeeded:
    def test_299_without_disagreement(self):
        """The rule of three: 0.99^299 is the first power below 5 %."""
        assert examples_needed(0.01, 0.0) == 299
        assert tango_noninferior(0, 0, 299, 0.01)
        assert not tango_noninferior(0, 0, 298, 0.01)

    @pytest.mark.parametrize(("share", "examples"), [(0.02, 649), (0.03, 889), (0.05, 1400)])
    def test_figures_of_one_percentage_point(self, share, examples):
        assert examples_needed(0.01, share) == examples

    def test_is_the_smallest_that_passes(self):
        # 5 % disagreement of 1400 are 35 each; of 1360, 34 each.
        assert tango_noninferior(35, 35, 1400, 0.01)
        assert not tango_noninferior(34, 34, 1360, 0.01)

    def test_none_when_the_drop_reaches_the_margin(self):
        assert examples_needed(0.01, 0.05, 0.01) is None
        assert examples_needed(0.01, 0.05, 0.0099) is not None

    @unhurried
    @given(st.floats(0.001, 0.2), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 1))
    def test_a_larger_drop_needs_more(self, margin, share, part, other):
        less, more = sorted((part * share, other * share))
        few, many = examples_needed(margin, share, less), examples_needed(margin, share, more)
        assert many is None or (few is not None and few <= many)

    def test_refuses_a_drop_above_the_disagreement(self):
        with pytest.raises(ValueError, match="does not fit"):
            examples_needed(0.01, 0.02, 0.03)


class TestWilson:
    def test_newcombe_1998(self):
        """Newcombe (Statistics in Medicine 17, 1998), table I: 81 of 263, and 0 of 20."""
        assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
        assert wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)

    @unhurried
    @given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_within_bounds_and_mirrored(self, counts):
        successes, n = counts
        low, high = wilson_interval(successes, n)
        assert 0 <= low <= successes / n <= high <= 1
        mirrored = wilson_interval(n - successes, n)
        assert mirrored == pytest.approx((1 - high, 1 - low))

    @pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
    def test_refuses_impossible_counts(self, successes, n):
        with pytest.raises(ValueError, match="do not fit"):
            wilson_interval(successes, n)


class TestMacroF1:
    def test_by_hand(self):
        # F1: class 0 2/3, class 1 4/5; class 2 does not occur.
        assert macro_f1([0, 0, 1, 1], [0, 1, 1, 1], 3) == pytest.approx((2 / 3 + 4 / 5) / 2)

    def test_a_class_that_is_only_predicted_counts(self):
        assert macro_f1([0, 0], [0, 1], 2) == pytest.approx((2 / 3 + 0) / 2)

    @unhurried
    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1), st.randoms())
    def test_order_does_not_matter(self, pairs, random):
        def score(rows):
            return macro_f1(*np.array(rows).T, 5)

        assert score(random.sample(pairs, len(pairs))) == pytest.approx(score(pairs))

    def test_interval_holds_the_estimate_and_is_seeded(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 5, 300)
        predictions = np.where(rng.random(300) < 0.9, labels, rng.integers(0, 5, 300))
        interval = macro_f1_interval(labels, predictions, 5)
        assert interval.low < macro_f1(labels, predictions, 5) < interval.high
        assert interval.high - interval.low < 0.1
        assert interval == macro_f1_interval(labels, predictions, 5)

    def test_interval_at_full_size(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 151, 5500)
        predictions = np.where(rng.random(5500) < 0.9, labels, rng.integers(0, 151, 5500))
        interval = macro_f1_interval(labels, predictions, 151)
        assert interval.low < macro_f1(labels, predictions, 151) < interval.high

    def test_all_right_has_no_spread(self):
        assert macro_f1_interval([0, 1, 1], [0, 1, 1], 2) == (1, 1)

    @pytest.mark.parametrize(
        ("labels", "predictions", "message"),
        [
            ([0, 2], [0, 1], "labels range 0-2, outside 0-1"),
            ([0, 1], [-1, 1], "predictions range -1-1"),
            ([0], [0, 1], "shapes"),
            ([], [], "shapes"),
            ([0.5], [0], "whole class id"),
        ],
    )
    def test_refuses_ids(self, labels, predictions, message):
        with pytest.raises(ValueError, match=message):
            macro_f1(labels, predictions, 2)


class TestCalibration:
    def test_by_hand(self):
        # Bin (0.8, 1]: 0.9 and 1.0, one right; bin (0.4, 0.6]: 0.6, right.
        error = expected_calibration_error([0.9, 1.0, 0.6], [True, False, True], bins=5)
        assert error == pytest.approx((abs(1.9 - 1) + abs(0.6 - 1)) / 3)

    def test_certain_and_right_is_calibrated(self):
        assert expected_calibration_error([1.0, 1.0, 0.0], [1, 1, 0]) == 0

    @pytest.mark.parametrize("bad", [math.nan, 1.1, -0.1])
    def test_refuses_what_is_no_probability(self, bad):
        with pytest.raises(ValueError, match="within"):
            expected_calibration_error([bad], [True])

    def test_refuses_unpaired_figures(self):
        with pytest.raises(ValueError, match="shapes"):
            expected_calibration_error([0.5], [True, False])
        with pytest.raises(ValueError, match="bin"):
            expected_calibration_error([0.5], [True], bins=0)
