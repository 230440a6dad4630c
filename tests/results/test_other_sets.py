"""Two public sets of intents: both are read in their own layout, each row with its split."""

import csv
import json
import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "results" / "other_sets.py"


def test_rows_have_their_splits(tmp_path, capsys):
    banking = tmp_path / "task-specific-datasets" / "banking_data"
    folds = tmp_path / "NLU-Evaluation-Data" / "CrossValidation"
    banking.mkdir(parents=True)
    for split in ("train", "test"):
        with (banking / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "category"), (f"a {split}, twice", "top_up")])
    for fold in (1, 10):  # the tenth's name begins as the first's
        name = f"CrossValidation/KFold_{fold}"
        train = folds / f"out4RasaReal/t/{name}/merged/RasaNlu_Merged_1.json"
        test = folds / f"autoGeneFromRealAnno/t/{name}/testset/annotated/a/a.json"
        for path, content in (
            (train, {"rasa_nlu_data": {"common_examples": [{"text": f"t{fold}", "intent": "a"}]}}),
            (test, {"test_data_annotation": [{"text": f"v{fold}", "intent": "a"},
                                             {"text": " ", "intent": "a"}]}),
        ):  # fmt: skip
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(content))
    runpy.run_path(str(SCRIPT))["main"](tmp_path, tmp_path / "out")
    found = {
        name: [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").open()]
        for name in ("banking77", "hwu64")
    }
    assert [(row["split"], row["text"]) for row in found["banking77"]] == [
        ("train", "a train, twice"), ("test", "a test, twice"),
    ]  # fmt: skip
    assert [(row["split"], row["text"]) for row in found["hwu64"]] == [
        ("train", "t1"), ("test", "v1"),
    ]  # fmt: skip
    assert "hwu64: 2 rows, 1 labels" in capsys.readouterr().out
