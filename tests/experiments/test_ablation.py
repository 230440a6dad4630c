"""The table of what each technique is worth."""

import pytest
from pydantic import ValidationError

from optimize.experiments.ablation import Plan, Score, main, table


def test_gains_are_over_the_first_line():
    found = {
        "base": [Score(0.90, 0.92, 0.5), Score(0.92, 0.94, 0.6)],
        "better": [Score(0.93, 0.94, 0.7), Score(0.93, 0.94, 0.8)],
    }
    _, _, base, better = table(found, (0, 1)).splitlines()
    assert base == "| base | 90.00 | 92.00 | 91.00 |  | 93.00 | 55.0 |"
    assert better == "| better | 93.00 | 93.00 | 93.00 | +2.00 | 94.00 | 75.0 |"


def test_every_line_is_trained_and_scored_on_validation(tiny_recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'recipe = "{tiny_recipe}"\nset = ["distill.epochs=1"]\n[lines]\n'
        '"taught" = []\n"labels alone" = ["distill.control=true"]\n',
        encoding="utf-8",
    )
    assert main([str(plan), "--seeds", "3"]) == 0
    printed = capsys.readouterr()
    assert [line.split("|")[1].strip() for line in printed.out.splitlines()[2:]] == [
        "taught",
        "labels alone",
    ]
    assert "taught: student: building" in printed.err
    assert "labels alone: student-undistilled: building" in printed.err


def test_a_plan_says_only_what_is_known(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text('recipe = "sample"\nlnes = {}\n', encoding="utf-8")
    with pytest.raises(ValidationError, match="lnes"):
        Plan.read(path)
