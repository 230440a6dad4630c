"""What a search leaves of the recipe that it began from."""

import pytest

from optimize.cli import main


@pytest.mark.parametrize("command", ["search", "tune"])
def test_a_recipe_is_not_written_over_the_one_that_it_extends(command, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('extends = "sample"\n')
    out = tmp_path if command == "search" else recipe
    assert main([command, "--recipe", str(recipe), "--out", str(out)]) != 0
    assert "is a recipe that this begins from" in capsys.readouterr().err
    assert recipe.read_text() == 'extends = "sample"\n'


@pytest.mark.parametrize("command", ["search", "tune"])
def test_nor_over_one_that_is_extended_in_turn(command, tmp_path, capsys):
    below = tmp_path / "recipe.toml"
    below.write_text('extends = "sample"\n')
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f"extends = '{below}'\n")
    out = tmp_path if command == "search" else below
    assert main([command, "--recipe", str(recipe), "--out", str(out)]) != 0
    assert f"{below} is a recipe that this begins from" in capsys.readouterr().err
    assert below.read_text() == 'extends = "sample"\n'


@pytest.mark.parametrize("target", ["base.toml", "pyproject.toml"])
def test_nor_over_the_projects_own(target, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.toml").write_text('extends = "sample"\n')
    (tmp_path / "pyproject.toml").write_text("[tool.optimize]\nextends = 'base.toml'\n")
    before = (tmp_path / target).read_text()
    assert main(["tune", "--out", target]) != 0
    assert f"{target} is a recipe that this begins from" in capsys.readouterr().err
    assert (tmp_path / target).read_text() == before


@pytest.mark.parametrize(
    ("command", "words"),
    [("search", "cannot be written"), ("tune", "is a folder; name the recipe that is written")],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(command, words, tmp_path, capsys):
    place = tmp_path / "place"
    if command == "search":
        place.write_text("a file of that name")
    else:
        place.mkdir()
    assert main([command, "--out", str(place)]) == 1
    assert words in capsys.readouterr().err
