"""Peak memory of scoring and training as the number of texts grows, on synthetic data.

    python -m optimize.experiments.memory [--texts 15000 1000000]

Each size runs in a process of its own, with a tiny model, so that the texts and what is stored of
them are what could grow. All train for as many steps: the heap of a process settles over thousands
of batches of many shapes, whatever the number of texts. Prints the peak of each and its growth over
the first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ONE = "--one"
LABELS = 150
WORDS = 2000
BATCH = 256


def synthetic_texts(count: int) -> Iterator[str]:
    """So many texts of 5 to 14 words, one at a time."""
    for row in range(count):
        length = 5 + row % 10
        yield " ".join(f"w{(row * 31 + place * 17) % WORDS}" for place in range(length))


def peak_of(texts: int, steps: int, work: Path) -> int:
    """Score so many texts and train on them; returns this process's peak memory in bytes."""
    import numpy as np
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    from optimize.data.splits import UNLABELLED
    from optimize.distill.teacher_outputs import score
    from optimize.distill.trainer import DistillationTrainer
    from optimize.machine import peak_rss_bytes
    from optimize.settings.training import DistillSettings
    from optimize.training.dataset import TrainingSet
    from optimize.training.evaluation import PaddingCollator
    from optimize.training.run import Run
    from optimize.training.soft_targets import SoftTargets
    from optimize.training.tokens import tokenise

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: place for place, word in enumerate(specials)}
    vocabulary |= {f"w{word}": len(vocabulary) + word for word in range(WORDS)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=LABELS,
    )
    model = BertForSequenceClassification(config)
    tokens = tokenise(synthetic_texts(texts), tokenizer, 32, work / "tokens")
    score(model, tokens, work, lambda line: None)
    settings = DistillSettings(batch_size=BATCH, pooled=1.0, precision="fp32")
    labels = np.full(texts, UNLABELLED, dtype=np.int64)
    trainer = DistillationTrainer(
        settings=settings,
        training_set=TrainingSet(tokens, labels, SoftTargets.read(work)),
        run=Run(work / "run", lambda line: None),
        model=model,
        data_collator=PaddingCollator(tokenizer),
        eval_dataset=[],  # none: only training is looked at
    )
    trainer.args.max_steps = steps
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False
    trainer.train()
    return peak_rss_bytes()


def peak_in_a_process(texts: int, steps: int) -> int:
    """The same in a fresh process."""
    with TemporaryDirectory() as work:
        module = [sys.executable, "-m", "optimize.experiments.memory"]
        command = [*module, ONE, str(texts), str(steps), work]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the peak of each size."""
    parser = argparse.ArgumentParser(description="Peak memory by the number of texts.")
    parser.add_argument("--texts", type=int, nargs="+", default=[15_000, 1_000_000])
    sizes = parser.parse_args(argv).texts
    steps, first = -(-max(sizes) // BATCH), 0
    for texts in sizes:
        peak = peak_in_a_process(texts, steps)
        first = first or peak
        growth = 100 * (peak / first - 1)
        sys.stdout.write(f"{texts:>10,} texts  {peak / 2**20:7.0f} MiB  {growth:+.1f} %\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == [ONE]:
        texts, steps, work = int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
        sys.stdout.write(f"{peak_of(texts, steps, work)}\n")
        raise SystemExit(0)
    raise SystemExit(main())
