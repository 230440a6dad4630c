"""Which attention is the faster one for short texts on a CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

# In bf16 torch's fused attention packs its operands into tiles that short texts leave almost empty:
# at 12 tokens it took eight times as long as the plain one, at 128 twice, and less from 256 on.
PLAIN_ATTENTION_UP_TO = 128


def attention_for(tokens: int) -> AbstractContextManager[object]:
    """The faster attention on this processor for a batch of texts of so many tokens."""
    if torch.cuda.is_available() or tokens > PLAIN_ATTENTION_UP_TO:
        return nullcontext()
    return sdpa_kernel(SDPBackend.MATH)
