"""A campaign of faults against a build: ``tox run -e faults`` runs it, and prints a table.

A tiny recipe is built once without a fault. Then each kind injects its faults into builds of the
same recipe: kills at the boundaries of stages and at random moments, full disks, files flipped and
cut, a cache that cannot be written, other users, two builds at once, a clock that jumps, memory
that runs out, workers that stop and babble. A build survives where it ends with the very bytes of
the first, or is refused in one line that names the remedy and then, without the fault, ends with
them. Everything else is lost.

Children are forked from one process that has loaded torch and started none of its threads, so that
a fault costs seconds. Needs a system with ``fork``; some kinds need root, and say so.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

from conftest import save_tiny_backbone, write_tiny_data, write_tiny_recipe
from optimize import settings
from optimize.bundle.manifest import FileEntry
from optimize.disk import DiskFullError
from optimize.judge.workers import process as worker_process
from optimize.judge.workers.process import WorkerError, WorkerProcess, WorkerSpec
from optimize.memory import OutOfMemoryError
from optimize.pipeline import cache as cache_module
from optimize.pipeline.runner import build

SLOW_S = 120.0
# Below this scale the recipe has fewer stages, and the slower kinds are left out.
SHORT = 10
# Codes of a child's end.
BUILT, REFUSED, UNFORESEEN = 0, 3, 4
REMEDIES = (DiskFullError, OutOfMemoryError, PermissionError)


@dataclass
class Tally:
    """What became of one kind's faults."""

    injected: int = 0
    survived: int = 0
    lost: list[str] = field(default_factory=list)
    skipped: str = ""


class Campaign:
    """The recipe, the kit that it builds without a fault, and what became of the faults.

    Args:
        folder: where it all happens.
        scale: number of faults of the kinds that draw theirs; the others have a fixed number.
        seed: of what is drawn.
    """

    def __init__(self, folder: Path, scale: int, seed: int) -> None:
        self.folder, self.scale, self.random = folder, scale, random.Random(seed)
        data, backbone = write_tiny_data(folder / "tiny.jsonl"), folder / "backbone"
        save_tiny_backbone(backbone)
        recipe = write_tiny_recipe(folder / "recipe.toml", data, backbone)
        short = ("quantize.compare=none", "teacher.epochs=3", "distill.epochs=2")
        short = short if scale < SHORT else ()
        self.settings = settings.load(str(recipe), folder, short)[0]
        self.first = folder / "first"
        started = time.monotonic()
        if self.attempt(self.first) != BUILT:
            raise SystemExit("the recipe cannot be built without a fault")
        self.whole_s = time.monotonic() - started
        self.expected = self.digests(self.first)
        self.stages = sorted(path.name for path in self.first.iterdir() if path.is_dir())

    def attempt(
        self, root: Path, fault: Callable[[], None] | None = None, kill_after_s: float | None = None
    ) -> int:
        """Build in a forked child; its code, or minus the signal that ended it."""
        child = os.fork()
        if child == 0:
            self._child(root, fault)
        deadline = time.monotonic() + (SLOW_S if kill_after_s is None else kill_after_s)
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            time.sleep(0.005)

    def _child(self, root: Path, fault: Callable[[], None] | None) -> None:
        log = os.open(self.folder / "child.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = UNFORESEEN
        try:
            if fault is not None:
                fault()
            build(self.settings, lambda line: None, root)
            code = BUILT
        except REMEDIES as error:
            print(f"refused: {error}", flush=True)
            code = REFUSED
        except BaseException as error:
            print(f"unforeseen {type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(code)

    def digests(self, root: Path) -> dict[str, str]:
        """Every file of every finished stage."""
        return {
            path.relative_to(root).as_posix(): FileEntry.of(path).sha256
            for path in sorted(root.glob("*/result/**/*"))
            if path.is_file() and ".unfinished" not in path.as_posix()
        }

    def same(self, root: Path) -> str:
        """Why what a cache holds is not what was built without a fault, or nothing."""
        found = self.digests(root)
        wrong = [name for name, digest in self.expected.items() if found.get(name) != digest]
        return f"other bytes in {wrong[0]} and {len(wrong) - 1} more" if wrong else ""

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """A cache with every stage finished, of its own."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            root = Path(place) / "cache"
            shutil.copytree(self.first, root)
            yield root

    @contextmanager
    def empty(self) -> Iterator[Path]:
        """A cache with nothing in it."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            yield Path(place) / "cache"

    def finish(self, root: Path) -> str:
        """Why a build without a fault does not end with the same bytes, or nothing."""
        code = self.attempt(root)
        return self.same(root) if code == BUILT else f"the build after it ended with {code}"


def kill_at_boundaries(campaign: Campaign, tally: Tally) -> None:
    """SIGKILL before and after each stage is renamed to its place, in one cache after the other."""
    every = [(stage, after) for stage in range(len(campaign.stages)) for after in (False, True)]
    if campaign.scale < len(every):
        every = campaign.random.sample(every, campaign.scale)
    for stage, after in every:
        with campaign.empty() as root:
            tally.injected += 1
            campaign.attempt(root, lambda s=stage, a=after: _kill_at_finish(s, after=a))
            _note(tally, campaign.finish(root), f"stage {stage}, after={after}")


def _kill_at_finish(number: int, *, after: bool) -> None:
    finish, count = cache_module._finish, iter(range(10**6))

    def killing(*arguments):
        mine = next(count) == number
        if mine and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        finish(*arguments)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)

    cache_module._finish = killing


def kill_at_random(campaign: Campaign, tally: Tally) -> None:
    """SIGKILL at random moments, four in a row on one cache, which is then finished."""
    left = campaign.scale
    while left > 0:
        with campaign.empty() as root:
            rounds = min(4, left)
            for _ in range(rounds):
                moment = campaign.random.uniform(0.0, campaign.whole_s)
                campaign.attempt(root, kill_after_s=moment)
                tally.injected += 1
            fault = campaign.finish(root)
            _note(tally, fault, f"{rounds} kills", rounds)
            left -= rounds


def files_flipped_and_cut(campaign: Campaign, tally: Tally) -> None:
    """One bit of, and the end of, every file of every finished stage, one fault a build."""
    names = sorted(campaign.expected)
    names += [f"{stage}/{cache_module.RECORD_NAME}" for stage in campaign.stages]
    every = [(name, cut) for name in names for cut in (False, True)]
    if campaign.scale < len(every):
        every = campaign.random.sample(every, campaign.scale)
    for name, cut in every:
        with campaign.copy() as root:
            tally.injected += 1
            _forget_later(root, name.split("/")[0])
            _harm(root / name, campaign.random, cut=cut)
            _note(tally, campaign.finish(root), f"{name}, cut={cut}")


def _forget_later(root: Path, stage: str) -> None:
    """Remove what was built after a stage, so that the next build reads that stage."""
    finished = {
        record.parent: record.stat().st_mtime_ns
        for record in root.glob(f"*/{cache_module.RECORD_NAME}")
    }
    for folder, moment in finished.items():
        if moment > finished[root / stage]:
            shutil.rmtree(folder)


def _harm(path: Path, draw: random.Random, *, cut: bool) -> None:
    content = bytearray(path.read_bytes())
    if cut or not content:
        content = content[: len(content) // 2] if content else bytearray(b"x")
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    # A new file: the copy is not to share bytes with the original.
    path.unlink()
    path.write_bytes(bytes(content))


def full_disk(campaign: Campaign, tally: Tally) -> None:
    """A file system that holds a share of what the build writes; then a larger one."""
    size = sum(path.stat().st_size for path in campaign.first.rglob("*") if path.is_file())
    shares = [(number + 0.5) / campaign.scale for number in range(min(campaign.scale, 12))]
    for share in shares:
        with campaign.empty() as root:
            root.mkdir()
            if not _mount(root, int(share * size)):
                tally.skipped = "no file system can be mounted here; needs root"
                return
            try:
                tally.injected += 1
                code = campaign.attempt(root)
                if code not in (REFUSED, BUILT):
                    _note(tally, f"ended with {code}, not refused in words", f"{share:.0%} of it")
                    continue
                _run("mount", "-o", f"remount,size={4 * size}", str(root))
                _note(tally, campaign.finish(root), f"{share:.0%} of it")
            finally:
                _run("umount", "-l", str(root))


def read_only_cache(campaign: Campaign, tally: Tally) -> None:
    """What is finished is used from a file system that takes nothing; else refused in words."""
    with campaign.copy() as root:
        if not _bound_read_only(root):
            tally.skipped = "no file system can be mounted here; needs root"
            return
        tally.injected += 1
        code = campaign.attempt(root)
        _run("umount", "-l", str(root))
        _note(tally, "" if code == BUILT else f"ended with {code}", "a finished cache")


def other_user(campaign: Campaign, tally: Tally) -> None:
    """Another user finds what is finished, in a cache that is not theirs."""
    if os.geteuid() != 0:
        tally.skipped = "needs root, to become another user"
        return
    with campaign.copy() as root:
        for path in (campaign.folder, *campaign.folder.rglob("*")):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        tally.injected += 1
        code = campaign.attempt(root, lambda: os.setresuid(65534, 65534, 65534))
        _note(tally, "" if code == BUILT else f"ended with {code}", "a finished cache of root's")


def two_builds(campaign: Campaign, tally: Tally) -> None:
    """Two builds of the same recipe on one cache."""
    for _ in range(campaign.scale // SHORT // 2):
        with campaign.empty() as root:
            tally.injected += 1
            first = os.fork()
            if first == 0:
                campaign._child(root, None)
            second = campaign.attempt(root)
            codes = {second, os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])}
            fault = campaign.same(root) if codes == {BUILT} else f"ended with {codes}"
            _note(tally, fault, "side by side")


def clock_jumps(campaign: Campaign, tally: Tally) -> None:
    """The clock of the wall jumps by days at every look, in both directions."""
    for number in range(campaign.scale // SHORT // 2):
        with campaign.empty() as root:
            tally.injected += 1
            code = campaign.attempt(root, lambda n=number: _jumping_clock(n))
            fault = campaign.same(root) if code == BUILT else f"ended with {code}"
            _note(tally, fault or campaign.finish(root), f"seed {number}")


def _jumping_clock(seed: int) -> None:
    draw, real = random.Random(seed), time.time
    time.time = lambda: real() + draw.uniform(-9e5, 9e5)
    time.time_ns = lambda: int(1e9 * time.time())


def out_of_memory(campaign: Campaign, tally: Tally) -> None:
    """An address space that holds little more than what is loaded already."""
    for extra in [number * 2**22 for number in range(1, 1 + campaign.scale // SHORT)]:
        with campaign.empty() as root:
            tally.injected += 1
            code = campaign.attempt(root, lambda e=extra: _limit_memory(e))
            if code not in (REFUSED, BUILT):
                _note(tally, f"ended with {code}, not refused in words", f"{extra} bytes more")
                continue
            _note(tally, campaign.finish(root), f"{extra} bytes more")


def _limit_memory(extra: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


BABBLE = {
    "silence": "import time; time.sleep(60)",
    "an exit": "raise SystemExit(3)",
    "no JSON": "print('Segmentation fault', flush=True)",
    "brackets": "print('[' * 100_000, flush=True)",
    "an answer to something else": 'print(\'{"protocol": 2, "mean_s": 1}\', flush=True)',
    "no end": "import sys\nwhile True: sys.stdout.write('x' * 4096)",
    "another protocol": "print('{\"protocol\": 99}', flush=True)",
    "a stop": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
}


def workers_stop_and_babble(campaign: Campaign, tally: Tally) -> None:
    """A worker that does not do what it should is told by name, in time."""
    before = worker_process.ANSWER_TIMEOUT_S, worker_process.LARGEST_ANSWER
    worker_process.ANSWER_TIMEOUT_S, worker_process.LARGEST_ANSWER = 1.0, 1_000_000
    try:
        for kind, code in BABBLE.items():
            tally.injected += 1
            spec = WorkerSpec("w", campaign.folder, 1, (sys.executable, "-c", code))
            fault = "it was taken for a worker"
            try:
                with WorkerProcess(spec, "text") as process:
                    process.ask("memory")
            except WorkerError as error:
                fault = "" if str(error).startswith("worker w ") else f"told as {error}"
            _note(tally, fault, kind)
    finally:
        worker_process.ANSWER_TIMEOUT_S, worker_process.LARGEST_ANSWER = before


def _note(tally: Tally, fault: str, what: str, count: int = 1) -> None:
    if fault:
        tally.lost += [f"{what}: {fault}"] * count
    else:
        tally.survived += count


def _mount(place: Path, size: int) -> bool:
    return _run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place))


def _bound_read_only(place: Path) -> bool:
    if not _run("mount", "--bind", str(place), str(place)):
        return False
    return _run("mount", "-o", "remount,ro,bind", str(place))


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


KINDS: dict[str, Callable[[Campaign, Tally], None]] = {
    "kills at the boundaries of stages": kill_at_boundaries,
    "kills at random moments": kill_at_random,
    "files flipped and cut": files_flipped_and_cut,
    "a full disk": full_disk,
    "a cache that cannot be written": read_only_cache,
    "another user's cache": other_user,
    "two builds at once": two_builds,
    "a clock that jumps": clock_jumps,
    "memory that runs out": out_of_memory,
    "workers that stop and babble": workers_stop_and_babble,
}


def run(folder: Path, scale: int, seed: int, only: list[str]) -> dict[str, Tally]:
    """Every kind of fault, or those that are named; prints a line each, and what was lost."""
    campaign = Campaign(folder, scale, seed)
    print(f"built without a fault in {campaign.whole_s:.1f} s, {len(campaign.stages)} stages")
    print(f"{'':36} injected survived lost seconds")
    tallies = {}
    chosen = {name: KINDS[name] for name in only} if only else KINDS
    for name, inject in chosen.items():
        started, tally = time.monotonic(), Tally()
        inject(campaign, tally)
        tallies[name] = tally
        lasted = time.monotonic() - started
        print(f"{name:36} {tally.injected:8} {tally.survived:8} {len(tally.lost):4} {lasted:7.0f}")
        for line in [*tally.lost, *([f"left out: {tally.skipped}"] if tally.skipped else [])]:
            print(f"    {line}", flush=True)
    return tallies


def main() -> int:
    """The whole campaign; 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=100, help="faults of each kind that draws")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--only", action="append", default=[], choices=KINDS, help="one kind")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="optimize-faults-") as folder:
        tallies = run(Path(folder), arguments.scale, arguments.seed, arguments.only)
        lost = sum(len(tally.lost) for tally in tallies.values())
        injected = sum(tally.injected for tally in tallies.values())
        print(f"{injected} injected, {injected - lost} survived, {lost} lost")
        if lost:
            print((Path(folder) / "child.log").read_text()[-3000:])
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
