"""What the command line says to machines, and at the end of each help."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from optimize.cli import main
from optimize.cli.arguments import build_parser
from optimize.cli.commands import RUNNERS
from optimize.cli.examples import EXAMPLES
from optimize.judge.stored import write_json

VERDICTS = {"pass": 0, "fail": 1, "inconclusive": 6}


@pytest.mark.parametrize("command", sorted(RUNNERS))
def test_each_help_ends_with_an_example_that_parses_and_the_exit_codes(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert EXAMPLES[command] in told
    assert "exit codes: 0" in told
    words = shlex.split(EXAMPLES[command].split(" > ")[0])
    assert words[0] == "optimize"
    assert build_parser(RUNNERS).parse_args(words[1:]).command == command


@pytest.mark.parametrize("verdict", sorted(VERDICTS))
def test_a_report_for_machines(canned_report, tmp_path, capsys, verdict):
    write_json(canned_report(verdict), tmp_path / "report.json")
    assert main(["report", str(tmp_path / "report.json"), "--json"]) == VERDICTS[verdict]
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == verdict
    assert [gate["gate"] for gate in found["gates"]] == ["size", "speed[typical]"]
    assert found["gates"][1]["verdict"] == verdict


def test_predictions_for_machines(tiny_kit, capsys):
    bundle = str(tiny_kit / "student-int8")
    assert main(["predict", bundle, "--json", "where is my parcel", "\x1b[31m"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["where is my parcel", "\x1b[31m"]
    assert all(len(row["labels"]) == 1 for row in rows)


@pytest.mark.torch
def test_a_check_for_machines(tiny_recipe, capsys):
    assert main(["check", "--recipe", str(tiny_recipe), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["texts"] == {"train": 48, "validation": 24, "test": 24}
    assert found["labels"] == ["cancel", "refund", "track"]


@pytest.mark.torch
def test_a_build_for_machines_tells_its_folders(
    tiny_recipe, tiny_kit, tiny_cache, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("optimize.pipeline.runner.default_root", lambda: tiny_cache)
    out = tmp_path / "kit"
    assert main(["build", "--recipe", str(tiny_recipe), "--out", str(out), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"kit": str(out), "bundle": str(out / "student-int8")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_command(shell, capsys):
    assert main(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert all(command in told for command in RUNNERS)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_offers_files_where_one_is_asked_for(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert ("_shtab_compgen_files" if shell == "bash" else "_files") in told
    if shell == "bash":
        assert "_shtab_optimize_report_pos_0_COMPGEN=_shtab_compgen_files" in told


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_an_encoding_lacks_loses_no_answer(tiny_kit, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    texts = ["refund 中", "track my order"]
    done = subprocess.run(
        [sys.executable, "-m", "optimize", "predict", str(tiny_kit / "student-int8"), *texts],
        env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode(encoding).splitlines()
    assert len(lines) == 2
    assert "\\u4e2d" in lines[0]


def test_who_has_read_enough_is_no_error():
    command = [sys.executable, "-m", "optimize", "schema", "report"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `head` would, after its lines
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_report_may_be_named_by_its_folder(canned_report, tmp_path, capsys):
    write_json(canned_report("pass"), tmp_path / "report.json")
    assert main(["report", str(tmp_path)]) == 0
    other = tmp_path / "other.json"
    write_json(canned_report("pass").model_copy(update={"recipe": "another"}), other)
    assert main(["report", str(tmp_path), str(other)]) == 1
    assert "a history is of one recipe" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["bad name!!", "nobody", "a/b/c"])
def test_a_repository_that_cannot_be_is_refused_before_anything_is_uploaded(tiny_kit, name, capsys):
    assert main(["push", str(tiny_kit / "student-int8"), name]) == 1
    told = capsys.readouterr()
    assert "nothing was uploaded" not in told.out
    assert name in told.err
