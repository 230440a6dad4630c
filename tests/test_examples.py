"""The examples, run as their own README says, in a copy."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(folder, *command):
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.whole
@pytest.mark.torch
def test_gate_what_you_have(tmp_path):
    folder = shutil.copytree(ROOT / "examples" / "gate-what-you-have", tmp_path / "example")
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    shutil.copy(ROOT / "conftest.py", folder)
    code, told = run(folder, "optimize", "check")
    assert (code, "variants: today, next" in told) == (0, True), told
    # Whether a busy machine can decide the gates on time is not this test's business.
    short = ("--set", "judge.quick_blocks=4", "--set", "judge.block_ms=2")
    code, told = run(folder, "pytest", "benchmarks", "--quick", "--inconclusive=warn", *short)
    assert "as-right" in told
    assert code == 0 or "FAIL: " not in told, told


def test_serve_a_bundle(tiny_kit, monkeypatch):
    testclient = pytest.importorskip(
        "fastapi.testclient", reason="the extra `dev` is not installed"
    )
    monkeypatch.setenv("BUNDLE", str(tiny_kit / "student-int8"))
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "serve"))
    app = importlib.import_module("app")
    asked = testclient.TestClient(app.app)
    done = asked.post("/predict", json={"texts": ["refund", "track my parcel"]})
    assert done.status_code == 200, done.text
    assert {each["label"] for each in done.json()} <= {"cancel", "refund", "track"}
    assert asked.post("/predict", json={"texts": []}).status_code == 422
    assert asked.post("/predict", content=b'{"texts": ["\\ud800"]}').status_code == 422
