"""Builds the tests' tiny kit into a folder, for environments that have no torch to build it with.

python tests/tiny_kit.py DIR
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from conftest import save_tiny_backbone, write_tiny_data, write_tiny_recipe
from optimize import settings
from optimize.pipeline.runner import build


def main(target: Path) -> None:
    """Build it anew."""
    with TemporaryDirectory() as work:
        folder = Path(work)
        backbone = save_tiny_backbone(folder / "backbone")
        data = write_tiny_data(folder / "tiny.jsonl")
        chosen, _ = settings.load(str(write_tiny_recipe(folder / "tiny.toml", data, backbone)))
        kit = build(chosen, lambda line: None, folder / "cache")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(kit, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
