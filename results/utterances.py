"""Write the unlabelled utterances that clinc-full-utterances learns from, out of four public sets.

python results/utterances.py CHECKOUTS CLINC150.json OUT.txt

CHECKOUTS is a folder that holds clones of

- PolyAI-LDN/task-specific-datasets: BANKING77, NLU++, Restaurant8k (CC BY 4.0)
- sonos/nlu-benchmark: SNIPS (CC0)
- xliuhw/NLU-Evaluation-Data: HWU64, its folds as RASA files (CC BY 4.0)
- google-research-datasets/dstc8-schema-guided-dialogue: what users ask for (CC BY-SA 4.0)

No label of theirs is read. A text that CLINC150 has in any split, but for case and punctuation, is
left out: nothing of validation or test gets into training.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = range(3, 26)


def banking(root: Path) -> Iterator[str]:
    for name in ("train.csv", "test.csv"):
        with (root / "banking_data" / name).open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                yield row["text"]
    for path in sorted((root / "nlupp/data").glob("*/fold*.json")):
        for row in _json(path):
            yield row["text"]
    for path in sorted((root / "span_extraction/restaurant8k").glob("*.json")):
        for row in _json(path):
            yield row["userInput"]["text"]


def snips(root: Path) -> Iterator[str]:
    for path in sorted(root.glob("2017-06-custom-intent-engines/*/train_*_full.json")):
        (rows,) = _json(path).values()
        for row in rows:
            yield "".join(piece["text"] for piece in row["data"])


def hwu(root: Path) -> Iterator[str]:
    for path in sorted(
        root.glob("CrossValidation/out4RasaReal/*/*/*/merged/RasaNlu_Merged_*.json")
    ):
        for row in _json(path)["rasa_nlu_data"]["common_examples"]:
            yield row["text"]


def dialogues(root: Path) -> Iterator[str]:
    for path in sorted(root.glob("*/dialogues_*.json")):
        for dialogue in _json(path):
            for turn in dialogue["turns"]:
                acts = {action["act"] for frame in turn["frames"] for action in frame["actions"]}
                if turn["speaker"] == "USER" and "INFORM_INTENT" in acts:
                    yield turn["utterance"]


SOURCES = {
    "task-specific-datasets": banking,
    "nlu-benchmark": snips,
    "NLU-Evaluation-Data": hwu,
    "dstc8-schema-guided-dialogue": dialogues,
}


def plain(text: str) -> str:
    """The words of a text alone: what makes two texts the same."""
    return " ".join(re.findall(r"\w+", text.casefold().replace("'", "")))


def main(checkouts: Path, clinc: Path, out: Path) -> None:
    seen = {plain(text) for rows in _json(clinc).values() for text, _ in rows}
    texts: list[str] = []
    for name, read in SOURCES.items():
        before = len(texts)
        for text in read(checkouts / name):
            key = plain(text)
            if key not in seen and len(key.split()) in WORDS:
                seen.add(key)
                texts.append(" ".join(text.split()))
        print(f"{name}: {len(texts) - before}")
    out.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def _json(path: Path) -> Any:
    try:  # a few files of SNIPS are not UTF-8
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return json.loads(path.read_text(encoding="latin-1"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
