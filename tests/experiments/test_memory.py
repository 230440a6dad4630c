"""The script that measures peak memory by the number of texts."""

import pytest

from optimize.experiments.memory import BATCH, main, peak_in_a_process, synthetic_texts


def test_synthetic_texts_are_as_many_as_asked_for_and_differ():
    texts = list(synthetic_texts(500))
    assert len(texts) == 500
    assert len(set(texts)) > 400


@pytest.mark.slow
def test_thirteen_times_the_texts_take_no_more_memory():
    steps = 200_000 // BATCH
    small, large = peak_in_a_process(15_000, steps), peak_in_a_process(200_000, steps)
    assert large < 1.1 * small


@pytest.mark.slow
def test_command_prints_a_line_a_size(capsys):
    assert main(["--texts", "2000", "4000"]) == 0
    assert capsys.readouterr().out.count("MiB") == 2
