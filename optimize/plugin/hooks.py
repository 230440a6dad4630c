"""The pytest plugin: options, parameters, fixtures, verdicts and the closing table.

Loaded by the root conftest.py, or with ``pytest -p optimize.plugin`` in a suite of one's own.
A test marked ``gates("size")`` runs once for every gate of that kind and workload.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from optimize.escape import for_terminal
from optimize.plugin.items import GateCase, GateFailed, GateInconclusive, gate_cases
from optimize.plugin.markers import GatesMarker, gates_marker, workloads_marker
from optimize.plugin.session import SESSION_NAME, Session, session_of
from optimize.settings.gates import BASELINE
from optimize.settings.recipe import Settings

if TYPE_CHECKING:
    from optimize.judge.kit import Kit
    from optimize.judge.records import Report, Timing

SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the suite."""
    group = parser.getgroup("optimize", "judging a text classifier")
    group.addoption("--recipe", help="shipped recipe or TOML file, instead of [tool.optimize]")
    group.addoption("--kit", type=Path, help="judge this kit instead of building one")
    group.addoption("--bundle", type=Path, help="bundle to judge in place of the kit's INT8 model")
    group.addoption(
        "--python",
        metavar="INTERPRETER",
        help="run the ONNX models under it: another onnxruntime, with the base layer alone",
    )
    group.addoption(
        "--baseline",
        metavar="FILE|BUNDLE|git:REV",
        help="report, bundle or revision that this one must not be worse than ([regression])",
    )
    group.addoption("--quick", action="store_true", help="three replicates, for a laptop")
    group.addoption("--out", type=Path, help="write report.json and report.md into this folder")
    group.addoption(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting, e.g. judge.threads=1",
    )
    group.addoption(
        "--inconclusive",
        choices=("fail", "warn", "pass"),
        help="what an undecided gate does; by default the run exits with 6",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the session's state and the markers."""
    config.addinivalue_line(
        "markers",
        "gates(*kinds, baseline=False, batched=None): run once for each gate of these kinds, or of "
        "--baseline",
    )
    config.addinivalue_line("markers", "workloads(batched=False): run once for each workload")
    config.stash[SESSION] = Session(config)
    config.pluginmanager.register(config.stash[SESSION], SESSION_NAME)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, int | pytest.ExitCode]:
    """The exit code, after everything that pytest, plugins and conftests have done to it."""
    left: SystemExit | None = None
    try:
        code = int((yield) or 0)
    except SystemExit as error:  # raised in a hook, past pytest's own end
        left = error
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    # Not by its name: something may have taken it away.
    settled = config.stash[SESSION].last_word(code)
    if settled != code:
        sys.stderr.write(f"optimize: the run ends with {settled}; something had made it {code}\n")
    elif left is not None:  # of whoever raised it, with what it says
        raise left
    return settled


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise by the gates, variants and workloads of the settings."""
    names = set(metafunc.fixturenames) - _parametrised_by_itself(metafunc)
    if not {"gate_case", "variant", "workload"} & names:
        return
    state = session_of(metafunc.config)
    settings = state.settings
    if settings is None:
        return
    if "gate_case" in names:
        marker = gates_marker(metafunc.definition)
        cases: list[Any] = list(_gate_cases(settings, marker))
        if not cases and marker is not None and marker.baseline:
            # pytest's own way of a test without cases says nothing of the reason.
            why = "no --baseline FILE, BUNDLE or git:REV was given"
            cases = [pytest.param(None, id="no-baseline", marks=pytest.mark.skip(reason=why))]
        ids = [None if not isinstance(case, GateCase) else str(case) for case in cases]
        metafunc.parametrize("gate_case", cases, ids=ids)
    if "workload" in names:
        batched = workloads_marker(metafunc.definition).batched
        names_there = settings.judge.workloads
        chosen = [name for name in names_there if _is_batched(settings, name) == batched]
        metafunc.parametrize("workload", chosen)
    if "variant" in names:
        metafunc.parametrize("variant", state.judging.timed_variants)


def _parametrised_by_itself(metafunc: pytest.Metafunc) -> set[str]:
    """Names that a test of the user's own suite gives values to: they are none of ours."""
    names: set[str] = set()
    for mark in metafunc.definition.iter_markers("parametrize"):
        given = mark.args[0] if mark.args else mark.kwargs["argnames"]
        names |= set(given.replace(",", " ").split() if isinstance(given, str) else given)
    return names


def _gate_cases(settings: Settings, marker: GatesMarker | None) -> list[GateCase]:
    if marker is None:
        return []
    return [
        case
        for case in gate_cases(settings)
        for gate in [settings.gates[case.gate]]
        if (gate.reference == BASELINE) == marker.baseline
        if marker.baseline or gate.kind in marker.kinds
        if marker.batched is None or _is_batched(settings, case.workload) == marker.batched
    ]


def _is_batched(settings: Settings, workload: str | None) -> bool:
    return workload is not None and settings.judge.workloads[workload].batch_size > 1


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """The whole run: built, measured and decided once a session."""
    state = session_of(request.config)
    return state.judging.report


@pytest.fixture(scope="session")
def kit(request: pytest.FixtureRequest) -> Kit:
    """The kit under judgement: its variants' folders, and the texts."""
    state = session_of(request.config)
    return state.judging.kit


@pytest.fixture(scope="session")
def deployed_labels(report: Report, kit: Kit) -> Callable[[str], list[str]]:
    """Call it with an ONNX variant: the labels that :class:`optimize.Classifier` gives.

    In a process of its own, as where it is deployed, one text at a time, to the judged split.
    """
    from optimize.judge.workers.deployed import labels_of

    def ask(variant: str) -> list[str]:
        if kit.variants[variant].manifest.format != "onnx":
            pytest.skip(f"{variant} is no bundle: optimize.Classifier does not read it")
        texts = kit.examples(report.split).texts
        return labels_of(kit.variants[variant], texts, report.fingerprint.threads)

    return ask


@pytest.fixture(scope="session")
def shipped(report: Report) -> str:
    """The variant that one ships: ``regression.candidate``."""
    name = str(report.settings["regression"]["candidate"])
    if name not in report.variants:
        pytest.skip(f"regression.candidate {name!r} is not one of judge.variants")
    return name


@pytest.fixture(scope="session")
def judged_labels(report: Report) -> Callable[[str], list[str]]:
    """Call it with a variant: the labels that were scored, by name, text by text."""

    def told(variant: str) -> list[str]:
        answers = report.predictions[report.split][variant]
        return [report.label_names[label] for label in answers.labels]

    return told


@pytest.fixture(scope="session")
def check_controls(report: Report) -> Callable[[Callable[[str], None]], None]:
    """Call it with ``undecided``: tells of each A/A control that is off or could not be measured.

    A control that is off is a warning: every interval is widened by it already.
    """
    from optimize.judge.gates.control import widening_of
    from optimize.judge.reports.tables import control_words

    def check(undecided: Callable[[str], None]) -> None:
        if not report.controls:
            raise GateFailed("the A/A control was not measured")
        for control in report.controls:
            if not math.isfinite(widening_of(control)):
                undecided(control_words(control))
            elif not control.holds:
                _warn(control_words(control))

    return check


@pytest.fixture(scope="session")
def timings(report: Report) -> Timing:
    """All times of the run."""
    return report.timing


@pytest.fixture(scope="session")
def variants(report: Report) -> dict[str, Any]:
    """Facts of every variant, by name."""
    return dict(report.variants)


@pytest.fixture
def gate(
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    undecided: Callable[[str], None],
) -> Callable[[GateCase], None]:
    """Call it with a gate case: passes, or fails the test with the gate's own line."""
    state = session_of(request.config)

    def assert_gate(case: GateCase) -> None:
        from optimize.judge.reports.tables import complaint

        result = state.result(case)
        for key in ("verdict", "measured", "limit", "reason"):
            record_property(key, getattr(result, key))
        if result.verdict == "fail":
            raise GateFailed(for_terminal(complaint(result)))
        if result.verdict == "inconclusive":
            undecided(for_terminal(complaint(result)))

    return assert_gate


@pytest.fixture
def undecided(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with a line that says what cannot be decided; ``--inconclusive`` says what then."""
    policy = request.config.getoption("inconclusive")

    def tell(line: str) -> None:
        if policy == "warn":
            _warn(line)
        elif policy == "fail":
            raise GateFailed(line)
        elif policy is None:
            raise GateInconclusive(line)

    return tell


class VerdictWarning(UserWarning):
    """What a verdict says that is no failure."""


def _warn(line: str) -> None:
    """Warn, and no more: a suite that makes errors of warnings must not make verdicts of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", VerdictWarning)
        warnings.warn(line, VerdictWarning, stacklevel=4)


class ReplayClock:
    """A timer that reads back recorded durations.

    ``benchmark.pedantic`` reads its timer twice a round: 0, then the duration, so that the
    round's figure is exactly the recorded one.
    """

    def __init__(self, durations_s: Iterator[float]) -> None:
        self._durations = durations_s
        self._started = False

    def __call__(self) -> float:
        """0 at a round's start, the recorded duration at its end."""
        self._started = not self._started
        return 0.0 if self._started else next(self._durations)


@pytest.fixture
def replay(report: Report, benchmark: Any) -> Callable[[str, str], None]:
    """Call it with workload and variant: pytest-benchmark shows the interleaved samples."""

    def show(workload: str, variant: str) -> None:
        facts = report.variants.get(variant)
        if facts is None or facts.missing is not None:
            pytest.skip(f"{variant}: {'not in the kit' if facts is None else facts.missing}")
        series = report.timing.series[workload][variant]
        samples = [second for blocks in series.blocks_s for second in blocks]
        if not samples:  # as in reports of earlier versions
            pytest.skip(f"{variant} on {workload}: every block was disturbed, none was kept")
        benchmark.group = workload
        benchmark._timer = ReplayClock(iter(samples))
        benchmark.extra_info.update(_extra_info(report, workload, variant))
        benchmark.pedantic(lambda: None, rounds=len(samples))

    return show


def _extra_info(report: Report, workload: str, variant: str) -> dict[str, Any]:
    series = report.timing.series[workload][variant]
    gates = [
        result.model_dump(include={"gate", "verdict", "value", "interval", "limit_value"})
        for result in report.gates
        if result.workload == workload and result.candidate == variant
    ]
    return {"p50_ms": series.p50_ms, "p95_ms": series.p95_ms, "mode": report.mode, "gates": gates}
