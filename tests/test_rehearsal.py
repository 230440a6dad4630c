"""A pull request, rehearsed with the action's own script in a checkout of depth 1."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LABELS = {"cancel": "stop", "refund": "money", "track": "parcel"}
EVALUATION = 1500
# In every so many texts the telling word stands so late that a short max_length cuts it off: 18 of
# 1,500. One in three is still right by chance, so 12 are lost, 0.8 pp.
LATE_EVERY = 85


def write_data(path):
    """Three intents, each told by one word; in a few texts the word comes late."""
    lines = []
    for split, count in (("train", 300), ("validation", EVALUATION), ("test", EVALUATION)):
        for number in range(count):
            label, word = list(LABELS.items())[number % 3]
            late = number % LATE_EVERY == 0
            filler = ["please", "my", "order", "now"] * (3 if late else 1)
            text = " ".join([*filler, word, str(number)] if late else [word, *filler, str(number)])
            lines.append(json.dumps({"split": split, "text": text, "label": label}))
    path.write_text("\n".join(lines) + "\n")


def recipe(backbone, max_length=32, layers=4):
    return f"""
[tool.optimize.data]
source = "data.jsonl"
[tool.optimize.teacher]
checkpoint = {json.dumps(str(backbone))}
epochs = 4
batch_size = 16
learning_rate = 1e-3
max_length = {max_length}
precision = "fp32"
[tool.optimize.student]
layers = {layers}
[tool.optimize.distill]
epochs = 2
learning_rate = 1e-3
precision = "fp32"
[tool.optimize.judge]
variants = ["student-int8"]
threads = 1
blocks = 12
[tool.optimize.judge.workloads.typical]
quantiles = [0.4, 0.6]
[tool.optimize.regression]
max_drop_pp = 0.5
max_slowdown_pct = 5.0
[tool.optimize.gates.startup]
kind = "startup"
max_startup_s = 60.0
"""


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, text=True, capture_output=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def origin(tmp_path_factory, save_backbone):
    """The default branch of somebody's repository."""
    backbone = save_backbone(tmp_path_factory.mktemp("backbone") / "b", layers=8, width=64)
    folder = tmp_path_factory.mktemp("origin")
    write_data(folder / "data.jsonl")
    (folder / "pyproject.toml").write_text(recipe(backbone))
    shutil.copytree(
        ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__")
    )
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "base")
    return folder, backbone


PULL_REQUESTS = {
    "documentation": ({}, 0, "PASS"),
    "accuracy": ({"max_length": 10}, 1, "FAIL regression-accuracy"),
    # One layer more of four, and what is not layers: about 15 % more time.
    "latency": ({"layers": 5}, 1, "FAIL regression-speed[typical]"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", PULL_REQUESTS)
def test_pull_request(origin, tmp_path, tmp_path_factory, change):
    base, backbone = origin
    changes, code, words = PULL_REQUESTS[change]
    work = tmp_path / "work"
    git(tmp_path, "clone", "--quiet", base, work)
    git(work, "switch", "--quiet", "-c", change)
    (work / "pyproject.toml").write_text(recipe(backbone, **changes))
    (work / "README.md").write_text(change)
    git(work, "add", ".")
    git(work, "commit", "--quiet", "-m", change)
    git(work, "switch", "--quiet", "--detach", "main")
    git(work, "merge", "--quiet", "--no-ff", "-m", "merge", change)
    reference = f"refs/pull/{change}/merge"
    git(work, "push", "--quiet", "origin", f"HEAD:{reference}")
    # As actions/checkout leaves it: one commit, the merge, and nothing of what it was made of.
    head = tmp_path / "head"
    head.mkdir()
    git(head, "init", "--quiet")
    git(head, "remote", "add", "origin", base.as_uri())
    git(head, "fetch", "--quiet", "--no-tags", "--depth=1", "origin", reference)
    git(head, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    cache = tmp_path_factory.getbasetemp() / "rehearsal-cache"
    environment = os.environ | {
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_BASE_REF": "main",
        "XDG_CACHE_HOME": str(cache),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", ROOT / ".github" / "actions" / "gate" / "gate.sh"],
        cwd=head,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert words in done.stdout, done.stdout + done.stderr
    assert done.returncode == code
    report = json.loads((head / "report" / "report.json").read_text())
    measured = {gate["gate"]: gate["measured"] for gate in report["gates"]}
    lost = [c for c in report["baseline"]["changes"] if c["before"] == c["truth"]]
    assert len(lost) == (12 if change == "accuracy" else 0), measured
