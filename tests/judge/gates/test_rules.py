"""Break the thing, see the gate fail: one mutation a gate, from just good enough to just not."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_runs import beside

from optimize.judge.gates.control import control_of, timing_verdict
from optimize.judge.gates.evidence import Evidence
from optimize.judge.gates.rules import decide_all
from optimize.judge.records import Control, Predictions, Series, Span, Timing, VariantFacts
from optimize.settings.load import parse

N = 1000
LABELS = np.zeros(N, dtype=np.int64)
GATES = {
    "size": {"kind": "size", "min_reduction_pct": 80.0},
    "speed": {"kind": "speedup", "min_ratio": 2.0},
    "accuracy": {"kind": "accuracy", "max_drop_pp": 2.0},
    "fidelity": {"kind": "fidelity", "reference": "teacher-torch", "min_agreement_pct": 99.0},
    "startup": {"kind": "startup", "max_startup_s": 1.0},
    "memory": {"kind": "memory", "max_peak_mib": 100.0},
}


def series(seconds, replicates=12):
    return Series(blocks_s=((seconds,) * 4,) * replicates, calls=1, p50_ms=1.0, p95_ms=1.0)


def answers(wrong):
    labels = [1] * wrong + [0] * (N - wrong)
    return Predictions(labels=tuple(labels), confidences=(1.0,) * N)


def evidence(**change):
    fit = {
        "size": 200,
        "seconds": 0.5,
        "wrong": 0,
        "startup": 1.0,
        "peak": 100 << 20,
        "control": 0.5,
        "missing": None,
        "mode": "full",
    } | change
    timing = Timing(
        series={
            "typical": {
                "teacher-torch": series(1.0),
                "student-int8": series(fit["seconds"]),
            }
        },
        batch_sizes={"typical": 1},
        startup_s={"student-int8": (fit["startup"],)},
        peak_rss_bytes={"student-int8": (fit["peak"],)},
        replicates=12,
        dropped_blocks=0,
        seconds=1.0,
    )
    mode = fit["mode"]
    control = control_of("typical", series(0.5), series(fit["control"]), mode, 1)
    return Evidence(
        variants={
            "teacher-torch": VariantFacts(size_bytes=1000, parameters=1, model_sha256="a"),
            "student-int8": VariantFacts(
                size_bytes=fit["size"], parameters=1, model_sha256="b", missing=fit["missing"]
            ),
        },
        timing=timing,
        controls={"typical": control},
        predictions={"teacher-torch": answers(0), "student-int8": answers(fit["wrong"])},
        labels=LABELS,
        isa="avx2",
        mode=mode,
    )


def results(gates=GATES, **change):
    table = {"gates": gates, "judge": {"workloads": {"typical": {}}}}
    decided = decide_all(parse(table, "test").gates, evidence(**change), ("typical",))
    return {result.gate: result for result in decided}


@pytest.mark.parametrize("mode", ["full", "quick"])
def test_the_just_good_enough_passes_every_gate(mode):
    assert {result.verdict for result in results(mode=mode).values()} == {"pass"}


@pytest.mark.parametrize(
    ("gate", "change", "words"),
    [
        ("size", {"size": 201}, "1 bytes above the 200 allowed"),
        ("speed", {"seconds": 0.5 * 1.1}, "9 % below the limit"),
        ("accuracy", {"wrong": 20}, "0.00 pp above the limit"),
        ("fidelity", {"wrong": 11}, "11 of 1000 labels differ, 10 allowed"),
        ("startup", {"startup": 1.01}, "median of 1"),
        ("memory", {"peak": 101 << 20}, "median of 1"),
    ],
)
def test_a_worse_bundle_fails_its_gate(gate, change, words):
    result = results(**change)[gate]
    assert result.verdict == "fail"
    assert words in result.reason
    assert result.remedy


def test_a_slow_start_beside_others_is_no_failure():
    """Waiting only adds time, so that a start within the limit stands."""
    for startup, verdict in ((1.01, "inconclusive"), (0.9, "pass")):
        seen = evidence(startup=startup)
        table = {"gates": GATES, "judge": {"workloads": {"typical": {}}}}
        seen = dataclasses.replace(seen, timing=beside(seen.timing))
        found = decide_all(parse(table, "test").gates, seen, ("typical",))
        (result,) = (each for each in found if each.gate == "startup")
        assert result.verdict == verdict


def test_a_gates_own_remedy_is_what_a_failure_says():
    gates = {"size": GATES["size"] | {"remedy": "ask the search team"}}
    assert results(gates, size=201)["size"].remedy == "ask the search team"
    assert results(gates)["size"].remedy == ""


def test_an_open_accuracy_says_how_many_examples_would_do():
    result = results(wrong=14)["accuracy"]
    assert result.verdict == "inconclusive"
    assert "needs" in result.reason
    assert "judge " in result.remedy


@pytest.mark.parametrize(
    ("seconds", "verdict", "measured"),
    [
        (0.45, "inconclusive", "2.22× [1.85, 2.67]"),
        (0.2, "pass", "5.00× [4.17, 6.00]"),
        (1.0, "fail", "1.00× [0.83, 1.20]"),
    ],
)
def test_a_control_that_is_off_casts_as_much_doubt_on_every_ratio(seconds, verdict, measured):
    """Equal workers looked 1.2 times apart: what is further than that from the limit stands."""
    result = results(seconds=seconds, control=0.6)["speed"]
    assert (result.verdict, result.measured) == (verdict, measured)
    assert "the A/A control gave 0.833×" in result.reason


UNKNOWN = Control(workload="typical", ratio=0.0, interval=Span(low=None, high=None), holds=False)


@pytest.mark.parametrize(
    ("controls", "words"),
    [({}, "was not measured"), ({"typical": UNKNOWN}, "others held the cores")],
)
def test_without_a_control_no_time_decides(controls, words):
    seen = dataclasses.replace(evidence(seconds=0.001), controls=controls)
    table = {"gates": {"speed": GATES["speed"]}, "judge": {"workloads": {"typical": {}}}}
    (result,) = decide_all(parse(table, "test").gates, seen, ("typical",))
    assert result.verdict == "inconclusive"
    assert words in result.reason


@pytest.mark.parametrize(
    "change",
    [{"startup": math.nan}, {"control": 0.6}, {"missing": "needs torch"}],
)
def test_what_cannot_be_trusted_never_passes(change):
    gate = "startup" if "startup" in change else "speed"
    assert results(**change)[gate].verdict != "pass"


def test_every_gate_on_a_variant_that_the_kit_never_had_fails():
    table = {"variants": {"small": {"model": "small"}}, "judge": {"workloads": {"typical": {}}}}
    table["gates"] = {name: gate | {"candidate": "small"} for name, gate in GATES.items()}
    decided = decide_all(parse(table, "test").gates, evidence(), ("typical",))
    assert {result.verdict for result in decided} == {"fail"}
    assert {result.reason for result in decided} == {
        "small is not measurable: the kit does not hold it"
    }


def test_a_missing_variant_fails_with_the_way_out():
    result = results(missing="needs torch, not installed here")["accuracy"]
    assert result.verdict == "fail"
    assert "not installed here" in result.reason
    assert "drop_gates" in result.remedy


def test_a_limit_by_workload_and_isa_wins():
    gates = {"speed": GATES["speed"] | {"by": {"typical": 3.0, "typical@avx2": 1.5}}}
    assert results(gates)["speed"].limit_value == 1.5


def test_a_misspelt_gate_is_refused():
    with pytest.raises(ValueError, match=r"gates\.size"):
        parse({"gates": {"size": {"kind": "size", "min_reduction": 80}}}, "recipe")


def test_quick_mode_needs_enough_undisturbed_blocks():
    """Seven of them say nothing, however fast the candidate was in each."""
    few = evidence(mode="quick")
    kept = {
        name: one.model_copy(update={"blocks_s": ((one.blocks_s[0][0],) * 7,)})
        for name, one in few.timing.series["typical"].items()
    }
    timing = few.timing.model_copy(update={"series": {"typical": kept}})
    gates = parse({"gates": {"speed": GATES["speed"]}}, "test").active_gates
    changed = dataclasses.replace(few, timing=timing)
    (result,) = decide_all(gates, changed, ("typical",))
    assert result.verdict == "inconclusive"
    assert "others held the cores" in result.reason


LABELS_GATE = {
    "labels": {"kind": "labels", "candidate": "student-int8", "reference": "teacher-torch"}
}


@pytest.mark.parametrize(
    ("wrong", "by_batch", "expected"),
    [(0, (), "pass"), (1, (), "fail"), (1, (0,), "pass"), (2, (0,), "fail"), (1, (1,), "fail")],
)
def test_labels_gate_lets_only_those_pass_that_hang_on_the_batch(wrong, by_batch, expected):
    changed = dataclasses.replace(evidence(wrong=wrong), batch_changes={"student-int8": by_batch})
    judge = {"variants": ["teacher-torch", "student-int8"]}
    gates = parse({"judge": judge, "gates": LABELS_GATE}, "test").active_gates
    (result,) = decide_all(gates, changed, ("typical",))
    assert result.verdict == expected


def disturbed(most_s, least_s, replicates=12):
    """Blocks of which it is known between which two their undisturbed time lies."""
    return Series(
        blocks_s=((most_s,) * 4,) * replicates,
        least_s=((least_s,) * 4,) * replicates,
        calls=1,
        p50_ms=1.0,
        p95_ms=1.0,
    )


@pytest.mark.parametrize("mode", ["full", "quick"])
@pytest.mark.parametrize(
    ("candidate", "verdict"),
    [
        ((0.30, 0.20), "pass"),  # 1 / 0.30 is 3.3, far above the limit of 2
        ((0.45, 0.30), "inconclusive"),  # 2.2, and contention might be all of it
        ((0.60, 0.45), "inconclusive"),  # the limit is between 1.7 and 2.2
        ((0.90, 0.80), "fail"),  # 1.25 at most
        ((9.00, 0.01), "inconclusive"),  # nothing is known
    ],
)
def test_far_from_the_limit_disturbance_decides_nothing_away(candidate, verdict, mode):
    outcome = timing_verdict(series(1.0), disturbed(*candidate), math.log(2.0), mode, 1)
    assert outcome.verdict == verdict


@given(
    st.floats(0.1, 10), st.floats(0.01, 1), st.floats(0.01, 1), st.sampled_from(["full", "quick"])
)
def test_less_known_never_decides_otherwise(true_s, theirs, ours, mode):
    """Whatever the undisturbed times are within their bounds, the interval holds their ratio."""
    reference, candidate = disturbed(1.0, theirs), disturbed(true_s, ours * true_s)
    outcome = timing_verdict(reference, candidate, 0.0, mode, 1)
    for one, other in ((1.0, true_s), (theirs, true_s), (1.0, ours * true_s)):
        assert outcome.interval.low <= math.log(one / other) <= outcome.interval.high


@pytest.mark.parametrize("mode", ["full", "quick"])
@pytest.mark.parametrize(
    ("ours", "alone", "beside"),
    [
        (0.3, "pass", "pass"),
        (0.45, "pass", "inconclusive"),
        (0.6, "fail", "inconclusive"),
        (0.9, "fail", "fail"),
    ],
)
def test_neighbours_widen_what_no_worker_waited_for(ours, alone, beside, mode):
    """With priority no worker waits, but caches and clock rates are shared all the same."""
    reference, candidate = series(1.0), series(ours)
    crowded = [
        each.model_copy(update={"beside_neighbours": True}) for each in (reference, candidate)
    ]
    limit = math.log(2.0)
    assert timing_verdict(reference, candidate, limit, mode, 1).verdict == alone
    assert timing_verdict(*crowded, limit, mode, 1).verdict == beside
    assert timing_verdict(reference, crowded[1], limit, mode, 1).verdict == beside


def test_a_replicate_without_blocks_is_no_hindrance():
    """As in reports of earlier versions; a figure that is not one would decide nothing for ever."""
    gap = ((),)
    reference = series(1.0, 13).model_copy(update={"blocks_s": gap + ((1.0,) * 4,) * 12})
    candidate = series(0.2, 13).model_copy(update={"blocks_s": gap + ((0.2,) * 4,) * 12})
    assert timing_verdict(reference, candidate, math.log(2.0), "full", 1).verdict == "pass"
