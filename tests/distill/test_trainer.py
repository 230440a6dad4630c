"""The trainer that joins the losses, what it leaves behind, and what a killed run comes back to."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from harm import flipped
from transformers import TrainerCallback, TrainerControl, TrainerState

from optimize.data import load as data
from optimize.data.arrays import Rows
from optimize.distill.losses import distillation_loss
from optimize.distill.projections import DistillError
from optimize.distill.teacher_outputs import Wanted, score
from optimize.distill.trainer import DistillationTrainer, train_student
from optimize.models import checkpoint
from optimize.models.attention import attention_for
from optimize.models.encoder import classification_head
from optimize.settings.data import DataSettings
from optimize.settings.training import DistillSettings
from optimize.training.arguments import Patience, training_arguments
from optimize.training.dataset import TrainingSet
from optimize.training.evaluation import PaddingCollator, tokenised
from optimize.training.resume import last_whole_checkpoint
from optimize.training.run import Run
from optimize.training.soft_targets import SoftTargets
from optimize.training.tokens import tokenise

LENGTH = 32
FIXED = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "precision": "fp32", "alpha": 0.5}


def silent(line):
    pass


@pytest.fixture(scope="module")
def splits(tiny_data):
    return data.load(DataSettings(source=str(tiny_data)))


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone):
    return checkpoint.load_tokenizer(str(tiny_backbone))


def targets_of(labels, folder):
    """A teacher that is sure of these labels."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "logits.npy", np.eye(3, dtype=np.float32)[labels] * 8)
    return SoftTargets.read(folder)


def lessons_of(splits, tokenizer, folder, targets=None, *, same_origin=False):
    tokens = tokenise(splits.train.texts, tokenizer, LENGTH, folder / "tokens")
    targets = targets or targets_of(splits.train.labels, folder)
    return TrainingSet(tokens, splits.train.labels, targets, same_origin)


def run_of(folder, tell=silent, **more):
    return Run(folder / "run", tell, **more)


def student_of(splits, backbone):
    return checkpoint.load_backbone(str(backbone), splits.label_names)


def trained(splits, backbone, folder, targets=None, *, same_origin=False, watch=(), **change):
    tokenizer = checkpoint.load_tokenizer(str(backbone))
    torch.manual_seed(0)
    student = student_of(splits, backbone)
    training_set = lessons_of(splits, tokenizer, folder, targets, same_origin=same_origin)
    settings = DistillSettings(**FIXED | change)
    run = run_of(folder, watch=tuple(watch))
    return train_student(
        settings, (student, tokenizer), training_set, splits.validation, LENGTH, run
    )


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], msg=name)


def test_trainers_loss_is_the_pure_function(splits, tiny_backbone, tokenizer, tmp_path):
    settings = DistillSettings(**FIXED | {"temperature": 3.0, "alpha": 0.3})
    training_set = lessons_of(splits, tokenizer, tmp_path)
    trainer = DistillationTrainer(
        settings=settings,
        training_set=training_set,
        run=run_of(tmp_path),
        model=student_of(splits, tiny_backbone),
        data_collator=PaddingCollator(tokenizer),
        eval_dataset=tokenised(splits.validation, tokenizer, LENGTH),
    )
    batch = training_set.batch([2, 0, 1])
    assert batch["teacher_logits"].argmax(dim=1).tolist() == splits.train.labels[[2, 0, 1]].tolist()
    with torch.inference_mode():
        loss, outputs = trainer.compute_loss(trainer.own, batch, return_outputs=True)
        expected = distillation_loss(
            outputs["logits"], batch["teacher_logits"], batch["labels"], 3.0, 0.3
        )
        assert torch.allclose(loss, expected)
        del batch["teacher_logits"]
        hard = torch.nn.functional.cross_entropy(outputs["logits"], batch["labels"])
        assert torch.allclose(trainer.compute_loss(trainer.own, batch), hard)


def test_student_learns_from_the_teacher_alone(splits, tiny_backbone, tokenizer, tmp_path):
    """alpha = 0 and a teacher that turns every label round: the student follows the teacher."""
    original = splits.train.labels
    turned = (original + 1) % 3
    # The epoch that does best on validation is kept: its labels are turned round as well.
    found = replace(splits.validation, labels=(splits.validation.labels + 1) % 3)
    splits = replace(splits, validation=found)
    targets = targets_of(turned, tmp_path)
    model = trained(
        splits, tiny_backbone, tmp_path, targets, alpha=0.0, temperature=1.0, epochs=24
    ).eval()
    rows = tokenised(splits.train, tokenizer, LENGTH)
    with torch.inference_mode():
        answers = model(**PaddingCollator(tokenizer)(list(rows))).logits.argmax(-1).numpy()
    # By the labels, every one of these answers is wrong.
    assert (answers == turned).mean() > 0.6 > (answers == original).mean()


def test_short_texts_take_the_plain_attention(splits, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with attention_for(128):
        assert not torch.backends.cuda.flash_sdp_enabled()
    with attention_for(129):
        assert torch.backends.cuda.flash_sdp_enabled()
    seen = []

    class Watch(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **_):
            model.register_forward_pre_hook(
                lambda *_: seen.append(torch.backends.cuda.flash_sdp_enabled())
            )

    trained(splits, tiny_backbone, tmp_path, watch=[Watch()])
    assert seen
    assert not any(seen)


def test_frozen_embeddings_do_not_move(splits, tiny_backbone, tmp_path):
    old = student_of(splits, tiny_backbone).get_input_embeddings().weight
    for frozen in (True, False):
        folder = tmp_path / str(frozen)
        model = trained(splits, tiny_backbone, folder, freeze_embeddings=frozen)
        assert torch.equal(model.get_input_embeddings().weight, old) is frozen


@pytest.fixture(scope="module")
def scored(splits, tiny_kit, tmp_path_factory):
    """What the tiny kit's teacher says, all its inner states included."""
    folder = tmp_path_factory.mktemp("scored")
    teacher = str(tiny_kit / "teacher-torch")
    model, own = checkpoint.load_classifier(teacher), checkpoint.load_tokenizer(teacher)
    tokens = tokenise(splits.train.texts, own, LENGTH, folder / "tokens")
    score(model, tokens, folder, silent, Wanted(hidden=(1, 2), relations=2))
    return SoftTargets.read(folder)


STATES = (
    {"pooled": 1.0},
    {"cosine": 1.0},
    {"hidden": 1.0},
    {"relations": 1.0, "relation_heads": 4},
    {"decoupled": 1.0, "kl": 0.0},
    {"logits": 0.1},
    {"pooled": 1.0, "hidden": 1.0, "representation_epochs": 2},
)


@pytest.fixture(scope="module")
def untaught(splits, tiny_backbone, scored, tmp_path_factory):
    """Weights of the student that learns by the logits alone."""
    return weights(trained(splits, tiny_backbone, tmp_path_factory.mktemp("untaught"), scored))


@pytest.mark.parametrize("losses", STATES, ids="-".join)
def test_each_loss_teaches_and_leaves_no_trace(
    losses, splits, tiny_backbone, scored, untaught, tmp_path
):
    model = trained(splits, tiny_backbone, tmp_path, scored, **losses)
    plain = student_of(splits, tiny_backbone)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert not classification_head(model)._forward_pre_hooks
    # The loss counts: its student is another one.
    ours = weights(model)
    assert any(not torch.allclose(ours[name], untaught[name]) for name in ours)


@pytest.mark.parametrize("width", [16, 64])
def test_student_of_another_width_is_projected(width, splits, scored, tmp_path, save_backbone):
    """A student wider than its teacher, and a narrower one."""
    backbone = save_backbone(tmp_path / "backbone", width=width)
    losses = {"pooled": 1.0, "hidden": 1.0, "relations": 1.0, "relation_heads": 4}
    model = trained(splits, backbone, tmp_path, scored, **losses)
    assert classification_head(model).in_features == width


def test_students_of_its_teacher_need_no_projection(splits, tiny_backbone, scored, tmp_path):
    from optimize.distill.projections import observe_student

    tokenizer = checkpoint.load_tokenizer(str(tiny_backbone))
    settings = DistillSettings(**FIXED, pooled=1.0, hidden=1.0)
    for same_origin in (True, False):
        student = student_of(splits, tiny_backbone)
        observe_student(
            student,
            settings,
            lessons_of(splits, tokenizer, tmp_path, scored, same_origin=same_origin),
        )
        projected = any("projection" in name for name, _ in student.named_children())
        assert projected is not same_origin


def test_teacher_with_another_tokenizer_teaches_by_logits_alone(
    splits, tiny_backbone, scored, tmp_path
):
    """A teacher of another family cuts texts otherwise: token by token nothing can be compared."""
    short = tokenise(
        splits.train.texts, checkpoint.load_tokenizer(str(tiny_backbone)), 5, tmp_path / "short"
    )
    training_set = TrainingSet(short, splits.train.labels, scored)
    student = (
        student_of(splits, tiny_backbone),
        checkpoint.load_tokenizer(str(tiny_backbone)),
    )
    for name in ("hidden", "relations"):
        settings = DistillSettings(**FIXED | {name: 1.0, "relation_heads": 4})
        with pytest.raises(DistillError, match=rf"tokenizers differ. Set distill.{name} = 0"):
            train_student(settings, student, training_set, splits.validation, 5, run_of(tmp_path))
    settings = DistillSettings(**FIXED, pooled=1.0)
    train_student(settings, student, training_set, splits.validation, 5, run_of(tmp_path))


def test_relation_heads_that_do_not_divide_a_width_are_refused_before_the_first_step(
    splits, tiny_backbone, scored, tmp_path
):
    with pytest.raises(DistillError, match=r"relation_heads = 12 does not divide a width of 32"):
        trained(splits, tiny_backbone, tmp_path, scored, relations=1.0, relation_heads=12)


@pytest.mark.parametrize("name", ["pooled", "cosine", "hidden", "relations"])
def test_states_that_precomputed_logits_do_not_have_are_refused(
    name, splits, tiny_backbone, tmp_path
):
    with pytest.raises(DistillError, match="holds logits only"):
        trained(splits, tiny_backbone, tmp_path, **{name: 1.0})


def test_in_the_first_epochs_only_inner_states_count(splits, tiny_backbone, scored, tmp_path):
    """While they do, the logits' targets may be anything."""
    noise = Rows.create(tmp_path / "noise.npy", scored.logits.shape, np.float32)
    noise[:] = np.random.default_rng(0).normal(size=scored.logits.shape).astype(np.float32)
    found = []
    for name, targets in (("real", scored), ("noise", replace(scored, logits=noise))):

        class Stop(TrainerCallback):
            def on_epoch_end(self, args, state, control, model=None, **_):
                if round(state.epoch) == 1:
                    found.append(weights(model))

        trained(
            splits,
            tiny_backbone,
            tmp_path / name,
            targets,
            watch=[Stop()],
            pooled=1.0,
            representation_epochs=1,
            epochs=2,
        )
    assert_same_weights(*found)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_interrupted_training_resumes_to_the_same_weights(ema, splits, tiny_backbone, tmp_path):
    whole = trained(splits, tiny_backbone, tmp_path / "whole", ema=ema)

    class Killed(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.epoch > 2.4:  # some way into the third epoch
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(splits, tiny_backbone, tmp_path / "cut", watch=[Killed()], ema=ema)
    assert last_whole_checkpoint(run_of(tmp_path / "cut")) is not None
    resumed = trained(splits, tiny_backbone, tmp_path / "cut", ema=ema)
    assert_same_weights(weights(resumed), weights(whole))


class KilledOnce(TrainerCallback):
    """Notes the epochs that end; raises at the first such event after an epoch."""

    def __init__(self, event, after):
        self.epochs, self.event, self.after = [], event, after

    def on_epoch_end(self, args, state, control, **_):
        self.epochs.append(round(state.epoch))

    def on_step_end(self, args, state, control, **_):
        self._seen("step", state)

    def on_save(self, args, state, control, **_):
        self._seen("save", state)

    def _seen(self, event, state):
        if event == self.event and state.epoch > self.after:
            self.event = None
            raise KeyboardInterrupt


@pytest.mark.parametrize(("event", "after"), [("step", 2.1), ("save", 2.5)])
def test_patience_outlives_a_kill(splits, tiny_backbone, tmp_path, event, after):
    """Nothing is learnt at this rate: the first epoch is the best, and two more are waited for.

    It is killed within the third epoch; and after its last checkpoint, when patience had ended it
    and its result was not written yet.
    """
    watch = KilledOnce(event, after)
    still = {"learning_rate": 1e-12, "patience": 2, "epochs": 6}
    with pytest.raises(KeyboardInterrupt):
        trained(splits, tiny_backbone, tmp_path / "cut", watch=[watch], **still)
    resumed = trained(splits, tiny_backbone, tmp_path / "cut", watch=[watch], **still)
    assert watch.epochs == [1, 2, 3]
    whole = trained(splits, tiny_backbone, tmp_path / "whole", **still)
    assert_same_weights(weights(resumed), weights(whole))


def test_epochs_without_the_head_do_not_try_ones_patience(tmp_path):
    """It has learned nothing then: the first score by chance would be the last."""
    spared = Patience(2, spared=3)
    plain = Patience(2, spared=0)
    arguments = training_arguments(DistillSettings(), tmp_path, "accuracy")
    for callback, stop_at in ((spared, 5), (plain, 2)):
        state, control, stopped = TrainerState(best_metric=0.9), TrainerControl(), []
        for epoch in range(1, 7):
            state.epoch = float(epoch)
            callback.on_evaluate(arguments, state, control, metrics={"eval_accuracy": 0.5})
            if control.should_training_stop:
                stopped.append(epoch)
        assert stopped[0] == stop_at


def test_a_head_without_a_loss_is_no_fault_between_processes(tmp_path):
    for epochs, unused in ((0, False), (1, True)):
        chosen = DistillSettings(representation_epochs=epochs, pooled=1.0)
        found = training_arguments(chosen, tmp_path, "accuracy").ddp_find_unused_parameters
        assert found is unused


def test_average_is_the_formula(splits, tiny_backbone, tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):
            seen.append(model.classifier.bias.detach().clone())

    model = trained(splits, tiny_backbone, tmp_path, watch=[Watch()], ema=0.8)
    average = seen[0]
    for value in seen[1:]:
        average = 0.8 * average + 0.2 * value
    torch.testing.assert_close(model.classifier.bias.detach(), average)


def test_half_written_checkpoint_is_passed_over(splits, tiny_backbone, tmp_path):
    trained(splits, tiny_backbone, tmp_path)
    run = run_of(tmp_path)
    last = last_whole_checkpoint(run)
    cut = run.work / "checkpoint-999"
    cut.mkdir()
    (cut / "model.safetensors").write_bytes(b"half")
    assert last_whole_checkpoint(run) == last
    assert not cut.exists()
    (cut.parent / last / "trainer_state.json").write_text('{"epoch": ')
    assert last_whole_checkpoint(run) != last


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


def test_a_checkpoint_with_any_file_damaged_is_set_aside_and_told(splits, tiny_backbone, tmp_path):
    """The one before is taken, and training goes on from there to the same weights."""
    whole = trained(splits, tiny_backbone, tmp_path / "whole", epochs=3)

    class Killed(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.epoch > 2.4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(splits, tiny_backbone, tmp_path / "cut", watch=[Killed()], epochs=3)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "cut", kept)
    newest = Path(last_whole_checkpoint(run_of(kept)))
    names = sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file())
    assert len(names) > 5
    for name, harm in product(names, (flipped, cut, Path.unlink)):
        shutil.rmtree(tmp_path / "cut")
        # As links: a harmed file is one of its own.
        shutil.copytree(kept, tmp_path / "cut", copy_function=os.link)
        told = []
        run = run_of(tmp_path / "cut", told.append)
        victim = run.work / newest.name / name
        victim.unlink()
        shutil.copyfile(kept / victim.relative_to(tmp_path / "cut"), victim)
        harm(victim)
        found = last_whole_checkpoint(run)
        assert found is not None
        assert Path(found).name != newest.name, name
        assert len(told) == 1
        assert told[0].startswith(newest.name)
    resumed = trained(splits, tiny_backbone, tmp_path / "cut", epochs=3)
    assert_same_weights(weights(resumed), weights(whole))


BUILD = """
import sys
from pathlib import Path
from optimize import settings
from optimize.pipeline.runner import Build, Runner
chosen, _ = settings.load(sys.argv[1], None, ["distill.epochs=12", "distill.augment=8"])
Build(chosen, Runner(lambda line: print(line, flush=True), Path(sys.argv[2]))).folder("student")
"""


@pytest.mark.slow  # the short campaign of faults kills a build too
@pytest.mark.parametrize("epochs", [(5,), (2, 8)])
def test_build_killed_outright_resumes_to_the_same_weights(epochs, tiny_recipe, tmp_path):
    """SIGKILL at no particular step, once or twice, and the next run goes on."""
    from safetensors.torch import load_file

    def started(cache):
        return subprocess.Popen(
            [sys.executable, "-c", BUILD, str(tiny_recipe), str(cache)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def weights_in(cache):
        (path,) = cache.glob("student-*/result/model.safetensors")
        return load_file(path)

    whole = started(tmp_path / "whole")  # meanwhile, on the other core
    kills = 0
    for wanted in (f"student: epoch {epoch} " for epoch in epochs):
        process = started(tmp_path / "cut")
        for line in process.stdout:
            if wanted in line:
                time.sleep(0.03)  # between the line and the end of the next epoch
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        process.wait(timeout=300)
    assert kills == len(epochs)
    last = started(tmp_path / "cut")
    told = last.stdout.read()
    assert last.wait(timeout=300) == 0
    assert whole.wait(timeout=300) == 0
    assert "student: epoch 1 of" not in told
    assert_same_weights(weights_in(tmp_path / "cut"), weights_in(tmp_path / "whole"))
