"""Paired timing statistics."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimize.judge.statistics.sequential import (
    LOOKS,
    NOISE_CAP_LOG,
    Interval,
    block_log_ratio,
    decide,
    hodges_lehmann,
    look_level,
    percentile_interval,
    sequential_timing,
    signed_rank_interval,
    signed_rank_tail,
)

# Hollander & Wolfe, Nonparametric Statistical Methods, table 3.1: Hamilton depression scale
# factor IV of nine patients at the first and the second visit.
HAMILTON_FIRST = (1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30)
HAMILTON_SECOND = (0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29)
HAMILTON = [second - first for first, second in zip(HAMILTON_FIRST, HAMILTON_SECOND, strict=True)]

LIMIT = math.log(1 / 1.05)
unhurried = settings(deadline=None)  # the first call imports scipy, and machines are shared
finite = st.floats(-10, 10, allow_nan=False, width=32)
series = st.lists(finite, min_size=1, max_size=30)
times = st.floats(1e-6, 1e3)


def normal(mean, sd, size=LOOKS[-1], seed=0):
    return list(np.random.default_rng(seed).normal(mean, sd, size))


class TestBlockLogRatio:
    def test_median_over_blocks(self):
        assert block_log_ratio([2.0, 3.0, 100.0], [1.0, 1.0, 1.0]) == pytest.approx(math.log(3))

    def test_ten_percent_more_time_is_exact(self):
        assert block_log_ratio([1.0] * 24, [1.1] * 24) == pytest.approx(-math.log(1.1))

    @pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
    @pytest.mark.parametrize("role", ["reference", "candidate"])
    def test_refuses_what_is_no_time(self, bad, role):
        pair = {"reference": [1.0, 1.0], "candidate": [1.0, 1.0]}
        pair[role][1] = bad
        with pytest.raises(ValueError, match=f"block 1 of the {role} lasted {bad} s"):
            block_log_ratio(pair["reference"], pair["candidate"])

    @pytest.mark.parametrize(("reference", "candidate"), [([], []), ([1.0], [1.0, 2.0])])
    def test_refuses_blocks_that_are_no_pairs(self, reference, candidate):
        message = f"reference has {len(reference)} and the candidate {len(candidate)}"
        with pytest.raises(ValueError, match=message):
            block_log_ratio(reference, candidate)

    @unhurried
    @given(st.lists(st.tuples(times, times), min_size=1, max_size=30))
    def test_exchanging_the_roles_changes_the_sign(self, blocks):
        reference, candidate = zip(*blocks, strict=True)
        there, back = block_log_ratio(reference, candidate), block_log_ratio(candidate, reference)
        assert there == pytest.approx(-back, abs=1e-12)


class TestSignedRank:
    def test_hamilton_depression_scale(self):
        """Hollander & Wolfe, examples 3.3 and 3.4: -0.46, and (-0.786, -0.010) at 96.1 %."""
        assert hodges_lehmann(HAMILTON) == pytest.approx(-0.46, abs=5e-4)
        level = (1 - 0.961) / 2 + 1e-4  # P(W <= 5) = 10/512, printed to three figures
        assert signed_rank_tail(9)[5] == 10 / 512
        assert signed_rank_interval(HAMILTON, level) == pytest.approx((-0.786, -0.010), abs=5e-4)

    @pytest.mark.parametrize("n", [1, 5, 12, 24, 48])
    def test_null_distribution_is_that_of_all_signs(self, n):
        tail = signed_rank_tail(n)
        assert tail[0] == 0.5**n
        assert tail[-1] == 1.0
        middle = n * (n + 1) // 4
        assert tail[n * (n + 1) // 2 - middle - 1] + tail[middle] == 1.0

    def test_null_distribution_against_enumeration(self):
        n = 8
        signs = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        sums = signs @ np.arange(1, n + 1)
        expected = [np.mean(sums <= w) for w in range(n * (n + 1) // 2 + 1)]
        assert signed_rank_tail(n).tolist() == expected

    def test_interval_keeps_what_scipys_exact_test_keeps(self):
        wilcoxon = pytest.importorskip("scipy.stats").wilcoxon
        x = np.array(normal(0.3, 1.0, size=15))
        low, high = signed_rank_interval(list(x), 0.01)
        for centre, kept in ((low - 1e-9, False), (low + 1e-9, True)):
            p = wilcoxon(x - centre, alternative="greater", method="exact").pvalue
            assert bool(p > 0.01) is kept
        for centre, kept in ((high + 1e-9, False), (high - 1e-9, True)):
            p = wilcoxon(x - centre, alternative="less", method="exact").pvalue
            assert bool(p > 0.01) is kept

    def test_unbounded_where_n_cannot_reach_the_level(self):
        assert signed_rank_interval([1.0] * 11, 1 / 4096) == (-math.inf, math.inf)
        assert signed_rank_interval(list(range(12)), 1 / 4096) == (0, 11)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_nothing_is_known_from_nan(self, bad):
        x = [*normal(0, 1, 30), bad]
        assert all(math.isnan(end) for end in signed_rank_interval(x, 0.01))
        assert math.isnan(hodges_lehmann(x))

    @pytest.mark.parametrize("level", [0.0, 0.6, math.nan])
    def test_refuses_a_level(self, level):
        with pytest.raises(ValueError, match="one-sided level"):
            signed_rank_interval([1.0], level)

    def test_refuses_an_empty_series(self):
        with pytest.raises(ValueError, match="non-empty"):
            hodges_lehmann([])

    @unhurried
    @given(series, st.floats(1e-4, 0.5))
    def test_mirrored_data_give_the_mirrored_interval(self, x, level):
        low, high = signed_rank_interval(x, level)
        assert signed_rank_interval([-value for value in x], level) == (-high, -low)
        assert low <= hodges_lehmann(x) <= high

    @unhurried
    @given(series, st.randoms(use_true_random=False), st.floats(1e-4, 0.5))
    def test_order_does_not_matter(self, x, random, level):
        shuffled = random.sample(x, len(x))
        assert hodges_lehmann(shuffled) == hodges_lehmann(x)
        assert signed_rank_interval(shuffled, level) == signed_rank_interval(x, level)

    def test_both_ends_miss_equally_often_and_no_more_than_promised(self):
        rng = np.random.default_rng(1)
        ends = np.array([signed_rank_interval(x, 0.05) for x in rng.laplace(size=(2000, 12))])
        promised = signed_rank_tail(12)[np.searchsorted(signed_rank_tail(12), 0.05) - 1]
        noise = 4 * math.sqrt(promised / 2000)
        assert np.mean(ends[:, 0] > 0) == pytest.approx(promised, abs=noise)
        assert np.mean(ends[:, 1] < 0) == pytest.approx(promised, abs=noise)


class TestDecide:
    @pytest.mark.parametrize(
        ("low", "high", "verdict"),
        [
            (1.0, 2.0, "pass"),
            (0.5, 2.0, "inconclusive"),
            (0.5, 1.0, "inconclusive"),
            (0.1, 0.9, "fail"),
            (-math.inf, math.inf, "inconclusive"),
            (math.inf, math.inf, "inconclusive"),
            (2.0, 1.5, "inconclusive"),
        ],
    )
    def test_the_limit_itself_is_good(self, low, high, verdict):
        assert decide(Interval(low, high), 1.0) == verdict

    @unhurried
    @given(st.permutations([math.nan, 1.0, 2.0]) | st.just([math.nan] * 3))
    def test_nan_decides_nothing(self, figures):
        low, high, limit = figures
        assert decide(Interval(low, high), limit) == "inconclusive"


class TestSequentialTiming:
    def test_level_is_shared_by_looks_and_gates(self):
        assert look_level(8) == pytest.approx(0.01 / 24)
        assert look_level(13) >= 1 / 4096 > look_level(14)
        with pytest.raises(ValueError, match="not 0"):
            look_level(0)

    def test_first_look_decides_for_thirteen_gates(self):
        quiet = normal(0.0, 0.01)
        assert sequential_timing(quiet, LIMIT, 13).replicates_used == 12
        assert sequential_timing(quiet, LIMIT, 14).replicates_used == 24

    def test_one_replicate_on_the_other_side_takes_the_next_look(self):
        x = [*normal(0.0, 0.01, 11), -0.06, *normal(0.0, 0.01, 12)]
        first = sequential_timing(x[:23], LIMIT, 8)
        assert (first.verdict, first.look, first.replicates_used) == ("inconclusive", 0, 12)
        second = sequential_timing(x, LIMIT, 8)
        assert (second.verdict, second.look, second.replicates_used) == ("pass", 1, 24)

    def test_a_verdict_is_final(self):
        x = normal(0.0, 0.01, 12) + normal(-1.0, 0.01, 36)
        assert sequential_timing(x, LIMIT, 8) == sequential_timing(x[:12], LIMIT, 8)

    def test_slower_fails(self):
        outcome = sequential_timing(normal(-math.log(1.1), 0.01), LIMIT, 8)
        assert outcome.verdict == "fail"
        assert outcome.estimate_log == pytest.approx(-math.log(1.1), abs=0.01)

    def test_no_look_yet(self):
        outcome = sequential_timing(normal(0, 0.01, 11), LIMIT, 8)
        assert (outcome.verdict, outcome.look) == ("inconclusive", None)
        assert outcome.interval == (-math.inf, math.inf)
        assert math.isnan(sequential_timing([], LIMIT, 8).estimate_log)

    @pytest.mark.parametrize("looks", [(), (0, 5), (12, 12), (24, 12)])
    def test_refuses_looks_that_do_not_rise(self, looks):
        with pytest.raises(ValueError, match="looks must rise"):
            sequential_timing([0.0], LIMIT, 1, looks)

    def test_noise_near_the_limit_is_not_decided(self):
        # Its interval is on the good side, but another run of the same noise may straddle.
        x = [0.04 + 2 * NOISE_CAP_LOG * (-1) ** index for index in range(48)]
        outcome = sequential_timing(x, LIMIT, 1)
        assert decide(outcome.interval, LIMIT) == "pass"
        assert (outcome.verdict, outcome.noisy) == ("inconclusive", True)

    def test_noise_far_from_the_limit_is_decided(self):
        assert sequential_timing(normal(math.log(8), 0.15), math.log(5), 8).verdict == "pass"
        assert sequential_timing(normal(math.log(3), 0.15), math.log(5), 8).verdict == "fail"

    @unhurried
    @given(st.integers(0, 47), st.sampled_from([math.nan, math.inf, -math.inf]))
    def test_nan_never_decides(self, place, bad):
        x = normal(1.0, 0.01)
        x[place] = bad
        assert sequential_timing(x, LIMIT, 1).verdict == "inconclusive"
        assert sequential_timing(normal(1.0, 0.01), math.nan, 1).verdict == "inconclusive"

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 1000), st.floats(0, 0.1), st.floats(0, 0.3), st.floats(0, 0.3))
    def test_slower_never_turns_fail_into_pass(self, seed, sd, mean, slower):
        x = normal(mean - 0.2, sd, seed=seed)
        before = sequential_timing(x, LIMIT, 8).verdict
        after = sequential_timing([value - slower for value in x], LIMIT, 8).verdict
        rank = {"fail": 0, "inconclusive": 1, "pass": 2}
        assert rank[after] <= rank[before]


@unhurried
@given(st.lists(finite, min_size=12, max_size=24), finite, st.floats(0, 5))
def test_widening_only_ever_takes_a_decision_away(ratios, limit, widening):
    trusting = sequential_timing(ratios, limit, 1, looks=(12,))
    doubting = sequential_timing(ratios, limit, 1, looks=(12,), widening_log=widening)
    assert doubting.verdict in (trusting.verdict, "inconclusive")
    assert doubting.interval == trusting.interval.widened(widening)
    assert doubting.estimate_log == trusting.estimate_log


def test_unknown_doubt_decides_nothing():
    assert sequential_timing([5.0] * 48, 0.0, 1, widening_log=math.nan).verdict == "inconclusive"


def test_percentile_interval_is_the_central_share():
    assert percentile_interval(list(range(101)), 0.9) == pytest.approx((5, 95))
    with pytest.raises(ValueError, match="level"):
        percentile_interval([1.0], 1.0)
    with pytest.raises(ValueError, match="at least one"):
        percentile_interval([])


def test_importing_does_not_import_scipy():
    code = "import sys, optimize.judge.statistics.sequential;"
    code += (
        "import optimize.judge.statistics.proportions as p; p.tango_noninferior(0, 0, 299, 0.01);"
    )
    code += "sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
