"""Why a checkpoint does not load, in words that say what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Keys of auto_map that name a model's code; a tokenizer's has a fast file beside it or is refused.
MODEL_CODE = ("AutoConfig", "AutoModel")


def why_not(config: dict[str, Any], error: Exception) -> str:
    """Why a checkpoint does not load, in words that say what to do where that is known."""
    if own_code := own_code_words(config):
        return own_code
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        return (
            f"its weights are quantized already (quantization_config: {method}); give the "
            "checkpoint that they were made of"
        )
    # transformers 5 keeps the shapes to its own log.
    if "size mismatch" in str(error) or "ignore_mismatched_sizes" in str(error):
        named = config.get("id2label", {})
        labels = f"{len(named)} labels (id2label)" if named else "no labels (id2label)"
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        shapes = f" ({lines[0].rstrip('.')})" if lines else ""
        return (
            f"its weights are of other shapes than its config.json says, which has {labels}"
            f"{shapes}. Correct config.json, or give the checkpoint that it belongs to"
        )
    kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
    return f"{kind}{error}"


def config_file(folder: Path) -> dict[str, Any]:
    """What a local checkpoint's config.json holds; nothing where it cannot be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def own_code_words(config: Mapping[str, Any]) -> str:
    """Words on the code of its own that a checkpoint's model has, which is never run."""
    named = config.get("auto_map")
    if not isinstance(named, dict) or not any(key.startswith(MODEL_CODE) for key in named):
        return ""
    return (
        f"its config.json names code of its own (auto_map: {named}), which is never run here: what "
        "transformers has under that model_type is another model. Give another checkpoint, or "
        "delete auto_map where it was trained with transformers' own code"
    )
