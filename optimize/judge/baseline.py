"""What a run is held against: a bundle, a report, or either from a git revision."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import platformdirs
from filelock import FileLock

from optimize.bundle.manifest import KIT_NAME, MANIFEST_NAME
from optimize.judge.held_against import HeldAgainst
from optimize.judge.kit import Kit
from optimize.judge.records import Report
from optimize.judge.stored import REPORT_NAME, check_verdicts, read_vouched
from optimize.settings.gates import BASELINE
from optimize.settings.load import has_project_settings
from optimize.workspace import Tell

GIT = "git:"
# Kits of revisions that this process built; each goes with it.
_KEPT: list[TemporaryDirectory[str]] = []


class BaselineError(ValueError):
    """A baseline that cannot be used; the message gives the fact, the values and the remedy."""


@dataclass(frozen=True)
class Baseline:
    """A baseline that was found.

    Attributes:
        source: as the user named it, and for a revision its commit.
        report: the stored report, if it is one.
        bundle: the folder of the bundle, if it is one that is there already.
        commit: the revision whose bundle has to be built first, if so.
    """

    source: str
    report: Report | None = None
    bundle: Path | None = None
    commit: str | None = None


def find(spec: str, variant: str) -> Baseline:
    """Tell what ``FILE``, ``BUNDLE``, ``git:REV`` or ``git:REV:PATH`` is; builds nothing.

    Args:
        spec: the option's value. A folder may be a bundle, a kit, or hold a ``report.json``;
            ``PATH`` is a file or folder that the revision holds.
        variant: the variant that is taken from a kit.

    Raises:
        BaselineError: there is no such thing, or it is none of these.
    """
    if not spec.startswith(GIT):
        return _at(Path(spec), spec, variant)
    revision, _, inner = spec.removeprefix(GIT).partition(":")
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    source = f"{spec} ({commit[:10]})"
    if not inner:
        return Baseline(source, commit=commit)
    place = _place("checkout", commit)
    with FileLock(f"{place}.lock"):
        # Anew: what lies there may have been changed, or written before Git LFS was set up.
        _checkout(commit, place)
    path = place / _git("rev-parse", "--show-prefix") / inner
    if Path(inner).is_absolute() or not path.resolve().is_relative_to(place.resolve()):
        raise BaselineError(
            f"baseline {spec}: {inner} leads out of the revision; give a path within the repository"
        )
    if pointers := _lfs_pointers(path):
        raise BaselineError(
            f"baseline {spec}: Git LFS has not fetched {', '.join(pointers[:3])}. Check out with "
            "`lfs: true`, or `git lfs fetch` the revision"
        )
    return _at(path, source, variant)


def refuse_own_folder(spec: str | None, folder: Path) -> None:
    """Refuse to write a report over the one that it is held against.

    A second try would be held against the first one's result, and pass whatever it lost.

    Raises:
        BaselineError: the baseline is the report of that folder.
    """
    if spec is None or spec.startswith(GIT):
        return
    if Path(spec).resolve() in (folder.resolve(), (folder / REPORT_NAME).resolve()):
        raise BaselineError(
            f"--out {folder} is where the baseline {spec} lies: the run would replace what it is "
            "held against. Give another folder with --out"
        )


def with_baseline(
    kit: Kit,
    baseline: Baseline,
    variant: str,
    arguments: Sequence[str],
    tell: Tell,
    project: Path = Path(),
) -> tuple[Kit, HeldAgainst]:
    """The kit with the variant ``baseline`` where that is a bundle, built here if need be.

    Args:
        kit: what is judged.
        baseline: what it is held against.
        variant: the variant of a revision's kit that is taken.
        arguments: further ones of ``optimize build`` for a revision.
        tell: told what is being done.
        project: folder of the project whose settings are judged; a revision's are in the same one.

    Raises:
        BaselineError: a revision that cannot be built.
        KitError: its labels are not the kit's.
    """
    bundle = baseline.bundle
    if baseline.commit is not None:
        bundle = build(baseline.commit, variant, arguments, tell, project)
    if bundle is not None:
        kit = kit.with_bundle(bundle, BASELINE, own=baseline.commit is not None)
    return kit, HeldAgainst(baseline.source, baseline.report)


def build(
    commit: str, variant: str, arguments: Sequence[str], tell: Tell, project: Path = Path()
) -> Path:
    """The bundle that a revision's own recipe and data make, in its own child process.

    Its stages come from the same cache, so that what the revision shares with this one is not
    trained again.

    Args:
        commit: full hash.
        variant: the variant to take from its kit.
        arguments: further ones of ``optimize build``, e.g. ``--recipe``.
        tell: told what is being done.
        project: folder of the project; the revision's settings are in the same place of its tree.

    Raises:
        BaselineError: it cannot be built, with the last words of the build; or the revision has no
            settings where the project has them.
    """
    inner = _git("-C", str(project.resolve()), "rev-parse", "--show-prefix")
    kits = _place("kits", "")
    kits.mkdir(exist_ok=True)
    # Anew each time, from the stages' cache: only they know all that a kit is made of, such as
    # data outside of the repository and the versions of the libraries. It goes with the process.
    kept = TemporaryDirectory(prefix=f"{commit[:10]}-", dir=kits)
    _KEPT.append(kept)
    kit = Path(kept.name, "kit")
    tell(f"baseline: building {commit[:10]}")
    with TemporaryDirectory() as work:
        tree = Path(work, "tree")
        _checkout(commit, tree)
        _check_settings(project, tree / inner, arguments, commit)
        _build_in(tree / inner, kit, _in_revision(arguments, project.resolve(), commit), commit)
    return kit / variant


def _in_revision(arguments: Sequence[str], project: Path, commit: str) -> list[str]:
    """The arguments, where an absolute path into the repository means the revision's own file.

    It is told from the project's folder, as the build is called in the same one of the revision.
    What git does not know, such as ignored data, stays the file that it is.
    """
    top = Path(_git("-C", str(project), "rev-parse", "--show-toplevel")).resolve()
    found = []
    for argument in arguments:
        bare = ("", "", argument)
        key, equals, value = bare if Path(argument).is_absolute() else argument.partition("=")
        path = Path(value.strip("\"'"))
        if path.is_absolute() and _held(path.resolve(), top, commit):
            relative = os.path.relpath(path.resolve(), project)
            found.append(f"{key}{equals}{value.replace(str(path), relative)}")
        else:
            found.append(argument)
    return found


def _held(path: Path, top: Path, commit: str) -> bool:
    """Whether the revision has the path, or git knows it now, so that a revision would have it."""
    if not path.is_relative_to(top):
        return False
    inner = path.relative_to(top).as_posix()
    every = ("--full-tree", "--name-only", commit, "--", inner)
    return bool(_git("-C", str(top), "ls-files", "--", inner) or _git("ls-tree", *every))


def _check_settings(project: Path, before: Path, arguments: Sequence[str], commit: str) -> None:
    """Refuse a revision that has no settings of its own: the default recipe is another model."""
    if "--recipe" in arguments or not has_project_settings(project):
        return
    if not (before.is_dir() and has_project_settings(before)):
        raise BaselineError(
            f"revision {commit[:10]} has no [tool.optimize] where {project.resolve()} has it, and "
            "so no model to be held against; name a later revision, or a recipe with --recipe"
        )


def _at(path: Path, source: str, variant: str) -> Baseline:
    if (path / KIT_NAME).is_file():
        path = path / variant
    if (path / MANIFEST_NAME).is_file():
        return Baseline(source, bundle=path)
    file = path / REPORT_NAME if path.is_dir() else path
    if file.is_file():
        report = read_vouched(file)
        check_verdicts(report, source)
        return Baseline(source, report=report)
    what = "does not exist" if not path.exists() else "holds none of these"
    raise BaselineError(
        f"baseline {source}: {path} {what}; give a bundle ({MANIFEST_NAME}), a kit ({KIT_NAME}), "
        f"a report ({REPORT_NAME}), or git:REV"
    )


def _build_in(tree: Path, kit: Path, arguments: Sequence[str], commit: str) -> None:
    command = [sys.executable, "-m", "optimize", "build", "--out", str(kit), *arguments]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        pointers = ", ".join(_lfs_pointers(tree)[:3])
        hint = f" Git LFS has not fetched {pointers}: `lfs: true`." if pointers else ""
        tail = "\n".join(f"    {line}" for line in (done.stdout + done.stderr).splitlines()[-15:])
        raise BaselineError(
            f"revision {commit[:10]} cannot be built (exit code {done.returncode}); it needs its "
            "data under version control or given by an absolute path, or give a stored bundle "
            f"with --baseline BUNDLE.{hint} Its last words:\n{tail}"
        )


def _checkout(commit: str, place: Path) -> None:
    """The revision's files, without touching the working tree, its index or any clone.

    An index of its own is read from the commit and written out, so that a shallow or sparse clone
    will do, and filters such as Git LFS run.

    Raises:
        BaselineError: git cannot, or a link leads out of the revision.
    """
    aside = place.with_name(f"{place.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    with TemporaryDirectory() as work:
        own = {"GIT_INDEX_FILE": str(Path(work, "index")), "GIT_WORK_TREE": str(aside.resolve())}
        top = _git("rev-parse", "--show-toplevel")
        whole = ("-C", top, "-c", "core.sparseCheckout=false")
        _git(*whole, "read-tree", commit, environment=own)
        _git(*whole, "checkout-index", "--all", "--force", "--quiet", environment=own)
    inside = aside.resolve()
    for path in aside.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise BaselineError(
                f"revision {commit[:10]}: the link {path.relative_to(aside)} leads out of the "
                "repository, to what no revision holds; replace it by a file"
            )
    shutil.rmtree(place, ignore_errors=True)
    aside.rename(place)


def _lfs_pointers(tree: Path) -> list[str]:
    """Files whose content Git LFS would have to fetch (its specification, "The Pointer")."""
    every = [tree] if tree.is_file() else tree.rglob("*")
    small = (path for path in every if path.is_file() and path.stat().st_size < 1024)
    return [
        path.name if path == tree else path.relative_to(tree).as_posix()
        for path in small
        if path.read_bytes().startswith(b"version https://git-lfs.github.com/spec/")
    ]


def _place(kind: str, key: str) -> Path:
    folder = platformdirs.user_cache_path("optimize") / "baseline"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{kind}-{key[:20]}".rstrip("-")


def _git(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise BaselineError("a baseline git:REV needs git, which is not installed") from None
    if done.returncode:
        raise BaselineError(
            f"git {' '.join(arguments)} failed: {done.stderr.strip() or 'no such revision'}. Fetch "
            "the revision first: `git fetch origin REV`; in CI, actions/checkout, fetch-depth: 0"
        )
    return done.stdout.strip()
