"""Several processes build one kit: real ones, joined by gloo as a launcher joins them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from optimize.pipeline.cache import StageCache
from optimize.training.distributed import Processes

# Writes the loss of every step beside building the student. Teacher and student are of 64 bits:
# what 32 round away, Adam makes large wherever a gradient is near zero, and these are tests of who
# does which share of the work.
BUILD = """
import json, sys
from pathlib import Path
from transformers import TrainerCallback
from optimize import settings
from optimize.models import checkpoint
from optimize.training import trainer
from optimize.pipeline.runner import Build, Runner

loaded = checkpoint._classifier
def doubled(*args, **more):
    model, told = loaded(*args, **more)
    return model.double(), told
checkpoint._classifier = doubled
losses = []
step = trainer.ClassifierTrainer.training_step

def noted(self, *args):
    loss = step(self, *args)
    every = self.accelerator.gather(loss.detach().reshape(1)).mean()
    losses.append(float(every))
    return loss

trainer.ClassifierTrainer.training_step = noted
recipe, cache, out = sys.argv[1:]
overrides = ["distill.augment=3", "distill.epochs=3", "student.dropout=0.0", "distill.pooled=1.0"]
overrides += ["distill.precision=fp32"]  # in bfloat16 a sum hangs on its order
chosen, _ = settings.load(recipe, None, overrides)
runner = Runner(lambda line: None, Path(cache))
Build(chosen, runner).folder("student")
if runner.processes.first:
    Path(out).write_text(json.dumps([runner.processes.count, losses]))
runner.processes.leave()
"""


@pytest.fixture(scope="module")
def one_and_two(tiny_recipe, tiny_cache, tiny_kit, tmp_path_factory):
    """(cache folder, processes, losses) of a build by one process and of one by two.

    Both find the same teacher in the cache, so that all that differs is how they share the work.
    """
    import shutil

    folder = tmp_path_factory.mktemp("launched")
    (folder / "build.py").write_text(BUILD)
    found = []
    for count in (1, 2):
        cache = folder / f"cache{count}"
        cache.mkdir()
        for stage in tiny_cache.glob("teacher-*"):
            if stage.is_dir() and not stage.name.startswith(("teacher-outputs", "teacher-fold")):
                shutil.copytree(stage, cache / stage.name)
        out = folder / f"losses{count}.json"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*launcher, "--nproc_per_node", str(count)] if count > 1 else [sys.executable]
        done = subprocess.run(
            [*command, str(folder / "build.py"), str(tiny_recipe), str(cache), str(out)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        processes, losses = json.loads(out.read_text())
        assert processes == count
        found.append((cache, losses))
    return found


def stage(cache, name):
    (folder,) = [path for path in cache.glob(f"{name}-*") if path.is_dir()]
    return folder / "result"


@pytest.mark.slow
def test_shared_scoring_gives_the_same_logits(one_and_two):
    one, two = (np.load(stage(cache, "teacher-outputs") / "logits.npy") for cache, _ in one_and_two)
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_shared_training_has_the_same_loss_curve(one_and_two):
    (_, one), (_, two) = one_and_two
    assert len(one) == len(two) > 20
    np.testing.assert_allclose(one, two, atol=1e-4)
    third = len(one) // 3  # of single batches, some are harder than others
    assert np.mean(one[-third:]) < np.mean(one[:third]) / 2


@pytest.mark.slow
def test_shared_training_gives_the_same_student(one_and_two):
    one, two = (
        load_file(stage(cache, "student") / "model.safetensors") for cache, _ in one_and_two
    )
    for name, value in one.items():
        if "key.bias" in name:
            continue  # softmax does not see it: its gradient is rounding, which Adam makes large
        torch.testing.assert_close(value, two[name], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_one_process_leaves_nothing_unfinished(one_and_two):
    for cache, _ in one_and_two:
        assert not list(cache.glob("*.unfinished"))


class Other(Processes):
    """A process that is not the first, among two; it hears what the first one says."""

    said = True

    def agreed(self, value):
        return self.said

    def wait(self):
        pass


def test_the_others_wait_for_what_the_first_makes(tmp_path):
    def build(result, work):
        raise AssertionError("only the first builds")

    cache = StageCache(tmp_path, processes=Other(1, 2))
    assert cache.build("stage", "k" * 40, build) == tmp_path / f"stage-{'k' * 20}" / "result"


def test_the_others_stop_where_the_first_failed():
    process = Other(1, 2)
    process.__class__.said = False
    try:
        with pytest.raises(RuntimeError, match="the first process failed"):
            process.by_first(lambda: None)
    finally:
        process.__class__.said = True


def test_the_first_says_why_it_failed():
    def fails():
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        Processes().by_first(fails)


def test_without_a_launcher_there_is_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Processes.launched() == Processes(0, 1)
