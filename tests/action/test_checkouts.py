"""The action's script in what actions/checkout leaves: made with plain git, as it makes it.

What pytest would be asked is noted by a stand-in for Python, and the revision that it names is
written out by the code that judges against it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from optimize.judge import baseline
from optimize.judge.baseline import BaselineError

GATE = Path(__file__).parents[2] / ".github" / "actions" / "gate" / "gate.sh"
PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then exec {real} "$@"; fi
printf '%s\\n' "$@" > "{noted}"
"""


def git(folder, *arguments, **more):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(
        command, check=True, text=True, capture_output=True, **more
    ).stdout.strip()


def commit(folder, text):
    (folder / "model.txt").write_text(text)
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "a.md").write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    """A hosted repository, and the commits that it holds by name.

    The pull request left at ``base``; since its merge was made the branch moved on to ``moved``.
    """
    tmp_path = tmp_path_factory.mktemp("hosted")
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "--quiet", "--initial-branch=main")
    named = {"root": commit(work, "root"), "base": commit(work, "base")}
    git(work, "switch", "--quiet", "-c", "change")
    named["head"] = commit(work, "change")
    git(work, "switch", "--quiet", "--detach", "main")
    git(work, "merge", "--quiet", "--no-ff", "-m", "merge", "change")
    named["merge"] = git(work, "rev-parse", "HEAD")
    git(work, "switch", "--quiet", "main")
    named["moved"] = commit(work, "moved")
    git(work, "tag", "v1")
    hosted = tmp_path / "hosted.git"
    git(tmp_path, "clone", "--template=", "--quiet", "--bare", str(work), str(hosted))
    for reference, name in (
        ("refs/pull/1/merge", "merge"),
        ("refs/pull/1/head", "head"),
        ("refs/heads/queue/main/pr-1", "merge"),
        ("refs/heads/orphan", "root"),
    ):
        git(work, "push", "--quiet", str(hosted), f"{named[name]}:{reference}")
    return hosted, named


@pytest.fixture
def hub(hosted, tmp_path):
    """The same, each time as it was."""
    shutil.copytree(hosted[0], tmp_path / "hosted.git")
    return tmp_path / "hosted.git", hosted[1]


def checked_out(hub, tmp_path, reference, depth, *, sparse=False):
    """What actions/checkout does: init, one fetch of one commit, checkout."""
    hosted, _ = hub
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet", "--template=")
    git(folder, "remote", "add", "origin", hosted.as_uri())
    if sparse:
        git(folder, "config", "core.sparseCheckout", "true")
        (folder / ".git" / "info").mkdir()
        (folder / ".git" / "info" / "sparse-checkout").write_text("/model.txt\n")
    if depth:
        git(folder, "fetch", "--quiet", "--no-tags", f"--depth={depth}", "origin", reference)
        git(folder, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
    else:
        git(
            folder, "fetch", "--quiet", "--prune", "origin", "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*", f"+{reference}:refs/remotes/asked",
        )  # fmt: skip
        git(folder, "checkout", "--quiet", "--force", "--detach", "refs/remotes/asked")
    return folder


@pytest.fixture
def run(tmp_path):
    def go(folder, **environment):
        programs = tmp_path / "bin"
        programs.mkdir(exist_ok=True)
        noted = tmp_path / "noted"
        (programs / "python").write_text(PYTHON.format(real=sys.executable, noted=noted))
        (programs / "python").chmod(0o755)
        done = subprocess.run(
            ["bash", GATE],
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return noted.read_text().splitlines()

    return go


# Event, reference that is checked out, environment beside it, commit that it is held against.
PULL = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_BASE_REF": "main"}
PUSH = {"GITHUB_EVENT_NAME": "push"}
CHECKOUTS = {
    "pull request": ("refs/pull/1/merge", PULL, "base"),
    "pull request's own head": ("refs/pull/1/head", PULL, "moved"),
    "pull request from a fork": (
        "refs/pull/1/head", {**PULL, "GITHUB_EVENT_NAME": "pull_request_target"}, "moved",
    ),
    "push": ("refs/heads/main", PUSH, "base"),
    "tag": ("refs/tags/v1", PUSH, "base"),
    "merge queue": ("refs/heads/queue/main/pr-1", {"GITHUB_EVENT_NAME": "merge_group"}, "base"),
    "by hand": ("refs/heads/main", {"GITHUB_EVENT_NAME": "workflow_dispatch"}, "base"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("depth", "sparse"), [(1, False), (2, False), (0, False), (1, True), (0, True)]
)
@pytest.mark.parametrize("case", CHECKOUTS)
def test_base_is_found_and_written_out(hub, tmp_path, run, case, depth, sparse, monkeypatch):
    reference, environment, expected = CHECKOUTS[case]
    folder = checked_out(hub, tmp_path, reference, depth, sparse=sparse)
    shallow = git(folder, "rev-parse", "--is-shallow-repository")
    before = git(folder, "status", "--porcelain")
    asked = run(folder, **environment)
    base = hub[1][expected]
    assert f"--baseline=git:{base}" in asked
    assert git(folder, "rev-parse", "--is-shallow-repository") == shallow
    tree = tmp_path / "tree"
    monkeypatch.chdir(folder)
    write_out(f"git:{base}", tree)
    assert (tree / "model.txt").read_text() == (tree / "docs" / "a.md").read_text() == expected
    assert not (tree / ".git").exists()
    assert git(folder, "status", "--porcelain") == before


def test_first_commit_is_held_against_nothing(hub, tmp_path, run):
    folder = checked_out(hub, tmp_path, "refs/heads/orphan", 1)
    assert not [word for word in run(folder, **PUSH) if word.startswith("--baseline")]


TABLES = {
    "as written by hand": ("[ tool.optimize ]\n", "[tool.optimize]\n", True),
    "by a dotted key": ('[tool]\noptimize.extends = "sample"\n', "[tool.optimize]\n", True),
    "an inner table": ("[tool.optimize.data]\n", "[tool.optimize.data]\n", True),
    "no TOML": ("[tool.optimize\n", "[tool.optimize]\n", True),
    "not yet": ("[tool.ruff]\n# [tool.optimize]\n", "[tool.optimize]\n", False),
    "no file": (None, "[tool.optimize]\n", False),
    "not here either": (None, None, True),
}


@pytest.mark.parametrize("case", TABLES)
def test_settings_are_found_however_toml_writes_them(tmp_path, run, case):
    before, now, held = TABLES[case]
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "--quiet", "--template=")
    for number, text in enumerate((before, now)):
        if text is not None:
            (project / "pyproject.toml").write_text(text)
        commit(project, f"{number}: {text}")
    asked = run(project, **PUSH)
    assert any(word.startswith("--baseline=git:") for word in asked) is held


def test_settings_that_cannot_be_read_are_not_taken_for_none(tmp_path):
    """A checkout without the contents of files, and a host that is not asked again."""
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "--quiet", "--template=", "--initial-branch=main")
    for text in ("[tool.optimize]\n", "[tool.optimize.data]\n"):
        (project / "pyproject.toml").write_text(text)
        commit(project, text)
    git(project, "config", "uploadpack.allowFilter", "true")
    folder = tmp_path / "partial"
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", project.as_uri(), str(folder))
    git(folder, "remote", "set-url", "origin", (tmp_path / "gone").as_uri())
    done = subprocess.run(
        ["bash", GATE], cwd=folder, env={**os.environ, **PUSH}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "pyproject.toml of" in done.stderr
    assert "cannot be read. Fetch whole commits" in done.stderr
    assert (folder / "report" / "failure.txt").is_file()


def test_a_commit_that_cannot_be_fetched_says_what_to_add(hub, tmp_path):
    folder = checked_out(hub, tmp_path, "refs/pull/1/merge", 1)
    git(folder, "remote", "set-url", "origin", (tmp_path / "gone").as_uri())
    done = subprocess.run(
        ["bash", GATE], cwd=folder, env={**os.environ, **PULL}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "with `fetch-depth: 0`" in done.stderr


def test_a_pull_request_that_took_up_its_base_is_no_merge_of_the_host(hub, tmp_path, run):
    """The button "Update branch" makes a merge whose first parent is the change itself."""
    folder = checked_out(hub, tmp_path, "refs/pull/1/head", 0)
    git(folder, "merge", "--quiet", "--no-ff", "-m", "update", hub[1]["moved"], "-X", "ours")
    head = {**PULL, "GITHUB_SHA": hub[1]["merge"]}
    assert f"--baseline=git:{hub[1]['moved']}" in run(folder, **head)


def test_the_base_of_the_event_wins(hub, tmp_path, run):
    folder = checked_out(hub, tmp_path, "refs/pull/1/head", 1)
    base = {"BASE_SHA": hub[1]["base"]}
    assert f"--baseline=git:{hub[1]['base']}" in run(folder, **PULL, **base)


def test_a_branch_that_is_there_already_is_fetched_all_the_same(hub, tmp_path, run):
    """Else the FETCH_HEAD of an earlier fetch, the change itself, would be the base."""
    folder = checked_out(hub, tmp_path, "refs/heads/main", 0)
    git(folder, "branch", "--quiet", "main", "HEAD")
    git(folder, "fetch", "--quiet", "origin", "refs/pull/1/head")
    git(folder, "checkout", "--quiet", "--detach", "FETCH_HEAD")
    assert f"--baseline=git:{hub[1]['moved']}" in run(folder, **PULL)


def test_a_push_of_several_commits_is_held_against_what_was_there_before(hub, tmp_path, run):
    folder = checked_out(hub, tmp_path, "refs/heads/main", 1)
    root = hub[1]["root"]
    assert f"--baseline=git:{root}" in run(folder, **PUSH, BEFORE=root)
    assert f"--baseline=git:{hub[1]['base']}" in run(folder, **PUSH, BEFORE="0" * 40)


def test_nothing_is_held_against_itself(hub, tmp_path):
    folder = checked_out(hub, tmp_path, "refs/heads/main", 1)
    done = gate(folder, **{**PULL, "GITHUB_EVENT_NAME": "pull_request_target"})
    assert done.returncode == 1
    assert "it always passes so" in done.stderr


def test_the_joined_branch_is_no_pull_request_however_old_its_base(hub, tmp_path):
    """The base that GitHub tells may be older than the branch that it checks out."""
    folder = checked_out(hub, tmp_path, "refs/heads/main", 1)
    head = git(folder, "rev-parse", "HEAD").strip()
    event = {**PULL, "GITHUB_EVENT_NAME": "pull_request_target"}
    done = gate(folder, **event, GITHUB_SHA=head, BASE_SHA=hub[1]["base"])
    assert done.returncode == 1
    assert "checks out the branch, not the change" in done.stderr


def gate(folder, **environment):
    return subprocess.run(
        ["bash", GATE], cwd=folder, env={**os.environ, **environment}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_a_commit_of_many_words_is_read(hub, tmp_path, run):
    """A pipe holds 64 KiB; whoever stops reading before the end ends the writer too."""
    folder = checked_out(hub, tmp_path, "refs/heads/main", 0)
    git(folder, "commit", "--quiet", "--allow-empty", "-F", "-", input="a" + "\nword" * 100_000)
    assert f"--baseline=git:{hub[1]['moved']}" in run(folder, **PUSH)


def test_arguments_that_cannot_be_read_are_refused(hub, tmp_path):
    folder = checked_out(hub, tmp_path, "refs/heads/main", 0)
    # Of an earlier gate of the same job.
    (folder / "report").mkdir()
    for name in ("comment.md", "report.json"):
        (folder / "report" / name).write_text("earlier")
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = gate(folder, BASELINE="none", ARGUMENTS="--set name='x", PATH=programs)
    assert done.returncode == 1
    assert "the input arguments cannot be read: --set name='x" in done.stderr
    assert [path.name for path in (folder / "report").iterdir()] == ["failure.txt"]


@pytest.mark.parametrize(("baseline", "kept"), [("none", False), ("report", True)])
def test_nothing_of_an_earlier_gate_is_left_where_pytest_cannot_start(
    hub, tmp_path, baseline, kept
):
    folder = checked_out(hub, tmp_path, "refs/heads/main", 0)
    (folder / "report").mkdir()
    for name in ("comment.md", "badge.json", "report.html", "report.md", "report.json"):
        (folder / "report" / name).write_text("earlier")
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = gate(folder, BASELINE=baseline, ARGUMENTS="--no-such-option", PATH=programs)
    assert done.returncode == 4
    left = [path.name for path in (folder / "report").iterdir()]
    assert left == (["report.json"] if kept else [])


def test_the_change_that_brings_the_gate_is_held_against_nothing(hub, tmp_path, run):
    folder = checked_out(hub, tmp_path, "refs/heads/main", 0)
    (folder / "pyproject.toml").write_text("[tool.optimize.data]\nsource = 'data.csv'\n")
    commit(folder, "gate")
    assert not [word for word in run(folder, **PUSH) if word.startswith("--baseline")]
    later = commit(folder, "later")
    asked = run(folder, **PUSH)
    assert f"--baseline=git:{git(folder, 'rev-parse', later + '^')}" in asked


@pytest.mark.parametrize("given", ["true", "TRUE", "True", "1", "yes"])
def test_quick_in_any_spelling(hub, tmp_path, run, given):
    folder = checked_out(hub, tmp_path, "refs/heads/main", 0)
    assert "--quick" in run(folder, BASELINE="none", QUICK=given)


@pytest.mark.parametrize("given", ["false", "FALSE", "0", ""])
def test_not_quick(hub, tmp_path, run, given):
    folder = checked_out(hub, tmp_path, "refs/heads/main", 0)
    assert "--quick" not in run(folder, BASELINE="none", QUICK=given)


def test_arguments_are_words_as_a_shell_has_them(hub, tmp_path, run):
    """Quotes hold, and an asterisk is not the files that are there."""
    folder = checked_out(hub, tmp_path, "refs/heads/main", 0)
    words = """--set 'data.source=my data.csv' -k "a or b" * ~ $HOME"""
    asked = run(folder, BASELINE="none", ARGUMENTS=words)
    expected = ["--set", "data.source=my data.csv", "-k", "a or b", "*", "~", "$HOME"]
    assert asked[-len(expected) :] == expected


@pytest.mark.parametrize("allowed", [True, False])
def test_right_to_priority_is_asked_for_and_not_needed(hub, tmp_path, run, allowed):
    """Hosted runners have a sudo without password; where it asks for one, all goes on."""
    folder = checked_out(hub, tmp_path, "refs/heads/main", 0)
    programs, asked = tmp_path / "bin", tmp_path / "asked"
    programs.mkdir()
    for name in ("sudo", "prlimit"):
        (programs / name).write_text(
            f'#!/bin/sh\nprintf "%s " "$@" > {asked}\nexit {0 if allowed else 1}\n'
        )
        (programs / name).chmod(0o755)
    assert "benchmarks" in run(folder, BASELINE="none")
    words = asked.read_text().split()
    assert words[:2] == ["-n", "prlimit"]
    assert {"--nice=40", "--rtprio=1"} <= set(words)


def test_a_baseline_that_is_given_is_taken_as_it_is(hub, tmp_path, run):
    folder = checked_out(hub, tmp_path, "refs/pull/1/merge", 1)
    assert "--baseline=git:v1:kit" in run(folder, BASELINE="git:v1:kit", **PULL)


def write_out(revision, tree):
    """From where one stands, as a run against it does."""
    baseline._checkout(str(baseline.find(revision, "student-int8").commit), tree)


def test_a_link_out_of_the_revision_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "own").symlink_to("model.txt")
    commit(tmp_path, "inside")
    write_out("git:HEAD", tmp_path / "tree1")
    (tmp_path / "secret").symlink_to("/etc/passwd")
    commit(tmp_path, "outside")
    with pytest.raises(BaselineError, match="the link secret leads out of the repository"):
        write_out("git:HEAD", tmp_path / "tree2")
    assert not (tmp_path / "tree2").exists()


@pytest.mark.parametrize("inner", ["/etc/passwd", "../../../etc/passwd"])
def test_a_path_out_of_the_revision_is_refused(tmp_path, monkeypatch, inner):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet", "--initial-branch=main")
    commit(repository, "a")
    monkeypatch.chdir(repository)
    with pytest.raises(BaselineError, match="leads out of the revision"):
        baseline.find(f"git:HEAD:{inner}", "student-int8")


def test_pointers_of_git_lfs_are_named(tmp_path):
    from optimize.judge.baseline import _lfs_pointers

    (tmp_path / "data").mkdir()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    (tmp_path / "data" / "train.csv").write_text(pointer)
    (tmp_path / "data" / "test.csv").write_text("text,label\n")
    assert _lfs_pointers(tmp_path) == ["data/train.csv"]
