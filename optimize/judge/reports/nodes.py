"""What each node costs in INT8, as `optimize sensitivity --json` wrote it, for a report's page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from optimize.bundle.manifest import StoredError
from optimize.disk import read_regular
from optimize.judge.reports.tables import Table

LARGEST_BYTES = 16 << 20


class Node(NamedTuple):
    """One node in INT8, all others in fp32.

    Attributes:
        name: as ``quantize.exclude`` takes it.
        operator: its type.
        divergence: mean KL divergence of the answers from the fp32 model's, in nats.
        changed: texts that are answered otherwise.
        saved_bytes: that the model is smaller by.
    """

    name: str
    operator: str
    divergence: float
    changed: int
    saved_bytes: int


def read_nodes(path: Path) -> list[Node]:
    """The nodes of a file of `optimize sensitivity --json`, the dearest first.

    Raises:
        StoredError: it is no such file.
    """
    try:
        found = json.loads(read_regular(path, LARGEST_BYTES))["nodes"]
        nodes = [Node(*(row[name] for name in Node._fields)) for row in found]
        if not all(map(_whole, nodes)):
            raise ValueError
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise StoredError(
            f"{path} is not what `optimize sensitivity --json` writes; write it again: "
            f"optimize sensitivity --recipe RECIPE --json > {path}"
        ) from error
    return sorted(nodes, key=lambda each: -each.divergence)


def _whole(node: Node) -> bool:
    words = isinstance(node.name, str) and isinstance(node.operator, str)
    counts = all(type(count) is int for count in (node.changed, node.saved_bytes))
    number = type(node.divergence) in (int, float) and math.isfinite(node.divergence)
    return words and counts and number


def node_table(nodes: Sequence[Node]) -> Table:
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
