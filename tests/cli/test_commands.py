import io
import re
import shutil
import subprocess
import sys
from itertools import count

import pytest

import optimize
from optimize import Classifier
from optimize.cli import main
from optimize.cli.arguments import build_parser, every_command
from optimize.cli.commands import RUNNERS
from optimize.judge.reports.render import write_report
from optimize.judge.stored import read_report, write_json
from optimize.pipeline import runner as pipeline
from optimize.settings.load import load, shipped_recipes

TEXTS = ["where is my parcel", "refund my money"]


@pytest.fixture
def ready(monkeypatch, tiny_kit):
    """A build that is done at once, and the names of the recipes that it was asked for."""
    asked = []

    def build(settings, tell, cache_root=None, profile=None):
        asked.append(settings.name)
        return tiny_kit

    monkeypatch.setattr(pipeline, "build", build)
    return asked


def answers(bundle, texts):
    classifier = Classifier(bundle)
    found = [classifier.predict([text])[0] for text in texts]
    return [f"{p.label}\t{p.probability:.4f}\t{t}" for p, t in zip(found, texts, strict=True)]


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    for command in ("run", "build", "report", "baseline", "schema", "check", "predict"):
        assert re.search(rf"^    {command} ", told, re.MULTILINE)


@pytest.mark.parametrize("command", [name for name, *_ in every_command(build_parser(RUNNERS))])
def test_help_of_a_command(capsys, command):
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: optimize {command} ")
    assert f"example:\n  optimize {command.split()[0]} " in told
    assert "exit codes: 0 " in told


def test_version(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"{optimize.__version__}\n"


@pytest.mark.parametrize("argv", [[], ["frobnicate"], ["predict"], ["check", "--quick"]])
def test_bad_usage(capsys, argv):
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: optimize")


def test_help_imports_neither_torch_nor_scipy():
    code = (
        "import sys\nfrom optimize.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('torch', 'transformers', 'scipy', 'pytest') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("usage: optimize ")
    assert run.stdout.endswith("\n[]\n")


def test_run_as_a_module():
    command = [sys.executable, "-m", "optimize", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == f"{optimize.__version__}\n"


def test_check(capsys, tiny_recipe):
    assert main(["check", "--recipe", str(tiny_recipe)]) == 0
    told = capsys.readouterr().out.splitlines()
    (cost,) = [line for line in told if line.startswith("cost: ")]
    assert cost.startswith(
        "cost: a build trains the teacher on 768 examples, scores 48 texts and trains the student "
        "on 576: about 1 minute here"
    )
    assert [line for line in told if line != cost] == [
        f"settings: recipe {tiny_recipe}",
        "data: 48 train, 24 validation, 24 test texts; 3 labels",
        "  label        train  validation        test",
        *(
            f"  {label:6}          16           8           8"
            for label in ("cancel", "refund", "track")
        ),
        "gates: none",
    ]


def test_check_tells_the_gates_and_the_overrides(capsys, tiny_recipe):
    gate = "gates.small={kind='size', min_reduction_pct=1}"
    assert main(["check", "--recipe", str(tiny_recipe), "--set", gate]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"settings: recipe {tiny_recipe}, {gate}"
    assert told[-1] == "gates: small"


def test_check_refuses_data_that_are_not_there(capsys, tiny_recipe, tmp_path):
    argv = ["check", "--recipe", str(tiny_recipe), "--set", f"data.source={tmp_path / 'no.jsonl'}"]
    assert main(argv) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("optimize: ")
    assert "no.jsonl' does not exist" in told.err


@pytest.mark.parametrize("command", ["run", "build", "check"])
def test_unknown_recipe(capsys, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    assert main([command, "--recipe", "smaple"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("optimize: no recipe 'smaple': ")
    assert line.endswith(f"not one of the shipped recipes {', '.join(shipped_recipes())}")
    assert list(tmp_path.iterdir()) == []


def test_unknown_setting(capsys, tiny_recipe):
    argv = ["check", "--recipe", str(tiny_recipe), "--set", "distill.epoch=3"]
    assert main(argv) == 1
    assert "distill.epoch: Extra inputs are not permitted (given: 3)" in capsys.readouterr().err


def test_predict_arguments(capsys, tiny_kit):
    bundle = tiny_kit / "student-int8"
    assert main(["predict", str(bundle), *TEXTS]) == 0
    assert capsys.readouterr().out.splitlines() == answers(bundle, TEXTS)


def test_predict_standard_input(capsys, monkeypatch, tiny_kit):
    bundle = tiny_kit / "student-int8"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{TEXTS[0]}\n\n   \n{TEXTS[1]}"))
    assert main(["predict", str(bundle)]) == 0
    assert capsys.readouterr().out.splitlines() == answers(bundle, TEXTS)


def test_predict_nothing(capsys, monkeypatch, tiny_kit):
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["predict", str(tiny_kit / "student-int8")]) == 0
    assert capsys.readouterr().out == ""


def test_predict_without_a_bundle(capsys, tmp_path):
    assert main(["predict", str(tmp_path), "hello"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"optimize: not a bundle: {tmp_path} has no manifest.json. ")


def test_report_that_is_not_there(capsys, tmp_path):
    assert main(["report", str(tmp_path / "report.json")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"optimize: {tmp_path} has no report.json. Judge again: `pytest benchmarks --out DIR`."
    )


def test_build_writes_a_kit(capsys, ready, tiny_kit, tiny_recipe, tmp_path):
    out = tmp_path / "kit"
    assert main(["build", "--recipe", str(tiny_recipe), "--out", str(out)]) == 0
    assert ready == ["tiny"]
    assert contents(out) == contents(tiny_kit)
    assert list(tmp_path.iterdir()) == [out]
    assert capsys.readouterr().out == f"kit: {out}\nbundle: {out / 'student-int8'}\n"
    assert main(["predict", str(out / "student-int8"), "stop"]) == 0


def test_built_kit_shares_no_file_with_the_cache(ready, tiny_kit, tiny_recipe, tmp_path):
    out = tmp_path / "kit"
    assert main(["build", "--recipe", str(tiny_recipe), "--out", str(out)]) == 0
    before = contents(tiny_kit)
    (out / "student-int8" / "model.onnx").write_bytes(b"changed")
    assert contents(tiny_kit) == before


def test_build_replaces_an_older_kit(ready, tiny_kit, tiny_recipe, tmp_path):
    out = shutil.copytree(tiny_kit, tmp_path / "kit")
    (out / "student-int8" / "model.onnx").write_bytes(b"old")
    (out / "student-older").mkdir()
    assert main(["build", "--recipe", str(tiny_recipe), "--out", str(out)]) == 0
    assert contents(out) == contents(tiny_kit)
    assert not (out / "student-older").exists()
    assert list(tmp_path.iterdir()) == [out]


def test_build_refuses_a_folder_that_is_no_kit(capsys, ready, tiny_recipe, tmp_path):
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    assert main(["build", "--recipe", str(tiny_recipe), "--out", str(out)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        f"optimize: {out} exists and is not a kit; choose another folder with --out\n"
    )
    assert contents(out) == {(out / "thesis.txt").relative_to(out): b"years of work"}


def test_missing_extra_is_named(capsys, monkeypatch, tiny_recipe):
    monkeypatch.setitem(sys.modules, "optimize.pipeline.runner", None)
    assert main(["build", "--recipe", str(tiny_recipe)]) == 1
    told = capsys.readouterr().err
    assert "the command 'build' needs an extra: `pip install optimize[build]`" in told


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [("sensitivity", "matplotlib", "plot"), ("adopt", "onnx", "build"), ("tune", "optuna", "tune")],
)
def test_the_extra_is_that_of_the_missing_module(command, module, extra, monkeypatch, capsys):
    def absent(arguments):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setitem(RUNNERS, command, absent)
    words = {"adopt": ["folder", "--out", "x"]}.get(command, [])
    assert main([command, *words]) == 1
    assert f"`pip install optimize[{extra}]`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("my recipe.toml", "my-recipe"),
        ("recipe (1).toml", "recipe-1"),
        ("entwürfe.toml", "entwurfe"),
        ("_draft.toml", "draft"),
        ("配方.toml", "recipe"),
        ("v1.2_a.toml", "v1.2_a"),
    ],
)
def test_a_recipe_is_named_after_its_file_whatever_that_is_called(tmp_path, file, name):
    (tmp_path / file).write_text('extends = "sample"\n', encoding="utf-8")
    assert load(str(tmp_path / file))[0].name == name


def test_interrupt(capsys, monkeypatch, tiny_recipe):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "build", interrupted)
    assert main(["build", "--recipe", str(tiny_recipe)]) == 130
    assert capsys.readouterr().err.startswith("interrupted; run the same command again")


def test_refused_build_leaves_nothing(tiny_kit, tmp_path, monkeypatch):
    from optimize.pipeline import runner as pipeline

    monkeypatch.setattr(pipeline, "build", lambda *_: tiny_kit)
    (tmp_path / "home").mkdir()
    assert main(["build", "--out", str(tmp_path / "home")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_baseline_that_did_not_pass_is_not_saved(canned_report, tmp_path, capsys, verdict):
    write_json(canned_report(verdict), tmp_path / "report.json")
    target = tmp_path / "baseline.json"
    assert main(["baseline", "save", str(tmp_path), "--out", str(target)]) == 1
    assert not target.exists()
    told = capsys.readouterr().err
    assert f"is not a pass ({verdict})" in told
    assert "speed[typical]: 1.5×" in told


def predicted(tiny_kit, content):
    return subprocess.run(
        [sys.executable, "-m", "optimize", "predict", str(tiny_kit / "student-int8")],
        input=content, capture_output=True, check=False,
    )  # fmt: skip


def test_predict_survives_any_bytes_and_names_the_line(tiny_kit):
    content = b"\xef\xbb\xbfwhere is it\r\n\r\n\xff\xfe\nwhere is it\n\xed\xa0\x80\n\x1b[31m it\n"
    done = predicted(tiny_kit, content)
    assert done.returncode == 1
    one, same, red = done.stdout.decode().splitlines()
    assert one == same
    assert one.endswith("\twhere is it")
    assert red.endswith("\t\\x1b[31m it")
    told = done.stderr.decode().splitlines()
    assert [line.split(": ")[1] for line in told] == ["line 3", "line 5"]


def test_predict_of_plain_lines(tiny_kit):
    done = predicted(tiny_kit, "where is it\nnée 🙂".encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines()[1].endswith("\tnée 🙂")


@pytest.mark.parametrize("command", [["predict", "x", "--what", "text"], ["cache", "extra"]])
def test_what_nobody_asked_for_is_a_mistake_of_usage(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


class TestRunsOfABaseline:
    @pytest.fixture
    def measure(self, canned_report, monkeypatch):
        """Runs that pass but for those of these numbers; each took another time."""

        def answer(*undecided):
            def judge(self, tell):
                report = canned_report("inconclusive" if next(numbers) in undecided else "pass")
                seconds = report.timing.seconds + next(takes)
                timing = report.timing.model_copy(update={"seconds": seconds})
                return None, report.model_copy(update={"timing": timing})

            numbers, takes = count(1), count(1)
            monkeypatch.setattr("optimize.judge.request.JudgedRun.judge", judge)
            monkeypatch.setattr("optimize.judge.stored.check_verdicts", lambda *_: None)

        return answer

    def test_are_kept_in_a_folder_that_was_not_there(self, measure, tmp_path, capsys):
        measure()
        target = tmp_path / "ci" / "baseline.json"
        assert main(["baseline", "save", "--runs", "3", "--out", str(target)]) == 0
        assert len(read_report(target).runs) == 2
        assert list(target.parent.iterdir()) == [target]
        assert "(3 runs, " in capsys.readouterr().out

    def test_nothing_is_measured_for_a_place_that_is_a_folder(self, measure, tmp_path, capsys):
        measure()
        assert main(["baseline", "save", "--runs", "1", "--out", str(tmp_path)]) == 1
        assert "is a folder; give a file with --out" in capsys.readouterr().err

    def test_one_that_does_not_pass_loses_no_other(self, measure, tmp_path, capsys):
        measure(3)
        target = tmp_path / "baseline.json"
        command = ["baseline", "save", "--out", str(target), "--runs", "3"]
        assert main(command) == 1
        told = capsys.readouterr().err
        kept = [str(tmp_path / f"baseline-run-{number}.json") for number in (1, 2)]
        assert "run 3 is not a pass (inconclusive)" in told
        assert f"{' '.join(kept)} --runs 1" in told
        assert sorted(map(str, tmp_path.glob("*.json"))) == kept
        assert main([*command[:-1], "1", *kept]) == 0
        assert len(read_report(target).runs) == 2


def test_a_run_that_is_refused_leaves_no_earlier_report(canned_report, tmp_path, capsys):
    out = tmp_path / "report"
    write_report(canned_report("pass"), out)
    assert main(["run", "--recipe", "nowhere.toml", "--out", str(out)]) == 1
    assert [path.name for path in out.iterdir()] == ["failure.txt"]
    assert "nowhere.toml" in (out / "failure.txt").read_text()
