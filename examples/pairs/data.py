"""Makes texts.jsonl: pairs of utterances, and whether both want the same.

They are utterances of the bundled sample, and split as they are.
"""

import json
import random
from collections import defaultdict
from importlib import resources
from pathlib import Path

SIZES = {"train": 4000, "validation": 600, "test": 1000}


def main() -> None:
    """Write them."""
    source = resources.files("optimize") / "sample" / "intents.jsonl"
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    rng = random.Random(0)
    with Path("texts.jsonl").open("w", encoding="utf-8") as stream:
        for split, size in SIZES.items():
            pool = [row for row in rows if row["split"] == split and row["label"] != "oos"]
            by_label = defaultdict(list)
            for row in pool:
                by_label[row["label"]].append(row)
            for number in range(size):
                first = rng.choice(pool)
                same = number % 2 == 0
                second = rng.choice(by_label[first["label"]] if same else pool)
                row = {
                    "split": split,
                    "first": first["text"],
                    "second": second["text"],
                    "label": "same" if second["label"] == first["label"] else "other",
                }
                stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
