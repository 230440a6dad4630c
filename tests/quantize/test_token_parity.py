"""The deployed tokenizer is the trained one, on the side on which it cuts as well."""

import json
import shutil

import pytest

from optimize.bundle.encoder import TextEncoder
from optimize.bundle.folder import TOKENIZER_NAME, read_manifest
from optimize.bundle.manifest import MANIFEST_NAME, FileEntry
from optimize.models import checkpoint
from optimize.models.folder import save_torch
from optimize.quantize.parity import ExportError
from optimize.quantize.token_parity import check_tokens

LABELS = ("cancel", "refund", "track")
LONG = "cancel " + "please my order " * 20 + "refund"
TEXTS = ["where is my parcel", "refund", LONG]


def saved(tiny_backbone, folder, side):
    folder.mkdir()
    tokenizer = checkpoint.load_tokenizer(str(tiny_backbone))
    tokenizer.truncation_side = side
    model = checkpoint.load_backbone(str(tiny_backbone), LABELS)
    save_torch(model, tokenizer, folder, labels=LABELS, max_length=8)
    return folder


@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_are_cut_where_the_model_learned_that_they_are(tiny_backbone, tmp_path, side):
    folder = saved(tiny_backbone, tmp_path / "torch", side)
    manifest = read_manifest(folder)
    check_tokens(folder, folder, manifest, TEXTS)
    ((_, batch),) = TextEncoder(folder, manifest).batches([LONG], 1)
    vocabulary = checkpoint.load_tokenizer(str(folder)).get_vocab()
    kept, cut = ("refund", "cancel") if side == "left" else ("cancel", "refund")
    ids = batch["input_ids"][0].tolist()
    assert vocabulary[kept] in ids
    assert vocabulary[cut] not in ids


def changed(folder, bundle, change):
    """A bundle whose tokenizer is another one, with a manifest that vouches for it."""
    bundle.mkdir()
    for name in (TOKENIZER_NAME, MANIFEST_NAME):
        shutil.copy(folder / name, bundle)
    content = json.loads((bundle / TOKENIZER_NAME).read_text())
    change(content)
    (bundle / TOKENIZER_NAME).write_text(json.dumps(content))
    manifest = json.loads((bundle / MANIFEST_NAME).read_text())
    entry = FileEntry.of(bundle / TOKENIZER_NAME)
    manifest["files"][TOKENIZER_NAME] = {"size_bytes": entry.size_bytes, "sha256": entry.sha256}
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest))
    return bundle


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (lambda file: file["truncation"].update(direction="Left"), TEXTS[:1]),
        (lambda file: file["normalizer"].update(lowercase=False), ["Refund"]),
        (lambda file: file.update(post_processor=None), TEXTS[:1]),
    ],
)
def test_another_tokenizer_fails_the_build_naming_the_text(tiny_backbone, tmp_path, change, texts):
    folder = saved(tiny_backbone, tmp_path / "torch", "right")
    bundle = changed(folder, tmp_path / "bundle", change)
    with pytest.raises(ExportError, match="other tokens of a text than the model learned with"):
        check_tokens(folder, bundle, read_manifest(bundle), texts)
