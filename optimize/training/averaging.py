"""An exponential moving average of a model's weights while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

AVERAGE_NAME = "average.safetensors"


class WeightAverage:
    """The average of the weights that a model has had, the newest counting most.

    Args:
        model: trains; its weights are read at every update.
        decay: weight of the past at an update, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self) -> None:
        """Take up the weights that the model has now."""
        self._average.update_parameters(self._model)

    def keep(self) -> None:
        """Take up the last weights, and give the model the average for good."""
        self.update()
        self._model.load_state_dict(self._weights(), strict=False)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it, the model has the averaged weights; its own again afterwards."""
        before = {name: value.detach().clone() for name, value in self._model.named_parameters()}
        self._model.load_state_dict(self._weights(), strict=False)
        try:
            yield
        finally:
            self._model.load_state_dict(before, strict=False)

    def save(self, folder: Path) -> None:
        """Write the average beside a training checkpoint."""
        state = {name: tensor.contiguous() for name, tensor in self._weights().items()}
        save_file(state, folder / AVERAGE_NAME)

    def load(self, folder: Path) -> None:
        """Go on from the average beside a training checkpoint."""
        self._average.module.load_state_dict(load_file(folder / AVERAGE_NAME), strict=False)
        self._average.n_averaged.fill_(1)

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self._average.module.named_parameters()}
