"""Against a baseline: paired or stored, alike or not, and what must never pass."""

import copy
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_runs import (
    SETTINGS,
    alike,
    beside,
    evidence,
    facts,
    report,
    results,
    series,
    timing,
)

from optimize.judge.gates.control import control_of
from optimize.judge.gates.evidence import Stored
from optimize.judge.gates.regression import has_too_few, relative_interval, unchanged_variant
from optimize.judge.gates.rules import decide_all
from optimize.judge.held_against import HeldAgainst
from optimize.judge.kit import Examples
from optimize.judge.records import Predictions, Series
from optimize.judge.statistics.accuracy import label_changes
from optimize.judge.statistics.sequential import Interval
from optimize.settings.load import against_baseline, parse


def test_no_change_passes_paired_and_stored():
    for seen in (evidence(baseline_s=0.5), evidence(stored=alike())):
        assert {name: r.verdict for name, r in results(seen).items() if r.verdict != "pass"} == {}


MUTATIONS = {
    "regression-size": {"size": 205},
    "regression-speed": {"seconds": 0.575},
    "regression-accuracy": {"wrong": 10},
    "regression-startup": {"startup": 0.4},
    "regression-memory": {"peak": 111},
}


@pytest.mark.parametrize("gate", MUTATIONS)
@pytest.mark.parametrize("kind", ["paired", "stored"])
def test_a_worse_candidate_fails(gate, kind):
    against = {"baseline_s": 0.5} if kind == "paired" else {"stored": alike()}
    found = results(evidence(**against, **MUTATIONS[gate]))
    assert {name for name, result in found.items() if result.verdict != "pass"} == {gate}
    assert found[gate].verdict == "fail"
    assert found[gate].remedy


@pytest.mark.parametrize("seconds", [0.3, 0.5, 0.9])
def test_unlike_fingerprints_never_decide_about_time(seconds):
    unlike = Stored(report(), ("cpu: a → b",))
    found = results(evidence(seconds, stored=unlike))
    for gate in ("regression-speed", "regression-startup", "regression-memory"):
        assert found[gate].verdict == "inconclusive"
        assert "cpu: a → b" in found[gate].reason
    notable = "beyond" if seconds == 0.9 else "within"
    assert f"{notable} 25 %" in found["regression-speed"].reason
    assert found["regression-size"].verdict == found["regression-accuracy"].verdict == "pass"


def test_without_an_unchanged_yardstick_time_is_not_decided():
    other = {"teacher-onnx": facts(1000, "another"), "student-int8": facts()}
    found = results(evidence(stored=alike(variants=other)))["regression-speed"]
    assert found.verdict == "inconclusive"
    assert "unchanged weights" in found.reason
    seen = evidence(stored=alike())
    assert unchanged_variant(seen, report(variants=other), "typical", "student-int8") is None
    assert unchanged_variant(seen, report(), "typical", "student-int8") == "teacher-onnx"


def many(gates):
    """Settings of so many gates on time, a stored baseline's three included."""
    speed = {"kind": "speedup", "reference": "teacher-onnx", "min_ratio": 1.1}
    own = {f"speed-{number}": speed for number in range(gates - 2)}
    return parse({"judge": SETTINGS.judge.model_dump(mode="json"), "gates": own}, "many")


def test_a_stored_run_of_too_few_replicates_says_so_and_is_not_waited_for():
    """Twelve replicates reach the level of 13 gates on time, and never that of 14."""
    for gates, enough in ((13, True), (14, False)):
        held = against_baseline(many(gates), stored=True)
        found = {r.gate: r for r in decide_all(held.gates, evidence(stored=alike()), ("typical",))}
        for gate in ("regression-speed", "regression-startup"):
            assert (found[gate].verdict == "pass") is enough
            assert ("too few replicates for" in found[gate].reason) is not enough
            assert enough or "baseline save --runs 5" in found[gate].remedy
        # A process's peak hardly varies: medians decide, however many gates there are.
        assert found["regression-memory"].verdict == "pass"
        assert has_too_few(alike(), gates) is not enough
    several = alike(runs=(timing(0.5), timing(0.5, startup=0.301)))
    held = against_baseline(many(14), stored=True)
    found = {r.gate: r for r in decide_all(held.gates, evidence(stored=several), ("typical",))}
    assert found["regression-startup"].reason == "12 fresh processes of each"


@pytest.mark.parametrize(
    ("table", "name", "change"),
    [
        ("judge", "typical", {"batch_size": 32}),
        ("judge", "typical", {"quantiles": (0.9, 1.0)}),
        ("variants", "mine", {"max_length": 512}),
    ],
)
def test_what_is_another_workload_under_the_same_name_is_not_compared(table, name, change):
    plain = SETTINGS.model_dump(mode="json")
    plain["variants"] = {"mine": {"model": "a", "max_length": 128}}
    plain["judge"]["variants"] += ["mine"]
    then, now = parse(plain, "then"), copy.deepcopy(plain)
    place = now["judge"]["workloads"] if table == "judge" else now["variants"]
    place[name] |= change
    stored = HeldAgainst("s", report(settings=then.model_dump(mode="json")))
    fingerprint = stored.report.fingerprint
    assert stored.stored(fingerprint, "full", then).unlike == ()
    (told,) = stored.stored(fingerprint, "full", parse(now, "now")).unlike
    assert f"{name}.{next(iter(change))}: " in told
    seen = evidence(stored=Stored(stored.report, (told,)))
    assert results(seen)["regression-speed"].verdict == "inconclusive"


def idle(timing):
    return timing


@pytest.mark.parametrize(
    ("before", "now", "startup", "verdict"),
    [
        (idle, idle, 0.6, "fail"), (idle, beside, 0.6, "inconclusive"), (beside, idle, 0.6, "fail"),
        (idle, idle, 0.3, "pass"), (beside, idle, 0.3, "inconclusive"), (idle, beside, 0.3, "pass"),
    ],
)  # fmt: skip
def test_starts_of_two_runs_of_which_one_waited(before, now, startup, verdict):
    """Waiting only adds time: it can excuse what is slow now, and be what was slow then."""
    stored = alike(timing=before(timing(0.5)))
    seen = evidence(stored=stored, startup=startup)
    seen = dataclasses.replace(seen, timing=now(seen.timing))
    found = results(seen)["regression-startup"]
    assert found.verdict == verdict
    assert ("others wanted the cores" in found.reason) == (verdict == "inconclusive")


def test_a_length_of_texts_that_changed_is_told_where_the_weights_are_the_same():
    changed = parse({**SETTINGS.model_dump(mode="json"), "teacher": {"max_length": 77}}, "now")
    stored = HeldAgainst("s", report())
    (told,) = stored.stored(report().fingerprint, "full", changed).unlike
    assert told == f"teacher.max_length: {SETTINGS.teacher.max_length} → 77"


@pytest.mark.parametrize("gone", ["student-int8", "teacher-onnx"])
def test_a_stored_variant_without_times_is_not_decided(gone):
    stored = report()
    left = {n: s for n, s in stored.timing.series["typical"].items() if n != gone}
    timed = stored.timing.model_copy(update={"series": {"typical": left}})
    stored = stored.model_copy(update={"timing": timed})
    found = results(evidence(stored=Stored(stored, ())))["regression-speed"]
    assert found.verdict == "inconclusive"
    assert "did not both time the candidate" in found.reason


@pytest.mark.parametrize(("seconds", "verdict"), [(0.5, "inconclusive"), (0.9, "fail")])
def test_a_control_that_was_off_then_casts_doubt_on_the_change_now(seconds, verdict):
    """It was off by 1.4: a candidate of 1.8 times the time is slower all the same."""
    off = (control_of("typical", series(0.5), series(0.7), "full", 1),)
    found = results(evidence(seconds, stored=alike(controls=off)))["regression-speed"]
    assert found.verdict == verdict
    assert "then, the A/A control gave 0.716×" in found.reason


def test_a_control_that_was_not_measured_then_decides_nothing_now():
    found = results(evidence(0.9, stored=alike(controls=())))["regression-speed"]
    assert found.verdict == "inconclusive"
    assert found.reason.startswith("then, the A/A control was not measured: no time decides")


def test_a_deleted_row_and_an_added_one_fail_by_name():
    deleted = report()
    deleted = deleted.model_copy(update={"gates": ()})
    found = results(evidence(stored=Stored(deleted, ())))["regression-entries"]
    assert found.verdict == "fail"
    assert "here and not in the baseline: gate size" in found.reason
    fewer = dataclasses.replace(evidence(stored=alike()), gate_names=())
    found = results(fewer)["regression-entries"]
    assert found.verdict == "fail"
    assert "in the baseline and not here: gate size" in found.reason


def test_a_gate_of_ones_own_may_be_named_as_those_of_a_baseline():
    """What is held against the baseline is told by its reference, and not by its name."""
    stored = report()
    own = stored.gates[0].model_copy(update={"gate": "regression-of-mine"})
    both = stored.model_copy(update={"gates": (*stored.gates, own)})
    names = (*evidence().gate_names, "regression-of-mine")
    seen = dataclasses.replace(evidence(stored=Stored(both, ())), gate_names=names)
    assert results(seen)["regression-entries"].verdict == "pass"


def test_a_workload_that_is_gone_fails():
    stored = report()
    stored = stored.model_copy(
        update={"timing": stored.timing.model_copy(update={"series": {"long": {}}})}
    )
    found = results(evidence(stored=Stored(stored, ())))
    assert "workload long" in found["regression-entries"].reason
    assert found["regression-speed"].verdict != "pass"


@pytest.mark.parametrize("where", ["series", "startup", "peak"])
def test_nan_never_passes(where):
    seen = evidence(baseline_s=0.5, startup=float("nan") if where == "startup" else 0.3)
    if where == "series":
        broken = Series(blocks_s=((float("inf"),) * 4,) * 12, calls=1, p50_ms=1, p95_ms=1)
        series_ = {"typical": seen.timing.series["typical"] | {"baseline": broken}}
        with pytest.raises(ValueError, match="positive and finite"):
            results(
                dataclasses.replace(seen, timing=seen.timing.model_copy(update={"series": series_}))
            )
    elif where == "startup":
        assert results(seen)["regression-startup"].verdict != "pass"
    else:
        peaks = {"student-int8": (float("nan"),), "baseline": (1.0,)}
        timed = seen.timing.model_copy(update={"peak_rss_bytes": peaks})
        assert results(dataclasses.replace(seen, timing=timed))["regression-memory"].verdict != (
            "pass"
        )


ends = st.floats(-3, 3)


@given(ends, ends, ends, ends, st.floats(0, 1), st.floats(0, 1))
def test_relative_interval_holds_every_difference(a, b, c, d, here, there):
    now, before = Interval(min(a, b), max(a, b)), Interval(min(c, d), max(c, d))
    difference = (now.low + here * (now.high - now.low)) - (
        before.low + there * (before.high - before.low)
    )
    relative = relative_interval(now, before)
    assert relative.low - 1e-9 <= difference <= relative.high + 1e-9


def test_changed_labels_are_listed_worst_first():
    examples = Examples(("a", "b", "c", "d", "e"), np.array([0, 0, 0, 1, 1]))
    before = Predictions(labels=(0, 0, 1, 0, 1), confidences=(0.9, 0.9, 0.9, 0.9, 0.9))
    after = Predictions(labels=(1, 2, 0, 2, 1), confidences=(0.5, 0.8, 0.9, 0.9, 0.9))
    changes = label_changes(before, after, examples, ("x", "y", "z"))
    # two that were right, the surer mistake first; one wrong in another way; one put right
    assert [change.text for change in changes] == ["b", "a", "d", "c"]
    worst = changes[0]
    assert (worst.truth, worst.before, worst.after) == ("x", "x", "z")
    assert (worst.before_confidence, worst.after_confidence) == (0.9, 0.8)


def test_regression_gates_follow_the_table():
    table = {
        "regression": {"max_slowdown_pct": 25.0, "max_drop_pp": 2.0, "by": {"typical": 100.0}},
        "judge": {"workloads": {"typical": {}, "other": {}}},
    }
    gates = against_baseline(parse(table, "t"), stored=True).gates
    assert gates["regression-speed"].limit("other", "avx2") == pytest.approx(0.8)
    assert gates["regression-speed"].limit("typical", "avx2") == pytest.approx(0.5)
    assert gates["regression-accuracy"].max_drop_pp == 2.0
    assert "regression-entries" not in against_baseline(parse(table, "t"), stored=False).gates


def test_misspelt_limit_and_taken_name_are_refused():
    with pytest.raises(ValueError, match=r"regression\.max_slowdown"):
        parse({"regression": {"max_slowdown": 5}}, "t")
    taken = parse({"gates": {"regression-size": {"kind": "size", "min_reduction_pct": 1}}}, "t")
    with pytest.raises(ValueError, match="has a name that --baseline needs"):
        against_baseline(taken, stored=False)
