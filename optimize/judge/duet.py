"""One bundle under several interpreters, interleaved in one run.

Two onnxruntime versions, or two Pythons, can soundly be compared in no other way: two runs differ
by the hour that they ran in, too. Each interpreter needs the base layer's dependencies only.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optimize.bundle.folder import read_manifest
from optimize.bundle.manifest import KIT_NAME, MANIFEST_NAME
from optimize.judge.kit import Kit, KitError, Variant, check_problem, read_kit, refuse_code
from optimize.judge.records import Mode, Report
from optimize.judge.run import judge
from optimize.settings.load import parse
from optimize.settings.recipe import Settings
from optimize.workspace import Tell

BUNDLE = "student-int8"
ASK_VERSIONS = (
    "import json, platform, onnxruntime, msgspec, numpy, tokenizers; "
    "print(json.dumps([onnxruntime.__version__, platform.python_version()]))"
)


class DuetError(ValueError):
    """An interpreter or bundle that cannot be compared; says why and what to do."""


def duet(
    bundle: Path,
    pythons: Sequence[str],
    *,
    kit: Path | None = None,
    max_slowdown_pct: float = 5.0,
    mode: Mode = "full",
    threads: int = 0,
    tell: Tell,
) -> Report:
    """Judge a bundle under each interpreter against the first.

    Args:
        bundle: its folder, or a kit's, whose INT8 bundle is taken.
        pythons: interpreters, two or more; the first is the reference.
        kit: where the texts come from; by default the kit that the bundle lies in.
        max_slowdown_pct: what the others may be slower by.
        mode: ``quick`` takes three replicates.
        threads: of every worker; 0 takes the cores that this process may use.
        tell: told the progress.

    Returns:
        A report whose variants are the interpreters.

    Raises:
        DuetError: fewer than two interpreters, one without onnxruntime, or no texts.
    """
    if len(pythons) < 2:
        raise DuetError(
            f"{len(pythons)} interpreter was given; a duet needs two: --python A --python B"
        )
    folder = bundle / BUNDLE if (bundle / KIT_NAME).is_file() else bundle
    place = kit or folder.resolve().parent
    if not (place / KIT_NAME).is_file():
        raise DuetError(
            f"{place} holds no {KIT_NAME}, which has the texts to time; give the kit that the "
            "bundle was built with: --kit DIR"
        )
    names = interpreter_names(pythons)
    manifest = read_manifest(folder)
    refuse_code(folder, manifest)
    variants = {
        name: Variant(name, folder, manifest, python=python)
        for name, python in zip(names, pythons, strict=True)
    }
    whole = read_kit(place)
    if manifest.labels != whole.manifest.labels:
        raise KitError(f"{folder / MANIFEST_NAME} has other labels than the kit {place}")
    check_problem(folder, manifest, whole.manifest)
    settings = duet_settings(names, max_slowdown_pct, threads, whole)
    words = ["duet", str(bundle), *(word for python in pythons for word in ("--python", python))]
    words += [] if kit is None else ["--kit", str(kit)]
    words += ["--max-slowdown-pct", f"{max_slowdown_pct:g}", "--threads", str(threads)]
    # As a command again: the page shows it.
    return judge(replace(whole, variants=variants), settings, shlex.join(words), mode, tell)


def interpreter_names(pythons: Sequence[str]) -> list[str]:
    """``ort-VERSION`` of each, with the Python where that differs, or else with a number.

    Raises:
        DuetError: an interpreter does not start, or has no onnxruntime.
    """
    versions = [_versions(python) for python in pythons]
    plain = [f"ort-{runtime}" for runtime, _ in versions]
    if len(set(plain)) == len(plain):
        return plain
    longer = [f"ort-{runtime}-py{python}" for runtime, python in versions]
    if len(set(longer)) == len(longer):
        return longer
    return [f"{name}-{place}" for place, name in enumerate(longer, start=1)]


def _versions(python: str) -> tuple[str, str]:
    try:
        done = subprocess.run(
            [python, "-c", ASK_VERSIONS], capture_output=True, text=True, check=False, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DuetError(f"{python} cannot be started: {error}") from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise DuetError(
            f"{python} cannot run a bundle: {last[0]}. It needs the base layer: "
            f"`{python} -m pip install optimize`, or its dependencies alone"
        )
    runtime, version = json.loads(done.stdout)
    return str(runtime), str(version)


def duet_settings(
    names: Sequence[str], max_slowdown_pct: float, threads: int, kit: Kit
) -> Settings:
    """Gates of every interpreter against the first; workloads as the kit was built with."""
    reference, *others = names
    gates: dict[str, dict[str, Any]] = {}
    for name in others:
        both = {"candidate": name, "reference": reference}
        ratio = 100 / (100 + max_slowdown_pct)
        remedy = f"stay with {reference}, or look for the slow kernel: onnxruntime's own profiler"
        gates |= {
            f"speed-{name}": {"kind": "speedup", "min_ratio": ratio, "remedy": remedy, **both},
            f"labels-{name}": {"kind": "labels", **both},
            f"memory-{name}": {
                "kind": "growth",
                "quantity": "memory",
                "max_growth_pct": 25.0,
                "remedy": f"stay with {reference}",
                **both,
            },
        }
    chosen = {
        **kit.manifest.settings["judge"],
        "variants": names,
        "control": names[-1],
        "threads": threads,
        "drop_gates": (),
    }
    label = kit.manifest.settings["data"].get("out_of_scope_label")
    data = {"out_of_scope_label": label}
    table = {"name": "duet", "data": data, "judge": chosen, "gates": gates}
    return parse(table, "a duet")
