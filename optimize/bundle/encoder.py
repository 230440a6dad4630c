"""Texts to padded arrays of token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimize.bundle.folder import TOKENIZER_NAME, BundleError, checked_bytes
from optimize.bundle.manifest import Manifest
from optimize.bundle.texts import Text, checked_texts, parted

# What a model may be fed with.
INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})

Batch = dict[str, NDArray[np.int64]]


class TextEncoder:
    """Texts to padded arrays of token ids, with the tokenizer of a model folder."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Read ``tokenizer.json``, and cut texts at the manifest's ``max_length``.

        Which side is cut, the file says: the model learned so.
        """
        from tokenizers import Tokenizer

        self._pairs = manifest.text_pair
        content = checked_bytes(folder, TOKENIZER_NAME, manifest)
        try:
            self._tokenizer = Tokenizer.from_str(content.decode("utf-8"))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # tokenizers raises bare Exception, and its panics are none
            raise BundleError(f"{folder / TOKENIZER_NAME} is not a tokenizer: {error}") from error
        padding = self._tokenizer.padding or {}
        self._pad_id = int(padding.get("pad_id", 0))
        self._pad_type_id = int(padding.get("pad_type_id", 0))
        # Padding is done per batch below; the tokenizer would pad all texts to the longest.
        self._tokenizer.no_padding()
        cut = self._tokenizer.truncation or {}
        self._tokenizer.enable_truncation(
            max_length=manifest.max_length, direction=cut.get("direction", "right")
        )

    def batches(self, texts: Sequence[Text], batch_size: int) -> Iterator[tuple[list[int], Batch]]:
        """Yield (positions in ``texts``, arrays of shape (batch, longest)) by rising length.

        Raises:
            TypeError: an element is no string, or where the model takes pairs, no pair.
            ValueError: one holds half a character, or ``batch_size`` is below 1.
        """
        checked = checked_texts(texts, pairs=self._pairs)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        inputs: Any = [parted(text) for text in checked] if self._pairs else checked
        encodings = self._tokenizer.encode_batch(inputs)
        order = sorted(range(len(encodings)), key=lambda row: len(encodings[row].ids))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            yield rows, self._pad([encodings[row] for row in rows])

    def _pad(self, encodings: list[Any]) -> Batch:
        shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        types = np.full(shape, self._pad_type_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            ids[row, :length] = encoding.ids
            types[row, :length] = encoding.type_ids
            mask[row, :length] = 1
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
