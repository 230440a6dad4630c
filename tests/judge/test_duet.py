"""One bundle under several interpreters."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from optimize.cli import main
from optimize.judge import duet as module
from optimize.judge.duet import DuetError, duet, interpreter_names
from optimize.judge.kit import read_kit
from optimize.judge.reports.render import write_report
from optimize.judge.stored import read_report
from optimize.judge.workers.process import BORROW, PACKAGE, WorkerProcess, WorkerSpec


def silent(line):
    pass


@pytest.fixture(scope="module")
def other_python(tmp_path_factory):
    """Another interpreter with the base layer's dependencies, lent by a .pth file."""
    folder = tmp_path_factory.mktemp("other")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    import onnxruntime

    (site / "lent.pth").write_text(str(Path(onnxruntime.__file__).parents[1]) + "\n")
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def report(tiny_kit, other_python, tmp_path_factory):
    """What the command writes, given a kit."""
    folder = tmp_path_factory.mktemp("duet")
    pythons = ["--python", sys.executable, "--python", other_python]
    how = ["--quick", "--threads", "1", "--max-slowdown-pct", "900", "--inconclusive", "pass"]
    assert main(["duet", str(tiny_kit), *pythons, *how, "--out", str(folder)]) == 0
    return read_report(folder / "report.json")


def test_two_interpreters_are_timed_in_one_run(report):
    assert report.recipe == "duet"
    first, second = report.variants
    assert first.startswith("ort-")
    assert first != second
    assert {result.gate.partition("-")[0] for result in report.gates} == {
        "speed",
        "labels",
        "memory",
    }
    labels = next(result for result in report.gates if result.kind == "labels")
    assert labels.verdict == "pass"
    assert labels.measured == "0 of 24 labels changed"
    for series in report.timing.series.values():
        assert set(series) == {first, second, "control"}
    assert len(report.scores["test"]) == 2


def test_a_slower_runtime_is_told_to_be_left_not_to_be_retrained(tiny_kit):
    settings = module.duet_settings(["ort-a", "ort-b"], 5.0, 1, read_kit(tiny_kit))
    assert settings.gates["speed-ort-b"].remedy.startswith("stay with ort-a")


def test_other_interpreter_loads_its_own_libraries_and_our_code(tiny_kit, other_python):
    """Beside an installed package lie the libraries of this interpreter: none of them is lent."""
    ask = (
        "import json, os, sys, optimize; sys.stdin.readline(); "
        "print(json.dumps({'protocol': 2, 'path': os.environ.get('PYTHONPATH'), "
        "'ours': optimize.__file__, 'searched': sys.path}), flush=True); sys.stdin.readline()"
    )
    command = (other_python, "-c", f"{BORROW}\n{ask}")
    with WorkerProcess(WorkerSpec("w", tiny_kit / "student-int8", 1, command), "text") as worker:
        assert worker.about["path"] is None
        assert Path(worker.about["ours"]) == PACKAGE / "__init__.py"
        assert str(PACKAGE.parent) not in worker.about["searched"]


def test_a_run_under_another_interpreter_leaves_no_folder(tiny_kit, other_python, tmp_path):
    """Not even one that a signal ends: nothing is written to begin with."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from optimize.judge.workers.process import *\n"
        "folder, python = Path(sys.argv[1]), sys.argv[2]\n"
        "spec = WorkerSpec('w', folder, 1, command_of(python, WORKER_MODULE))\n"
        "worker = WorkerProcess(spec, 'text')\n"
        "print(worker.about['onnxruntime'], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_kit / "student-int8"), other_python],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip(), done.stderr
    assert list(tmp_path.glob("optimize*")) == []  # onnxruntime leaves a file of its own


def test_interpreter_without_the_base_layer_says_what_it_needs(tiny_kit, bare_python):
    with pytest.raises(DuetError, match=r"No module named 'onnxruntime'.*pip install optimize"):
        duet(tiny_kit, [sys.executable, bare_python], tell=silent)


def test_interpreter_that_is_none(tiny_kit, tmp_path):
    with pytest.raises(DuetError, match="cannot be started"):
        duet(tiny_kit, [sys.executable, str(tmp_path / "python")], tell=silent)


def test_one_interpreter_is_no_duet(tiny_kit):
    with pytest.raises(DuetError, match="1 interpreter was given"):
        duet(tiny_kit, [sys.executable], tell=silent)


def test_bundle_without_texts(tiny_kit, tmp_path):
    alone = shutil.copytree(tiny_kit / "student-int8", tmp_path / "alone" / "bundle")
    with pytest.raises(DuetError, match=r"holds no kit\.json, which has the texts"):
        duet(alone, [sys.executable, sys.executable], tell=silent)


def test_onnx_variants_move_to_another_interpreter_and_pytorch_stays(tiny_kit):
    moved = read_kit(tiny_kit).under("/other/python").variants
    assert {name: variant.python for name, variant in moved.items()} == {
        name: None if name.endswith("-torch") else "/other/python" for name in moved
    }
    assert any(name.endswith("-torch") for name in moved)


@pytest.mark.parametrize(
    ("versions", "names"),
    [
        ([("1.31.0", "3.11.7"), ("1.32.0", "3.11.7")], ["ort-1.31.0", "ort-1.32.0"]),
        (
            [("1.32.0", "3.10.1"), ("1.32.0", "3.13.0")],
            ["ort-1.32.0-py3.10.1", "ort-1.32.0-py3.13.0"],
        ),
        ([("1.32.0", "3.13.0")] * 2, ["ort-1.32.0-py3.13.0-1", "ort-1.32.0-py3.13.0-2"]),
    ],
)
def test_names_tell_interpreters_apart(versions, names, monkeypatch):
    answers = iter(versions)
    monkeypatch.setattr(module, "_versions", lambda python: next(answers))
    assert interpreter_names(["a", "b"]) == names


def test_worker_of_another_protocol_is_refused(tiny_kit):
    from optimize.judge.workers.process import WorkerError

    code = "import sys; sys.stdin.readline(); print('{\"protocol\": 99}', flush=True)"
    spec = WorkerSpec("w", tiny_kit / "student-int8", 1, (sys.executable, "-c", code))
    with pytest.raises(WorkerError, match="speaks protocol 99, this judge 2"):
        WorkerProcess(spec, "text")


def test_ask_versions_is_what_an_interpreter_prints():
    done = subprocess.run(
        [sys.executable, "-c", module.ASK_VERSIONS], capture_output=True, check=True
    )
    assert done.stdout.startswith(b'["1.')


def test_a_duet_that_is_refused_leaves_no_earlier_report(canned_report, tmp_path):
    write_report(canned_report("pass"), tmp_path / "out")
    python = sys.executable
    assert main(["duet", "nowhere", "--python", python, "--out", str(tmp_path / "out")]) == 1
    (left,) = (tmp_path / "out").iterdir()
    assert "a duet needs two" in left.read_text()
