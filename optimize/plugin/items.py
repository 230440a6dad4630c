"""Which tests are of gates, and which gates they are of."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from optimize.settings.gates import gate_name
from optimize.settings.recipe import Settings

# A test that asks for one of these has the run judged.
JUDGING_FIXTURES = frozenset(
    (
        "report",
        "gate",
        "kit",
        "replay",
        "timings",
        "variants",
        "deployed_labels",
        "judged_labels",
        "shipped",
    )
)


class GateFailed(AssertionError):  # noqa: N818 — the word that the reader of a report looks for
    """A gate's verdict is not a pass."""


class GateInconclusive(GateFailed):
    """A gate could not be decided."""


class GateCase(NamedTuple):
    """A gate and the workload that it is decided on."""

    gate: str
    workload: str | None

    def __str__(self) -> str:
        return gate_name(self.gate, self.workload)


def gate_cases(settings: Settings) -> list[GateCase]:
    """Every gate of the settings on every workload that it judges."""
    workloads = tuple(settings.judge.workloads)
    return [
        GateCase(name, workload)
        for name, gate in settings.active_gates.items()
        for workload in gate.judged_workloads(workloads)
    ]


def case_of(item: pytest.Item) -> GateCase | None:
    """The gate that a test is of, if it is of one."""
    callspec = getattr(item, "callspec", None)
    case = callspec.params.get("gate_case") if callspec else None
    return case if isinstance(case, GateCase) else None


def judges(item: pytest.Item) -> bool:
    """Whether a test has the run judged: it is of a gate, or asks for a fixture of this plugin.

    A fixture of the same name that a test file has for itself is another one. One of a conftest is
    not: it would turn gates off for whole folders.
    """
    if case_of(item) is not None:
        return True
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    own = item.nodeid.partition("::")[0]
    given = getattr(getattr(item, "callspec", None), "params", {})  # by parametrize, and no fixture
    return any(
        not (name in known and known[name][-1].baseid.partition("::")[0] == own)
        for name in JUDGING_FIXTURES & set(getattr(item, "fixturenames", ())) - set(given)
    )
