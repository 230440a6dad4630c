"""Write two public sets of intents as `optimize` reads them: BANKING77 and HWU64.

python results/other_sets.py CHECKOUTS OUT

CHECKOUTS is a folder that holds clones of

- PolyAI-LDN/task-specific-datasets: BANKING77 (Casanueva et al. 2020, CC BY 4.0), 77 intents, as it
  is split
- xliuhw/NLU-Evaluation-Data: HWU64 (Liu et al. 2019, CC BY 4.0), 64 intents, the first of ten folds

Both were chosen before a model had been trained on either. Neither has a split for validation:
`data.validation = 0.1` takes it from the training rows.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLD = "CrossValidation/KFold_1"
Row = tuple[str, str, str]


def banking(root: Path) -> Iterator[Row]:
    for split in ("train", "test"):
        path = root / "banking_data" / f"{split}.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                yield split, row["text"], row["category"]


def hwu(root: Path) -> Iterator[Row]:
    folds = root / "CrossValidation"
    (train,) = folds.glob(f"out4RasaReal/*/{FOLD}/merged/RasaNlu_Merged_*.json")
    for row in _json(train)["rasa_nlu_data"]["common_examples"]:
        yield "train", row["text"], row["intent"]
    for path in sorted(folds.glob(f"autoGeneFromRealAnno/*/{FOLD}/testset/annotated/*/*.json")):
        for row in _json(path)["test_data_annotation"]:
            yield "test", row["text"], row["intent"]


SETS = {
    "banking77": ("task-specific-datasets", banking),
    "hwu64": ("NLU-Evaluation-Data", hwu),
}


def main(checkouts: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, (folder, read) in SETS.items():
        rows = [
            {"split": split, "text": text, "label": label}
            for split, text, label in read(checkouts / folder)
            if text.strip()
        ]
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{name}: {len(rows):,} rows, {len({row['label'] for row in rows})} labels")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
