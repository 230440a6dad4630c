"""The search: what it tries, keeps, stops and comes back to."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the extra `tune` is not installed")

import optuna
from transformers import TrainerControl, TrainerState

from optimize import settings
from optimize.cli import main
from optimize.distill.projections import DistillError
from optimize.models.encoder import StudentError
from optimize.pipeline.tune import TuneError, _Watch, changed, front, recipe_toml, suggest, tune
from optimize.settings.load import tomllib

SEARCH = [
    "tune.trials=3",
    "tune.layers=[1, 2]",
    "distill.epochs=2",
    "tune.pooled=[0.0, 1.0]",
]
OTHERS = ("alpha", "learning_rate", "pooled")


@pytest.fixture
def chosen(tiny_recipe):
    return settings.load(str(tiny_recipe), None, SEARCH)[0]


def told_by(chosen, storage, cache, name="s"):
    told = []
    return tune(chosen, storage, name, told.append, cache), told


def test_a_study_has_the_trials_asked_for_and_goes_on(chosen, tiny_cache, tmp_path):
    storage = f"journal:{tmp_path / 'study' / 'journal.log'}"
    study, told = told_by(chosen, storage, tiny_cache)
    assert len(study.trials) == 3
    assert sum("validation accuracy" in line and "trial" in line for line in told) == 3
    # Nothing more is run: it has as many as asked for.
    again, told = told_by(chosen, storage, tiny_cache)
    assert len(again.trials) == 3
    assert told == []
    more = changed(chosen, {"tune": {"trials": 4}})
    assert len(told_by(more, storage, tiny_cache)[0].trials) == 4
    best = front(study)
    accuracies = [trial.values[0] for trial in best]
    assert accuracies == sorted(accuracies, reverse=True)
    sizes = [trial.values[1] for trial in best]
    assert sizes == sorted(sizes, reverse=True)


def test_command_leaves_a_recipe_that_can_be_built(tiny_recipe, tiny_cache, tmp_path, monkeypatch):
    monkeypatch.setattr("optimize.pipeline.runner.default_root", lambda: tiny_cache)
    monkeypatch.chdir(tmp_path)
    overrides = [part for item in SEARCH for part in ("--set", item)]
    assert main(["tune", "--recipe", str(tiny_recipe), *overrides]) == 0
    written = (tmp_path / "tuned.toml").read_text()
    assert written.startswith("# Trial ")
    found, _ = settings.load(str(tmp_path / "tuned.toml"))
    assert found.student.layers in (1, 2)
    assert 1.0 <= found.distill.temperature <= 8.0
    assert found.teacher == settings.load(str(tiny_recipe))[0].teacher


WORKER = """
import sys
from pathlib import Path
from optimize import settings
from optimize.settings.load import tomllib
from optimize.pipeline.tune import tune
chosen, _ = settings.load(sys.argv[1], None, sys.argv[4:])
tune(chosen, sys.argv[2], "s", lambda line: None, Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_two_processes_share_a_study(tiny_recipe, tiny_cache, tiny_kit, tmp_path):
    storage = f"journal:{tmp_path / 'journal.log'}"
    command = [sys.executable, "-c", WORKER, str(tiny_recipe), storage, str(tiny_cache), *SEARCH]
    both = [subprocess.Popen([*command, "tune.trials=2"]) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    from optimize.pipeline.tune import storage_of

    study = optuna.load_study(study_name="s", storage=storage_of(storage))
    done = [trial for trial in study.trials if trial.state.is_finished()]
    assert 2 <= len(done) <= 3  # the two may each be at a last one


def test_study_with_other_objectives_is_refused(chosen, tiny_cache, tmp_path):
    storage = f"journal:{tmp_path / 'journal.log'}"
    from optimize.pipeline.tune import storage_of

    optuna.create_study(storage=storage_of(storage), study_name="s", direction="maximize")
    with pytest.raises(TuneError, match="has 1 objectives, this recipe 2"):
        tune(chosen, storage, "s", lambda line: None, tiny_cache)


def test_a_trial_changes_what_is_searched_and_nothing_else(chosen):
    fixed = {"temperature": 2.5, "alpha": 0.2, "learning_rate": 2e-4, "pooled": 0.5, "layers": 2}
    changes = suggest(optuna.trial.FixedTrial(fixed), chosen)
    found = changed(chosen, changes)
    assert found.distill.temperature == 2.5
    assert found.student.layers == 2
    same = {"distill", "student"}
    assert found.model_dump(exclude=same) == chosen.model_dump(exclude=same)
    assert found.distill.epochs == chosen.distill.epochs


class Model:
    def parameters(self):
        import torch

        return [torch.zeros(10)]


@pytest.mark.parametrize(
    ("accuracy", "others", "stopped"),
    [
        (0.4, (0.5, 0.6, 0.7, 0.8), True),
        (0.7, (0.5, 0.6, 0.7, 0.8), False),
        (0.4, (0.5, 0.6, 0.7), False),  # too few to tell
        (0.4, (), False),
    ],
)
def test_a_trial_that_falls_behind_is_stopped(accuracy, others, stopped):
    study = optuna.create_study(directions=["maximize", "minimize"])
    for value in others:
        attributes = {"epoch 1": value, "parameters": 10}
        study.add_trial(optuna.trial.create_trial(values=[value, 10.0], user_attrs=attributes))
    # A larger model is no other, however good.
    larger = {"epoch 1": 0.99, "parameters": 11}
    for _ in range(9):
        study.add_trial(optuna.trial.create_trial(values=[0.99, 11.0], user_attrs=larger))
    watch = _Watch(study.ask(), spared=0)
    state = TrainerState(epoch=1.0)
    arguments = (None, state, TrainerControl(), {"eval_accuracy": accuracy})
    if stopped:
        with pytest.raises(optuna.TrialPruned, match="below the median of 4"):
            watch.on_evaluate(*arguments, model=Model())
    else:
        watch.on_evaluate(*arguments, model=Model())
    # While only losses on inner states count, the head is a random one.
    _Watch(study.ask(), spared=1).on_evaluate(*arguments, model=Model())


def test_a_recipe_has_the_layers_that_were_not_searched_but_set():
    chosen = settings.parse({"tune": {"layers": [3], **dict.fromkeys(OTHERS)}}, "t")
    trial = optuna.trial.create_trial(
        params={"temperature": 2.0},
        distributions={"temperature": optuna.distributions.FloatDistribution(1, 8)},
        values=[0.9],
    )
    found = tomllib.loads(recipe_toml(trial, chosen, 'C:\\mine\\a "b".toml'))
    assert found["student"] == {"layers": 3}
    assert found["extends"] == 'C:\\mine\\a "b".toml'


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"distill": {"epochs": 1}}, "distill.epochs was 2 and is 1"),
        ({"tune": {"alpha": (0.1, 0.2)}}, "tune.alpha was"),
        ({"data": {"source": "less.jsonl"}}, "data was"),
    ],
)
def test_a_study_of_another_recipe_is_refused(chosen, tiny_cache, tmp_path, change, words):
    if "data" in change:
        rows = Path(chosen.data.source).read_text().splitlines()
        (tmp_path / "less.jsonl").write_text("\n".join(rows[1:]))
        change = {"data": {"source": str(tmp_path / "less.jsonl")}}
    storage = f"journal:{tmp_path / 'journal.log'}"
    first = changed(chosen, {"tune": {"trials": 1}})
    tune(first, storage, "s", lambda line: None, tiny_cache)
    with pytest.raises(TuneError, match=f"was begun with another recipe or data: {words}"):
        tune(changed(chosen, change), storage, "s", lambda line: None, tiny_cache)


def test_a_study_that_goes_on_draws_what_it_has_not_tried(chosen, tmp_path, monkeypatch):
    """On another machine, in another precision and with other libraries too."""
    tried = []

    def score(trial, base, directions, tell, cache_root):
        tried.append(repr(suggest(trial, base.settings)))
        return (0.5, 10.0)

    monkeypatch.setattr("optimize.pipeline.tune._run_trial", score)
    storage = f"journal:{tmp_path / 'journal.log'}"
    for trials, precision in ((2, "fp32"), (4, "bf16"), (6, "fp32")):
        more = {"tune": {"trials": trials}}
        monkeypatch.setattr("optimize.pipeline.graph.training_precision", lambda _, p=precision: p)
        monkeypatch.setattr("platform.python_version_tuple", lambda n=trials: ("3", str(n), "0"))
        tune(changed(chosen, more), storage, "s", lambda line: None, tmp_path / "cache")
    assert len(tried) == len(set(tried)) == 6


def test_a_study_without_a_trial_takes_the_corrected_recipe(chosen, tiny_cache, tmp_path):
    """And one whose trials are of nobody knows which recipe is refused."""
    from optimize.pipeline.tune import storage_of

    storage = f"journal:{tmp_path / 'journal.log'}"
    first = changed(chosen, {"tune": {"trials": 1}})
    directions = ["maximize", "minimize"]
    study = optuna.create_study(storage=storage_of(storage), study_name="s", directions=directions)
    study.set_user_attr("searched", {"data": "of a recipe that failed at once"})
    assert len(tune(first, storage, "s", lambda line: None, tiny_cache).trials) == 1
    old = optuna.create_study(storage=storage_of(storage), study_name="old", directions=directions)
    old.add_trial(optuna.trial.create_trial(values=[0.5, 10.0]))
    with pytest.raises(TuneError, match="does not say which recipe its trials are of"):
        tune(first, storage, "old", lambda line: None, tiny_cache)


def test_what_no_trial_could_learn_is_refused_before_a_teacher(chosen, tmp_path):
    wrong = changed(chosen, {"distill": {"relations": 1.0, "relation_heads": 5}})
    with pytest.raises(DistillError, match="relation_heads = 5"):
        tune(wrong, f"journal:{tmp_path / 'j.log'}", "s", lambda line: None, tmp_path / "cache")
    with pytest.raises(StudentError, match=r"student\.layers = 9"):
        tune(changed(chosen, {"tune": {"layers": [1, 9]}}), f"journal:{tmp_path / 'j.log'}", "s",
             lambda line: None, tmp_path / "cache")  # fmt: skip
    assert not (tmp_path / "cache").exists()


def test_a_teacher_of_logits_alone_is_tuned_without_its_states(chosen):
    table = chosen.model_dump()
    table["teacher"]["logits"] = "teacher.npz"
    table["distill"] |= {"pooled": 0.0, "cosine": 0.0}
    given = settings.parse(table, "t")
    trial = optuna.trial.FixedTrial(
        {"temperature": 2.0, "alpha": 0.1, "learning_rate": 2e-4, "layers": 1}
    )
    assert "pooled" not in suggest(trial, given)["distill"]


def test_the_teacher_is_not_stopped_by_what_watches_a_trial(chosen, tmp_path, monkeypatch):
    """It is built without: a teacher is behind no other trial."""
    watched = []
    monkeypatch.setattr(_Watch, "on_evaluate", lambda self, args, *_, **__: watched.append(args))
    first = changed(chosen, {"tune": {"trials": 1}})
    assert first.teacher.epochs > first.distill.epochs
    tune(first, f"journal:{tmp_path / 'j.log'}", "s", lambda line: None, tmp_path / "cache")
    assert {args.num_train_epochs for args in watched} == {first.distill.epochs}


def test_recipe_of_a_trial_is_toml():
    trial = optuna.trial.create_trial(
        params={"temperature": 2.0, "layers": 3},
        distributions={
            "temperature": optuna.distributions.FloatDistribution(1, 8),
            "layers": optuna.distributions.CategoricalDistribution([3, 6]),
        },
        values=[0.9, 5.0],
    )
    chosen = settings.parse(
        {"tune": {"layers": [3, 6], "temperature": [1.0, 8.0], **dict.fromkeys(OTHERS)}}, "t"
    )
    text = recipe_toml(trial, chosen, "clinc", ["distill.epochs=2"])
    assert 'extends = "clinc"' in text
    assert "[student]\nlayers = 3" in text
    assert "[distill]\ntemperature = 2.0" in text
    assert "# It was searched with --set distill.epochs=2: give it again." in text
    own = recipe_toml(trial, chosen, None)
    assert "extends" not in own
    assert "[tool.optimize.student]\nlayers = 3" in own


@pytest.mark.parametrize("span", ["[3.0, 1.0]", "[-1.0, 1.0]"])
def test_range_that_does_not_rise_is_refused(tiny_recipe, span):
    with pytest.raises(settings.SettingsError, match=r"tune\.temperature"):
        settings.load(str(tiny_recipe), None, [f"tune.temperature={span}"])
