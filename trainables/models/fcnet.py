"""The fully connected network of section 4.2.2."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FCNet(nn.Module):
    """in -> hidden -> out. The thesis names no activation; a ReLU is taken, as in its other networks."""

    def __init__(self, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels * 32 * 32, hidden)
        self.out = nn.Linear(hidden, classes)

    def forward(self, images: Float[Tensor, "n c 32 32"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        return self.out(torch.relu(self.hidden(images.flatten(1))))
