"""What a container or a service may take of the CPU, by Linux's control groups, old and new.

A limit may be set on a process's own group or on any above it. In the second version one file holds
it, ``cpu.max``; in the first two do, ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` (the kernel's
documentation, "Control Group v2" and "CFS Bandwidth Control").
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
# Where the first version's controller of CPU time lies below the root.
CONTROLLERS = ("cpu,cpuacct", "cpu")


def cpu_quota(root: Path = ROOT, own: Path = OWN) -> float | None:
    """The least limit, in cores, of this process's groups; ``None`` where there is none.

    Args:
        root: where the groups lie.
        own: names this process's.
    """
    limits = [limit for folder in _groups(root, own) for limit in [_limit(folder)] if limit]
    return min(limits, default=None)


def throttled_s(root: Path = ROOT, own: Path = OWN) -> float:
    """Seconds that those limits kept this process's groups from running so far."""
    return sum(_throttled_s(folder) for folder in _groups(root, own))


def _groups(root: Path, own: Path) -> list[Path]:
    """Folders of this process's groups and of those above; a container may see its own as root."""
    paths = ["/"]
    with suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                paths.append(path)
    found: list[Path] = []
    for base in (root, *(root / name for name in CONTROLLERS)):
        for path in paths:
            inner = Path(path.lstrip("/"))
            if ".." in inner.parts:  # of another namespace: what lies there is not ours
                continue
            found += [base / inner, *(base / above for above in inner.parents)]
    # One name of the controller is often a link to the other.
    return list(dict.fromkeys(folder.resolve() for folder in found if folder.is_dir()))


def _limit(folder: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota, period = _text(folder / "cpu.max").split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        limit = int(_text(folder / "cpu.cfs_quota_us"))
        return limit / int(_text(folder / "cpu.cfs_period_us")) if limit > 0 else None
    return None


def _throttled_s(folder: Path) -> float:
    with suppress(OSError, ValueError):
        for line in _text(folder / "cpu.stat").splitlines():
            key, _, value = line.partition(" ")
            if key == "throttled_usec":
                return int(value) / 1e6
            if key == "throttled_time":  # of the first version, in nanoseconds
                return int(value) / 1e9
    return 0.0


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii")
