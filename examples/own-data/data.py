"""Makes questions.csv, a table as one has it: two columns of one's own names, and no splits.

Its rows are the bundled sample's.
"""

import csv
import json
from importlib import resources
from pathlib import Path


def main() -> None:
    """Write it."""
    source = resources.files("optimize") / "sample" / "intents.jsonl"
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    with Path("questions.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["question", "topic"])
        writer.writerows((row["text"], row["label"]) for row in rows)


if __name__ == "__main__":
    main()
