"""Takes the fingerprint of a run."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from optimize import machine
from optimize.judge.records import Fingerprint

LIBRARIES = ("python", "onnxruntime", "tokenizers", "numpy", "torch", "transformers")


def take(threads: int, workers: Mapping[str, Mapping[str, Any]]) -> Fingerprint:
    """The fingerprint of this machine and of the workers that ran on it.

    Args:
        threads: of every worker.
        workers: what each worker said of itself, by variant.
    """
    libraries: dict[str, str] = {}
    for library in LIBRARIES:
        found = {name: str(about[library]) for name, about in workers.items() if library in about}
        if len(set(found.values())) == 1:
            libraries[library] = next(iter(found.values()))
        else:
            libraries |= {f"{name}/{library}": version for name, version in found.items()}
    return Fingerprint(
        cpu=machine.cpu_model(),
        isa=machine.isa_flags(),
        isa_class=machine.isa_class(),
        cores=machine.available_cores(),
        threads=threads,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        libraries=libraries,
    )
