"""What each node costs in INT8, as `optimize sensitivity --json` wrote it, for a report's page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from optimize.bundle.manifest import StoredError
from optimize.bundle.node_cost import NodeCost
from optimize.disk import read_regular
from optimize.judge.reports.tables import Table

LARGEST_BYTES = 16 << 20


def read_nodes(path: Path) -> list[NodeCost]:
    """The nodes of a file of `optimize sensitivity --json`, the dearest first.

    Raises:
        StoredError: it is no such file.
    """
    try:
        found = json.loads(read_regular(path, LARGEST_BYTES))["nodes"]
        nodes = [NodeCost(*(row[name] for name in NodeCost._fields)) for row in found]
        if not all(map(_whole, nodes)):
            raise ValueError
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise StoredError(
            f"{path} is not what `optimize sensitivity --json` writes; write it again: "
            f"optimize sensitivity --recipe RECIPE --json > {path}"
        ) from error
    return sorted(nodes, key=lambda each: -each.divergence)


def _whole(node: NodeCost) -> bool:
    words = isinstance(node.name, str) and isinstance(node.operator, str)
    counts = all(type(count) is int for count in (node.changed, node.saved_bytes))
    number = type(node.divergence) in (int, float) and math.isfinite(node.divergence)
    return words and counts and number


def node_table(nodes: Sequence[NodeCost]) -> Table:
    """One row a node."""
    head = ["node", "operator", "divergence, nats", "answers changed", "saves"]
    rows = [
        [
            node.name,
            node.operator,
            f"{node.divergence:.2e}",
            str(node.changed),
            f"{node.saved_bytes / 1e6:.2f} MB",
        ]
        for node in nodes
    ]
    return head, rows
