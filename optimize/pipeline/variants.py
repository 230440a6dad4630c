"""Stages that put models of one's own beside those of the chain."""

from __future__ import annotations

import shutil
from pathlib import Path

from optimize.bundle.manifest import MANIFEST_NAME, Manifest, write_json
from optimize.data.input_file import InputFiles
from optimize.models.folder import entries
from optimize.problems import ProblemType
from optimize.quantize.adopt import adopt, check_labels
from optimize.workspace import Workspace

NO_LIMIT = 2**31


def build_adopted(
    result: Path,
    run: Workspace,
    *,
    name: str,
    source: InputFiles,
    runtime: str,
    max_length: int | None,
    label_names: tuple[str, ...],
    problem_type: ProblemType,
    text_pair: bool,
) -> None:
    """The stage: a model built elsewhere, as a variant of the kit.

    Args:
        result: folder to fill.
        run: is told what it is.
        name: of the variant.
        source: its files.
        runtime: of a checkpoint.
        max_length: longest input in tokens; by default what its files say.
        label_names: the data's, all of which it must know.
        problem_type: the data's, which must be its own.
        text_pair: whether the data's texts are pairs.

    Raises:
        AdoptError: it cannot be taken over.
    """
    manifest = adopt(
        source.folder, result, runtime=runtime, max_length=max_length, text_pair=text_pair
    )
    check_labels(name, manifest, label_names, problem_type, text_pair=text_pair)
    kind = "INT8" if manifest.quantization else "fp32"
    run.tell(f"{manifest.format}, {kind}, {len(manifest.labels)} labels")


def build_python(
    result: Path,
    run: Workspace,
    *,
    factory: str,
    source: InputFiles,
    label_names: tuple[str, ...],
    problem_type: ProblemType,
    text_pair: bool,
) -> None:
    """The stage: a function of one's own, with the files that it reads.

    Args:
        result: folder to fill.
        run: is told nothing.
        factory: ``MODULE:FACTORY``.
        source: the module, where it is a file of the folder, and its files.
        label_names: the data's; columns of an array of scores are in this order.
        problem_type: the data's.
        text_pair: whether the data's texts are pairs.
    """
    for each in source.names:
        (result / each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.folder / each, result / each)
    if not source.names:
        # A module that is installed, or a client of a service: nothing of it is shipped here.
        (result / "installed.txt").write_text(f"{factory}\n", encoding="utf-8")
    manifest = Manifest(
        format="python",
        labels=label_names,
        max_length=NO_LIMIT,
        parameters=0,
        problem_type=problem_type,
        text_pair=text_pair,
        files=entries(result),
        recipe={"python": factory},
    )
    write_json(manifest, result / MANIFEST_NAME)
