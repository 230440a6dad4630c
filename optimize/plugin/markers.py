"""The options of the suite's markers; a word that is none of theirs is an error."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_args

import pytest

from optimize.settings.gates import Gate

Options = TypeVar("Options", bound="GatesMarker | WorkloadsMarker")
# The kinds of gates that there are, off their tables.
KINDS = frozenset(
    get_args(table.model_fields["kind"].annotation)[0] for table in get_args(get_args(Gate)[0])
)


@dataclass(frozen=True)
class GatesMarker:
    """``gates(*kinds, baseline=False, batched=None)``: run once for each of these gates.

    Attributes:
        kinds: of gates.
        baseline: those against a baseline, whatever their kind.
        batched: only on workloads of several texts a call, or only of one; all when absent.
    """

    kinds: tuple[str, ...] = ()
    baseline: bool = False
    batched: bool | None = None


@dataclass(frozen=True)
class WorkloadsMarker:
    """``workloads(batched=False)``: run once for each workload of one text a call, or several."""

    batched: bool = False


def gates_marker(node: pytest.Item | pytest.Function) -> GatesMarker | None:
    """The gates that a test asks for.

    Raises:
        pytest.UsageError: a word that is no option, or a kind that no gate has.
    """
    marker = node.get_closest_marker("gates")
    if marker is None:
        return None
    unknown = sorted(set(map(str, marker.args)) - KINDS)
    if unknown:
        raise pytest.UsageError(
            f"{node.nodeid}: gates({unknown[0]!r}): no such kind of gate; there are "
            f"{', '.join(sorted(KINDS))}"
        )
    return _options(node, marker, GatesMarker, kinds=tuple(marker.args))


def workloads_marker(node: pytest.Item | pytest.Function) -> WorkloadsMarker:
    """The workloads that a test asks for.

    Raises:
        pytest.UsageError: a word that is no option.
    """
    marker = node.get_closest_marker("workloads")
    if marker is None:
        return WorkloadsMarker()
    if marker.args:
        raise pytest.UsageError(f"{node.nodeid}: workloads() takes batched=True or batched=False")
    return _options(node, marker, WorkloadsMarker)


def _options(
    node: pytest.Item | pytest.Function,
    marker: pytest.Mark,
    kind: type[Options],
    **given: Any,
) -> Options:
    known = {each.name for each in fields(kind)} - given.keys()
    unknown = sorted(marker.kwargs.keys() - known)
    if unknown:
        raise pytest.UsageError(
            f"{node.nodeid}: {marker.name}({unknown[0]}=…): no such option; there are "
            f"{', '.join(sorted(known))}"
        )
    return kind(**given, **marker.kwargs)
