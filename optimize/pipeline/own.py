"""The stages of a recipe's own variants: models made elsewhere, word counts, one's own code."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from optimize.data.input_file import InputFiles
from optimize.data.splits import Splits
from optimize.models.checkpoint import locate
from optimize.pipeline.stage import Stage
from optimize.quantize.adopted_answers import AdoptError
from optimize.settings.recipe import Settings
from optimize.settings.variants import VariantSettings
from optimize.workspace import Tell

MODULE = "optimize.pipeline.variants"


def own_variants(settings: Settings, splits: Splits) -> dict[str, Stage]:
    """A stage for each of ``[variants]`` that can be made here, by the variant's name.

    Raises:
        AdoptError: a folder or file that is named is not there.
        CheckpointError: likewise, of a package.
    """
    absent = set(left_out(settings))
    return {
        name: _stage(name, chosen, splits)
        for name, chosen in settings.variants.items()
        if name not in absent
    }


def left_out(settings: Settings) -> Iterator[str]:
    """Variants that need what is not installed."""
    if importlib.util.find_spec("sklearn") is None:
        yield from (name for name, chosen in settings.variants.items() if chosen.trained)


def tell_left_out(settings: Settings, tell: Tell) -> None:
    """Say which variants are left out, and what would bring them."""
    for name in left_out(settings):
        tell(
            f"{name}: left out, since scikit-learn is not installed: `pip install "
            '"optimize[linear]"` brings it'
        )


def _stage(name: str, chosen: VariantSettings, splits: Splits) -> Stage:
    if chosen.trained is not None:
        make = "optimize.distill.linear:build_linear"
        return Stage(f"variant-{name}", make, {"data": splits.training})
    shared = {
        "label_names": splits.label_names,
        "problem_type": splits.training.problem_type,
        "text_pair": splits.pairs,
    }
    if chosen.python is not None:
        files = _python_files(name, chosen.python, Path(chosen.path), chosen.files)
        values = {"factory": chosen.python, "source": files, **shared}
        return Stage(f"variant-{name}", f"{MODULE}:build_python", values)
    return Stage(
        f"variant-{name}",
        f"{MODULE}:build_adopted",
        {
            "name": name,
            "source": _model_files(name, str(chosen.model)),
            "runtime": chosen.runtime,
            "max_length": chosen.max_length,
            **shared,
        },
    )


def _model_files(name: str, model: str) -> InputFiles:
    folder = Path(locate(model)) if model.startswith("package:") else Path(model)
    if not folder.is_dir():
        raise AdoptError(
            f"variants.{name}.model: there is no folder {model!r}; a model of the Hub is "
            f"downloaded first: `hf download {model} --local-dir FOLDER`"
        )
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return InputFiles(folder, tuple(names))


def _python_files(name: str, factory: str, folder: Path, files: tuple[str, ...]) -> InputFiles:
    """The module, where it is a file of the folder, and the files that it reads."""
    # A module of a package is installed, or nowhere: a kit's folders are flat.
    module = f"{factory.partition(':')[0]}.py"
    for each in files:
        if not (folder / each).is_file():
            raise AdoptError(f"variants.{name}.files: {folder / each} is not there")
    own = (module,) if (folder / module).is_file() else ()
    return InputFiles(folder, (*own, *(each for each in files if each not in own)))
