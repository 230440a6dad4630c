"""What the doctor says, and when it says that something is known to fail."""

from contextlib import nullcontext

import pytest

from optimize.cli import doctor, main


@pytest.mark.parametrize(("allowed", "answer"), [(True, "yes"), (False, "no")])
def test_it_says_what_a_verdict_hangs_on(allowed, answer, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("optimize.priority.real_time", lambda: nullcontext(allowed))
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
        f"workers are served before other processes: {answer}",
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
