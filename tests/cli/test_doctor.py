"""What the doctor says, and when it says that something is known to fail."""

import pytest

from optimize.cli import doctor, main


@pytest.fixture(autouse=True)
def _no_priority(monkeypatch):
    """It would be this very process that other tests then run in."""
    monkeypatch.setattr("optimize.priority.take_priority", lambda: False)


def test_it_says_what_a_verdict_hangs_on(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "KNOWN_BAD", ())
    assert main(["doctor", "--seconds", "0.1"]) == 0
    told = capsys.readouterr().out
    for words in (
        "cores this process may use",
        "INT8 by",
        "onnxruntime: ",
        "cache: 0 stages",
        "noise:",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ({"transformers": "5.2.0", "optimum": "2.1.0"}, ["optimum allows no transformers 5"]),
        ({"transformers": "4.57.6", "optimum": "2.1.0"}, []),
        ({"numpy": "2.1", "onnxruntime": "1.18.1"}, ["onnxruntime 1.18 was built against numpy 1"]),
        ({"numpy": "2.1", "onnxruntime": "1.20.1"}, []),
    ],
)
def test_known_bad_combinations(monkeypatch, versions, found):
    monkeypatch.setattr(doctor, "_version", versions.get)
    told = list(doctor._known_bad())
    assert len(told) == len(found)
    assert all(words in line for words, line in zip(found, told, strict=True))
