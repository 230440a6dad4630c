"""The kit: every variant, and the texts that they are judged on."""

from __future__ import annotations

import json
from pathlib import Path

from optimize.data.splits import Splits


def write_texts(splits: Splits, kit: Path) -> dict[str, str]:
    """The evaluation splits as JSON Lines; returns their paths in the kit."""
    (kit / "data").mkdir()
    paths = {}
    for name in ("validation", "test"):
        paths[name] = f"data/{name}.jsonl"
        with (kit / paths[name]).open("w", encoding="utf-8") as stream:
            for text, label in zip(splits[name].texts, splits[name].labels, strict=True):
                row = {"text": text, "label": splits.label_names[label]}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return paths
