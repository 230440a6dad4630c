"""What a PyTorch model is saved as."""

import pytest

from conftest import LABELS, eight_headed_bert
from optimize.models.checkpoint import load_classifier
from optimize.models.folder import save_torch

pytestmark = pytest.mark.torch
SIZES = {"GB": 10**9, "TB": 10**12}


def test_a_model_is_one_file_however_large(tiny_tokenizer, tmp_path, monkeypatch):
    """The limit of a file's size is a millionth here, and so is the model."""
    model = eight_headed_bert(tiny_tokenizer)
    whole = model.save_pretrained

    def save(folder, *, max_shard_size="5GB", **more):
        limit = int(max_shard_size[:-2]) * SIZES[max_shard_size[-2:]] // 10**6
        whole(folder, max_shard_size=limit, **more)

    monkeypatch.setattr(model, "save_pretrained", save)
    save_torch(model, tiny_tokenizer, tmp_path, labels=LABELS, max_length=16)
    loaded = load_classifier(str(tmp_path)).state_dict()
    assert all((loaded[name] == weights).all() for name, weights in model.state_dict().items())


def test_weights_that_were_not_written_are_missed(tiny_tokenizer, tmp_path, monkeypatch):
    """Else an empty folder would be sealed as a finished stage, and what was trained be lost."""
    model = eight_headed_bert(tiny_tokenizer)
    monkeypatch.setattr(model, "save_pretrained", lambda folder, **more: None)
    with pytest.raises(OSError, match=r"not saved as model.safetensors \(there: .*tokenizer"):
        save_torch(model, tiny_tokenizer, tmp_path, labels=LABELS, max_length=16)
