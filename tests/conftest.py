"""Tiny models and data, made here: no network, milliseconds to build."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
# pytest-benchmark turns itself off under xdist; the runs that tests start are not under it.
os.environ.pop("PYTEST_XDIST_WORKER", None)


def pytest_collection_finish() -> None:
    """What the test files imported stays, so the collector, which a Trainer calls, passes it by."""
    gc.collect()
    gc.freeze()


LABELS = ("cancel", "refund", "track")
WORDS = {
    "cancel": ("cancel", "stop", "end"),
    "refund": ("refund", "money", "back"),
    "track": ("track", "where", "parcel"),
}
FILLERS = ("please", "my", "order", "now", "the", "thing", "today", "hello")


def tiny_rows(count: int, start: int = 0) -> list[tuple[str, str]]:
    """Texts that two words tell apart; each is different."""
    rows = []
    for number in range(start, start + count):
        label = LABELS[number % len(LABELS)]
        filler = [FILLERS[(number // step) % len(FILLERS)] for step in (1, 8, 64)]
        word = WORDS[label][(number // 3) % 3]
        rows.append((f"{filler[0]} {word} {' '.join(filler[1:])} {number}", label))
    return rows


def write_tiny_data(path: Path, train: int = 48, evaluation: int = 24) -> Path:
    """One JSON Lines file with all three splits."""
    sizes = {"train": train, "validation": evaluation, "test": evaluation}
    lines, start = [], 0
    for split, size in sizes.items():
        for text, label in tiny_rows(size, start):
            lines.append(json.dumps({"split": split, "text": text, "label": label}))
        start += size
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def save_tiny_backbone(folder: Path, layers: int = 2, width: int = 32) -> Path:
    """A BERT of random weights with a tokenizer that knows the tiny texts' words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [*FILLERS, *(word for group in WORDS.values() for word in group)]
    digits = [str(digit) for digit in range(10)]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*specials, *words, *digits, *(f"##{d}" for d in digits)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer()
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=160,
        # With it, and at 5e-3, two seeds in five never tell all classes apart.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data") / "tiny.jsonl")


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_backbone: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_backbone)


def eight_headed_bert(tokenizer, **config):
    """A classifier of random weights: two layers, 32 values, eight heads of four."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 8}
    sizes = {"vocab_size": len(tokenizer), "intermediate_size": 64, "num_labels": len(LABELS)}
    return BertForSequenceClassification(BertConfig(**shape, **sizes, **config))


def write_tiny_recipe(path: Path, data: Path, backbone: Path) -> Path:
    """A recipe whose whole chain takes seconds."""
    path.write_text(
        f"""
[data]
source = {json.dumps(str(data))}

[teacher]
checkpoint = {json.dumps(str(backbone))}
epochs = 16
batch_size = 8
learning_rate = 2e-3
max_length = 32
precision = "fp32"

[student]
layers = 1

[distill]
epochs = 12
batch_size = 8
learning_rate = 5e-3
precision = "fp32"

[judge]
quick_blocks = 4
block_ms = 2.0
threads = 1

[judge.workloads.typical]
quantiles = [0.4, 0.6]
texts = 8

[judge.workloads.batch4]
batch_size = 4
texts = 8
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def tiny_recipe(
    tmp_path_factory: pytest.TempPathFactory, tiny_data: Path, tiny_backbone: Path
) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    return write_tiny_recipe(path, tiny_data, tiny_backbone)


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_kit(request: pytest.FixtureRequest) -> Path:
    """A kit built by the real pipeline; do not change it, copy it.

    Where there is no torch, it was built elsewhere by tests/tiny_kit.py.
    """
    built = os.environ.get("OPTIMIZE_TINY_KIT")
    if built:
        return Path(built)
    if importlib.util.find_spec("torch") is None:
        pytest.skip("a kit needs torch to be built, and OPTIMIZE_TINY_KIT names none")
    from optimize import settings
    from optimize.pipeline.runner import build

    chosen, _ = settings.load(str(request.getfixturevalue("tiny_recipe")))
    cache: Path = request.getfixturevalue("tiny_cache")
    return build(chosen, lambda line: None, cache)


SECONDS = ((0.1, 0.2, 0.30000000000000004), (0.7, 0.1234567890123456, 1e-9))


def make_report(verdict):
    """A report of two gates; the speed gate says ``verdict``."""
    from optimize.judge.records import (
        Control,
        Fingerprint,
        GateResult,
        Predictions,
        Report,
        Scores,
        Series,
        Span,
        Timing,
        VariantFacts,
    )
    from optimize.settings.load import parse

    span = Span(low=0.5, high=1.0)
    scores = Scores(
        examples=2,
        correct=2,
        accuracy_interval=span,
        macro_f1=1.0,
        macro_f1_interval=span,
        calibration_error=0.0,
    )
    series = Series(blocks_s=SECONDS, calls=1, p50_ms=1.0, p95_ms=2.0)
    names = ("teacher-torch", "student-int8")
    gate = {"candidate": "student-int8", "limit": "min", "limit_value": 1.0, "reason": "it is so"}
    settings = parse({"judge": {"variants": names}}, "test")
    return Report(
        created="now",
        optimize_version="0",
        mode="quick",
        recipe="r",
        settings_source="recipe r",
        settings=settings.model_dump(mode="json"),
        fingerprint=Fingerprint(
            cpu="c", isa=(), isa_class="other", cores=1, threads=1, system="s", libraries={}
        ),
        split="test",
        data_digest="d",
        variants={
            name: VariantFacts(size_bytes=9, parameters=9, model_sha256="m") for name in names
        },
        timing=Timing(
            series={"typical": dict.fromkeys(names, series)},
            batch_sizes={"typical": 1},
            startup_s=dict.fromkeys(names, (1.0,)),
            peak_rss_bytes=dict.fromkeys(names, (1,)),
            replicates=2,
            dropped_blocks=0,
            seconds=1.0,
        ),
        controls=(
            Control(workload="typical", ratio=1.0, interval=Span(low=0.9, high=1.1), holds=True),
        ),
        scores={"test": dict.fromkeys(names, scores)},
        predictions={"test": dict.fromkeys(names, Predictions(labels=(0, 1), confidences=(1, 1)))},
        labels=(0, 1),
        batch_agreement={},
        gates=(
            GateResult(gate="size", kind="size", verdict="pass", measured="1 byte", **gate),
            GateResult(
                gate="speed",
                kind="speedup",
                workload="typical",
                verdict=verdict,
                measured="1.5×",
                remedy="fewer layers",
                **gate,
            ),
        ),
    )


@pytest.fixture(scope="session")
def canned_report():
    return make_report


@pytest.fixture(scope="session")
def save_backbone():
    return save_tiny_backbone
