"""The public utterances: all four sources are read, and no text of the evaluation gets in."""

import csv
import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "results" / "utterances.py"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def checkouts(tmp_path):
    """One utterance or more of each source, in that source's own layout."""
    tasks = tmp_path / "task-specific-datasets"
    for name, text in (("train", "I lost my card!"), ("test", "where  is it now")):
        path = tasks / "banking_data" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([("text", "category"), (text, "lost_card")])
    write(tasks / "nlupp/data/hotels/fold0.json", [{"text": "a room for two", "intents": []}])
    write(
        tasks / "span_extraction/restaurant8k/test.json", [{"userInput": {"text": "at seven pm"}}]
    )
    snips = {"RateBook": [{"data": [{"text": "rate "}, {"text": "this book"}]}]}
    write(
        tmp_path / "nlu-benchmark/2017-06-custom-intent-engines/RateBook/train_RateBook_full.json",
        snips,
    )
    folds = tmp_path / "NLU-Evaluation-Data/CrossValidation/out4RasaReal/a/CrossValidation/KFold_1"
    examples = [{"text": "make the lights red"}, {"text": "RATE THIS BOOK."}, {"text": "too short"}]
    write(
        folds / "merged/RasaNlu_Merged_KFold_1.json",
        {"rasa_nlu_data": {"common_examples": examples}},
    )

    def turn(speaker, act, text):
        return {"speaker": speaker, "frames": [{"actions": [{"act": act}]}], "utterance": text}

    turns = [
        turn("USER", "INFORM_INTENT", "find me a bus"),
        turn("SYSTEM", "INFORM_INTENT", "which city is it"),
        turn("USER", "AFFIRM", "yes that is right"),
    ]
    write(
        tmp_path / "dstc8-schema-guided-dialogue/train/dialogues_001.json",
        [{"dialogue_id": "1", "turns": turns}],
    )
    return tmp_path


def test_utterances_of_all_sources_and_none_of_the_evaluation(checkouts, tmp_path, capsys):
    clinc, out = tmp_path / "clinc.json", tmp_path / "out.txt"
    write(clinc, {"train": [], "test": [["i lost my card", "lost"]], "oos_test": []})
    runpy.run_path(str(SCRIPT))["main"](checkouts, clinc, out)
    assert out.read_text().splitlines() == [
        "where is it now",
        "a room for two",
        "at seven pm",
        "rate this book",
        "make the lights red",
        "find me a bus",
    ]
    assert "task-specific-datasets: 3" in capsys.readouterr().out
