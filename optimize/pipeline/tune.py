"""Search for the recipe whose student answers best for its size, with Optuna.

A trial is one student, built by the same cached stages as any other. All that is chosen is chosen
on the validation split. Several processes and machines work on one study through its storage.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from optimize.bundle.folder import read_manifest
from optimize.pipeline.explain import flat
from optimize.pipeline.preflight import preflight
from optimize.pipeline.runner import Build, Runner
from optimize.settings.load import parse
from optimize.settings.recipe import Settings
from optimize.training.evaluation import score_of
from optimize.training.predict import logits_of
from optimize.workspace import Tell

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal:"
# Trials that must have come as far before one is stopped for being below their median.
LEAST_OTHERS = 4
# Tables of a recipe that a student's score hangs on, and where a study keeps them.
SEARCHED = ("teacher", "student", "distill", "generate", "tune")
SEARCHED_KEY = "searched"
PLACES = ("checkpoint", "revision", "logits", "transfer", "transfer_revision")
Direction = Literal["maximize", "minimize"]


class TuneError(ValueError):
    """A search that cannot be run; the message says why and what to do."""


def storage_of(spec: str) -> Any:
    """The storage of a study: ``journal:FILE``, or the URL of a database."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if not spec.startswith(JOURNAL):
        return spec
    path = Path(spec.removeprefix(JOURNAL))
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def tune(
    settings: Settings,
    storage: str,
    study_name: str,
    tell: Tell,
    cache_root: Path | None = None,
) -> optuna.Study:
    """Run trials until the study has as many as the recipe asks for.

    Args:
        settings: the recipe; its table ``[tune]`` says what is searched, and how long.
        storage: see :func:`storage_of`; a study that is there already goes on.
        study_name: several studies can share a storage.
        tell: told one line a trial.
        cache_root: where stages are kept; by default the user's cache folder.

    Raises:
        TuneError: the stored study has other objectives than this recipe, or is of another one; or
            the recipe teaches no student.
        CheckpointError, StudentError, DistillError: what no trial could learn.
    """
    import optuna
    from optuna.trial import TrialState

    if not settings.builds_chain:
        raise TuneError("this recipe builds no student: there is nothing to search")
    for layers in settings.tune.layers or (settings.student.layers,):
        preflight(changed(settings, {"student": {"layers": layers}}))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions: list[Direction] = ["maximize"]
    if len(settings.tune.layers) > 1:
        directions.append("minimize")
    study = optuna.create_study(
        storage=storage_of(storage),
        study_name=study_name,
        directions=directions,
        load_if_exists=True,
    )
    # A generator that began anew would draw what the trials that are there have tried.
    seed = settings.distill.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    if len(study.directions) != len(directions):
        raise TuneError(
            f"the study {study_name!r} in {storage} has {len(study.directions)} objectives, this "
            f"recipe {len(directions)}; choose another --study"
        )
    base = Build(settings, Runner(tell, cache_root))
    _check_begun(study, _searched(base), f"the study {study_name!r} in {storage}")
    counted = (TrialState.COMPLETE, TrialState.PRUNED)

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        return _run_trial(trial, base, directions, tell, cache_root)

    if len(study.get_trials(states=counted)) < settings.tune.trials:
        stop = optuna.study.MaxTrialsCallback(settings.tune.trials, states=counted)
        study.optimize(objective, callbacks=[stop])
    return study


def _searched(base: Build) -> dict[str, Any]:
    """What the scores of a study hang on; the number of trials may rise.

    Files are known by what they hold: each machine of a study may have them elsewhere.
    """
    tables = base.settings.model_dump(mode="json", include=set(SEARCHED))
    found = {
        f"{name}.{key}": value
        for name in SEARCHED
        for key, value in tables[name].items()
        if (name, key) != ("tune", "trials") and key not in PLACES
    }
    # Not of which libraries, and not in which precision: machines of one study may differ in those.
    files = {
        f"{stage.name}: {path}": value
        for stage in base.stages["student"].walk()
        for path, value in flat(stage.parts["values"])
        if not path.endswith("precision")
    }
    return {"data": base.splits.training.key_part, **files, **found}


def _check_begun(study: optuna.Study, searched: Mapping[str, Any], name: str) -> None:
    """Refuse to go on with another recipe's trials; those would be counted for this one's.

    Raises:
        TuneError: names what differs.
    """
    from optuna.trial import TrialState

    begun = study.user_attrs.get(SEARCHED_KEY)
    tried = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    if not study.get_trials(states=tried):
        study.set_user_attr(SEARCHED_KEY, dict(searched))
        return
    if begun is None:
        raise TuneError(
            f"{name} does not say which recipe its trials are of; choose another --study"
        )
    differ = [key for key in sorted(begun.keys() | searched.keys())
              if begun.get(key) != searched.get(key)]  # fmt: skip
    if differ:
        told = "; ".join(
            f"{key} was {begun.get(key)!r} and is {searched.get(key)!r}" for key in differ[:3]
        )
        raise TuneError(
            f"{name} was begun with another recipe or data: {told}. Its trials would be counted "
            "for this one; choose another --study"
        )


def _run_trial(
    trial: optuna.Trial,
    base: Build,
    directions: list[Direction],
    tell: Tell,
    cache_root: Path | None,
) -> tuple[float, ...]:
    changes = suggest(trial, base.settings)
    settings = changed(base.settings, changes)
    watch = _Watch(trial, settings.distill.representation_epochs)
    tried = Build(settings, Runner(tell, cache_root, watch=(watch,)))
    words = ", ".join(f"{key} = {value:.4g}" for key, value in trial.params.items())
    tell(f"trial {trial.number}: {words}")
    for stage in tried.stages["student"].inputs.values():
        base.runner.folder(stage)  # unwatched: a teacher is never behind
    folder = tried.folder("student")
    parameters = read_manifest(folder).parameters
    validation = tried.splits.validation
    scores = score_of(logits_of(folder, validation.texts), validation.labels)
    ((name, score),) = scores.items()
    words = name.replace("_", " ")
    tell(f"trial {trial.number}: validation {words} {score:.4f}, {parameters:,} parameters")
    return (score, float(parameters))[: len(directions)]


def suggest(trial: optuna.trial.BaseTrial, settings: Settings) -> dict[str, Any]:
    """The changes to a recipe that a trial tries: by table and key."""
    search, distill, student = settings.tune, {}, {}
    for key in ("temperature", "alpha", "learning_rate", "pooled", "cosine", "decoupled"):
        span = getattr(search, key)
        # A file of logits has no states to compare.
        if span is not None and not (settings.teacher.logits and key in {"pooled", "cosine"}):
            log = key == "learning_rate"
            distill[key] = trial.suggest_float(key, *span, log=log)
    if len(search.layers) > 1:
        student["layers"] = trial.suggest_categorical("layers", list(search.layers))
    elif search.layers:
        student["layers"] = search.layers[0]
    return {"distill": distill, "student": student}


def changed(settings: Settings, changes: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The recipe with those changes."""
    table = settings.model_dump()
    for name, values in changes.items():
        table[name] = table[name] | dict(values)
    return parse(table, "a trial's recipe")


class _Watch(TrainerCallback):
    """Notes a trial's score epoch by epoch, and stops one that falls behind.

    Optuna's own pruners know a single objective only. Here a trial's others are those that came as
    far with at most as many parameters: below their median it could not join the front.

    Args:
        trial: is told.
        spared: first epochs, in which the head learns nothing, so that a score is a random head's.
    """

    def __init__(self, trial: optuna.Trial, spared: int) -> None:
        self._trial = trial
        self._spared = spared

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        model: Any = None,
        **_: Any,
    ) -> None:
        import optuna

        if (state.epoch or 0) <= self._spared:
            return
        found = metrics or {}
        score = found.get("eval_accuracy", found.get("eval_micro_f1", 0.0))
        key = f"epoch {round(state.epoch or 0)}"
        size = sum(weight.numel() for weight in model.parameters())
        self._trial.set_user_attr("parameters", size)
        self._trial.set_user_attr(key, score)
        others = [
            other.user_attrs[key]
            for other in self._trial.study.get_trials(deepcopy=False)
            if other.number != self._trial.number
            and key in other.user_attrs
            and other.user_attrs["parameters"] <= size
        ]
        if len(others) >= LEAST_OTHERS and score < statistics.median(others):
            raise optuna.TrialPruned(f"below the median of {len(others)} at {key}")


def front(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials that no other beats in accuracy and size, the most accurate first."""
    return sorted(study.best_trials, key=lambda trial: (-trial.values[0], trial.number))


def recipe_toml(
    trial: optuna.trial.FrozenTrial,
    settings: Settings,
    base: str | None,
    overrides: Sequence[str] = (),
) -> str:
    """A trial as a recipe that extends the one it was searched from.

    Args:
        trial: one of a study.
        settings: what was searched from.
        base: that recipe; ``None`` where it is the project's own, whose tables these then are.
        overrides: assignments that the search was given; they are told.
    """
    import optuna

    changes = suggest(optuna.trial.FixedTrial(trial.params), settings)
    prefix = "tool.optimize." if base is None else ""
    lines = [
        f"# Trial {trial.number}: validation score {trial.values[0]:.4f}, chosen on validation.",
        *(f"# It was searched with --set {each}: give it again." for each in overrides),
    ]
    if base is None:
        lines.append("# For pyproject.toml, in place of what stands there.")
    else:
        lines.append(f"extends = {json.dumps(base, ensure_ascii=False)}")
    for name, table in changes.items():
        if table:
            lines += ["", f"[{prefix}{name}]"]
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
