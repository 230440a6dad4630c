"""``[export]`` and ``[quantize]``: the forms that a trained student takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from optimize.settings.base import Section

QuantizationRecipe = Literal["ort-dynamic", "ort-static", "optimum-dynamic"]
CalibrationMethod = Literal["minmax", "percentile", "entropy"]

EmbeddingBits = Literal["int8", "int4"]


class ExportSettings(Section):
    """``[export]``: opset and IR version bound the oldest onnxruntime that loads the bundle.

    Attributes:
        opset: of the default domain.
        ir_version: of the file format.
        fuse: whether attention is fused, where the family allows it.
        parity_tolerance: most by which a logit may differ from PyTorch's.
    """

    opset: int = Field(default=17, ge=14, le=20)
    ir_version: int = Field(default=8, ge=7, le=10)
    fuse: bool = True
    parity_tolerance: float = Field(default=1e-3, gt=0)


class QuantizeSettings(Section):
    """``[quantize]``: the INT8 recipe shipped, and one measured beside it for comparison.

    Attributes:
        recipe: of the bundle that is shipped.
        exclude: names of nodes of the recipe's own graph that stay in fp32; under ``ort-dynamic``
            ``optimize sensitivity`` tells which are worth it.
        embeddings: bits of a token's vector under ``ort-dynamic``; ``int4`` halves what is half
            of a small model.
        calibration: how ``ort-static`` takes an activation's range from what it was on texts.
        calibration_texts: training texts that it reads for that.
        compare: one that is measured beside it, or ``none``.
    """

    recipe: QuantizationRecipe = "ort-dynamic"
    exclude: tuple[str, ...] = ()
    embeddings: EmbeddingBits = "int8"
    calibration: CalibrationMethod = "minmax"
    calibration_texts: int = Field(default=256, ge=1)
    compare: QuantizationRecipe | Literal["none"] = "optimum-dynamic"

    @model_validator(mode="after")
    def _recipe_can_do_it(self) -> QuantizeSettings:
        if self.embeddings == "int4" and self.recipe != "ort-dynamic":
            raise ValueError(
                f'embeddings = "int4" is for recipe = "ort-dynamic", not {self.recipe!r}'
            )
        if self.exclude and self.recipe == "optimum-dynamic":
            raise ValueError(
                'exclude is for recipe = "ort-dynamic" or "ort-static"; optimum\'s leaves out none'
            )
        return self
