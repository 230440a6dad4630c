"""Makes texts.jsonl: requests that want one thing, two, or nothing that the service knows.

Each is made of utterances of the bundled sample, and split as they are.
"""

import json
import random
from importlib import resources
from pathlib import Path

SIZES = {"train": 2400, "validation": 600, "test": 800}
OUTSIDE = "oos"
TWO_SHARE = 0.5


def main() -> None:
    """Write them."""
    source = resources.files("optimize") / "sample" / "intents.jsonl"
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    rng = random.Random(0)
    with Path("texts.jsonl").open("w", encoding="utf-8") as stream:
        for split, size in SIZES.items():
            pool = [row for row in rows if row["split"] == split]
            for _ in range(size):
                parts = rng.sample(pool, 1 + (rng.random() < TWO_SHARE))
                labels = sorted({part["label"] for part in parts} - {OUTSIDE})
                text = " ".join(part["text"] for part in parts)
                stream.write(json.dumps({"split": split, "text": text, "label": labels}) + "\n")


if __name__ == "__main__":
    main()
