"""What ``--baseline`` may name, and a revision built by its own recipe."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from optimize.judge import baseline
from optimize.judge.baseline import BaselineError, find


def git(*arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    git("init", "--quiet", "--initial-branch=main")
    return folder


def test_a_bundle_a_kit_and_a_folder_of_neither(tiny_kit, tmp_path):
    bundle = tiny_kit / "student-int8"
    assert find(str(bundle), "student-int8").bundle == bundle
    assert find(str(tiny_kit), "student-int8").bundle == bundle
    with pytest.raises(BaselineError, match="holds none of these; give a bundle"):
        find(str(tmp_path), "student-int8")
    with pytest.raises(BaselineError, match="does not exist"):
        find(str(tmp_path / "no"), "student-int8")


def test_a_bundle_stored_in_a_revision(repository, tiny_kit):
    shutil.copytree(tiny_kit / "student-int8", repository / "bundle")
    git("add", ".")
    git("commit", "--quiet", "-m", "bundle")
    shutil.rmtree(repository / "bundle")
    found = find("git:main:bundle", "student-int8")
    assert (found.bundle / "model.onnx").read_bytes() == (
        tiny_kit / "student-int8" / "model.onnx"
    ).read_bytes()
    assert not (repository / "bundle").exists()
    with pytest.raises(BaselineError, match="other does not exist"):
        find("git:main:other", "student-int8")


def test_what_was_written_out_before_is_not_trusted(repository, tiny_kit):
    shutil.copytree(tiny_kit / "student-int8", repository / "bundle")
    git("add", ".")
    git("commit", "--quiet", "-m", "bundle")
    first = find("git:main:bundle", "student-int8").bundle / "model.onnx"
    content = first.read_bytes()
    first.write_bytes(b"another model")
    second = find("git:main:bundle", "student-int8").bundle / "model.onnx"
    assert second.read_bytes() == content


@pytest.mark.parametrize("inner", ["bundle", "bundle/report.json"])
def test_a_pointer_of_git_lfs_is_no_baseline(repository, inner):
    (repository / "bundle").mkdir()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    for name in ("manifest.json", "report.json"):
        (repository / "bundle" / name).write_text(pointer)
    git("add", ".")
    git("commit", "--quiet", "-m", "pointers")
    with pytest.raises(BaselineError, match=r"Git LFS has not fetched \w+.json.*`lfs: true`"):
        find(f"git:main:{inner}", "student-int8")


@pytest.mark.parametrize("revision", ["nowhere", "--help", "-x"])
def test_a_revision_that_is_not_there(repository, revision):
    with pytest.raises(BaselineError, match=r"Fetch the revision first"):
        find(f"git:{revision}", "student-int8")


@pytest.mark.whole
@pytest.mark.torch
def test_a_revision_is_built_by_its_own_recipe(repository, tiny_recipe, tiny_data, monkeypatch):
    table = re.sub(r"epochs = \d+", "epochs = 1", tiny_recipe.read_text())
    (repository / "tiny.toml").write_text(table)
    git("add", ".")
    git("commit", "--quiet", "-m", "one epoch")
    (repository / "tiny.toml").write_text(table.replace("epochs = 1", "epochs = 2"))
    found = find("git:HEAD", "student-int8")
    told = []
    arguments = ("--recipe", "tiny.toml", "--set", "quantize.compare=none")
    bundle = baseline.build(found.commit, "student-int8", arguments, told.append)
    recipe = json.loads((bundle / "manifest.json").read_text())["recipe"]
    assert recipe["teacher"]["epochs"] == 1
    assert told == [f"baseline: building {found.commit[:10]}"]
    status = subprocess.run(["git", "worktree", "list"], capture_output=True, check=True)
    assert len(status.stdout.splitlines()) == 1


@pytest.mark.torch
def test_a_revision_that_cannot_be_built_says_why(repository):
    (repository / "bad.toml").write_text('[data]\nsource = "gone.csv"\n')
    git("add", ".")
    git("commit", "--quiet", "-m", "bad")
    commit = find("git:HEAD", "student-int8").commit
    with pytest.raises(BaselineError, match=r"(?s)cannot be built.*'gone.csv' does not exist"):
        baseline.build(commit, "student-int8", ("--recipe", "bad.toml"), lambda line: None)


@pytest.mark.torch
def test_parts_of_a_repository_have_kits_of_their_own(repository, monkeypatch):
    """One revision holds several projects, and each is held against its own model."""
    built = []
    monkeypatch.setattr(baseline, "_build_in", lambda tree, kit, *_: built.append((tree, kit)))
    for name in ("a", "b"):
        (repository / name).mkdir()
        (repository / name / "pyproject.toml").write_text('[tool.optimize]\nextends = "sample"\n')
    git("add", ".")
    git("commit", "--quiet", "-m", "two projects")
    commit = find("git:HEAD", "student-int8").commit
    for name in ("a", "b"):
        baseline.build(commit, "student-int8", (), lambda line: None, repository / name)
    (first, kit), (second, other) = built
    assert (first.name, second.name) == ("a", "b")
    assert kit != other


def test_a_revision_without_the_projects_settings_is_refused(repository):
    """The default recipe would be another model, and larger."""
    (repository / "notes.txt").write_text("nothing yet")
    git("add", ".")
    git("commit", "--quiet", "-m", "before the gate")
    commit = find("git:HEAD", "student-int8").commit
    inner = repository / "later"
    inner.mkdir()
    (inner / "pyproject.toml").write_text('[tool.optimize]\nextends = "sample"\n')
    with pytest.raises(BaselineError, match=r"has no \[tool.optimize\] where"):
        baseline.build(commit, "student-int8", (), lambda line: None, inner)


def test_a_path_into_the_repository_is_the_revisions_own(repository, monkeypatch):
    """However a recipe or its data are named: else both sides would be of one recipe."""
    built = []
    monkeypatch.setattr(baseline, "_build_in", lambda *given: built.append(given[2]))
    (repository / "part").mkdir()
    (repository / ".gitignore").write_text("ignored.csv\n")
    for name in ("part/recipe.toml", "part/data.csv", "part/a=b.toml"):
        (repository / name).write_text("")
    git("add", ".")
    git("commit", "--quiet", "-m", "a recipe")
    commit = find("git:HEAD", "student-int8").commit
    (repository / "ignored.csv").write_text("")
    (repository / "new.toml").write_text("")
    git("add", "new.toml")
    part = repository.resolve() / "part"
    ignored = f"data.source={repository / 'ignored.csv'}"
    given = ("--recipe", str(part / "recipe.toml"), "--set", f'data.source="{part}/data.csv"')
    other = ("--recipe", str(repository / "new.toml"), "--set", ignored, "--set", "seed=1")
    signs = ("--recipe", str(part / "a=b.toml"), "--set", f"data.source={part}/a=b.toml")
    for arguments in (given, other, signs):
        baseline.build(commit, "student-int8", arguments, lambda line: None, part)
    assert built[0] == ["--recipe", "recipe.toml", "--set", 'data.source="data.csv"']
    assert built[1] == ["--recipe", "../new.toml", "--set", ignored, "--set", "seed=1"]
    assert built[2] == ["--recipe", "a=b.toml", "--set", "data.source=a=b.toml"]


@pytest.mark.parametrize("spec", ["report", "report/report.json", "./report/"])
def test_a_report_is_not_written_over_its_baseline(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaselineError, match="would replace what it is held against"):
        baseline.refuse_own_folder(spec, Path("report"))
    baseline.refuse_own_folder("before", Path("report"))
    baseline.refuse_own_folder("git:main", Path("report"))
