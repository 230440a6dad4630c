"""Error rates of the timing gates on simulated noise."""

import math

import numpy as np
import pytest

from optimize.experiments.timing_simulation import (
    BLOCKS,
    CALL_S,
    MODELS,
    ModelResult,
    NoiseModel,
    main,
    median_of_kept,
    replicate_log_ratios,
    simulate,
    table_lines,
    throttling,
)

BY_NAME = {model.name: model for model in MODELS}


@pytest.mark.parametrize("name", ["lognormal 10 %", "bimodal x1.3", "replicate offsets 15 %"])
def test_requirements_hold_in_200_runs(name):
    result = simulate(BY_NAME[name], runs=200, seed=1)
    assert result.unmet() == []


@pytest.mark.slow
def test_requirements_hold_in_1000_runs(capsys):
    status = main(["--runs", "1000"])
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_noise_is_positive_and_as_seeded(model):
    def draw(seed):
        call_s = np.full((2, 3, 2 * BLOCKS), CALL_S)
        return model.blocks(np.random.default_rng(seed), call_s)

    assert np.isfinite(draw(0)).all()
    assert (draw(0) > 0).all()
    assert np.array_equal(draw(0), draw(0))
    assert not np.array_equal(draw(0), draw(1))


def test_median_is_over_the_blocks_kept():
    ratios = np.array([[9.0, 1.0, 2.0, 9.0], [9.0, 1.0, 9.0, 9.0], [9.0, 9.0, 9.0, 9.0]])
    assert median_of_kept(ratios, ratios < 9) == pytest.approx([1.5, 1.0, math.nan], nan_ok=True)


def test_stalled_blocks_are_dropped_for_both_variants():
    def third_block_stands_still(_rng, block_s):
        return np.where(np.arange(block_s.shape[-1]) == 5, block_s, 0.0)

    model = NoiseModel("stall", lambda _rng, call_s: call_s, stalls=third_block_stands_still)
    ratios = replicate_log_ratios(np.random.default_rng(0), model, 1.1, (5, 7))
    assert ratios == pytest.approx(-math.log(1.1))


def test_nothing_is_decided_where_every_block_stalls():
    model = NoiseModel("hopeless", stalls=lambda _rng, block_s: block_s)
    result = simulate(model, runs=3, seed=0)
    assert result.unchanged["inconclusive"] == result.slower["inconclusive"] == 1
    assert result.unmet() == []


def test_throttling_stalls_for_the_rest_of_each_period():
    block_s = np.full((4, 50), 0.02)  # one second of work, 50 ms of it in every 100 ms
    stalls_s = throttling(np.random.default_rng(0), block_s, quota=0.5)
    assert stalls_s.sum(axis=-1) == pytest.approx(1.0, abs=0.051)
    assert set(np.round(stalls_s, 6).ravel()) == {0.0, 0.05}


def test_without_noise_the_ratio_is_the_truth():
    silent = NoiseModel("silent", blocks=lambda _rng, call_s: call_s)
    ratios = replicate_log_ratios(np.random.default_rng(0), silent, 1.1, (5, 7))
    assert ratios.shape == (5, 7)
    assert ratios == pytest.approx(-math.log(1.1))


def test_orders_are_balanced_so_that_a_steady_drift_cancels():
    drift = NoiseModel("drift", blocks=lambda _rng, call_s: call_s * np.exp(0.01 * np.arange(48)))
    ratios = replicate_log_ratios(np.random.default_rng(0), drift, 1.0, (5, 7))
    assert ratios == pytest.approx(0, abs=1e-12)


def test_unmet_requirements_are_named():
    def result(sd_log, unchanged, slower):
        verdicts = ("pass", "fail", "inconclusive")
        shares = [dict(zip(verdicts, figures, strict=True)) for figures in (unchanged, slower)]
        return ModelResult("made up", sd_log, *shares)

    assert result(0.044, (0.96, 0, 0.04), (0, 0.97, 0.03)).unmet() == []
    assert result(0.04, (0.9, 0.01, 0.09), (0, 0.95, 0.05)).unmet() == [
        "false failures 1.0%",
        "only 95.0% of +10 % detected",
        "9.0% inconclusive",
    ]
    # Between the design's SD and twice that, only a wrong verdict counts.
    assert result(0.06, (0.3, 0, 0.7), (0, 0.3, 0.7)).unmet() == []
    toss = result(0.08, (0.5, 0, 0.5), (0.01, 0.5, 0.49))
    assert toss.unmet() == ["passes of +10 % 1.0%", "only 49.0% inconclusive in such noise"]
    assert "made up" in table_lines([toss], 100)[-1]


def test_a_run_that_does_not_meet_them_exits_1(monkeypatch, capsys):
    # A clock that shows the same time whatever a call takes cannot see a slower candidate.
    stuck = NoiseModel("stuck", blocks=lambda _rng, call_s: np.full_like(call_s, CALL_S))
    monkeypatch.setattr("optimize.experiments.timing_simulation.MODELS", (stuck,))
    assert main(["--runs", "20"]) == 1
    assert "passes of +10 % 100.0%" in capsys.readouterr().out
