"""The script that measures a cold start against a pipeline's."""

import pytest

from optimize.experiments.cold_start import CLASSIFIER, first_answer, main


@pytest.mark.slow
def test_both_sides_answer_in_processes_of_their_own(tiny_kit, capsys):
    assert main([str(tiny_kit), "--runs", "1"]) == 0
    ours, theirs, ratios = capsys.readouterr().out.splitlines()
    assert ours.startswith("Classifier, INT8")
    assert theirs.startswith("transformers.pipeline")
    assert "medians of 1 processes each" in ratios


def test_a_side_that_gives_no_answer_says_why(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)no answer from .*no manifest.json"):
        first_answer(CLASSIFIER, tmp_path, "any")
