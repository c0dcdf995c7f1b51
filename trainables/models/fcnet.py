"""The fully connected network of section 4.2.2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FCNet(nn.Module):
    """in -> hidden -> out, or several hidden layers. The thesis names no activation; a ReLU is taken, as in its other
    networks.
    """

    def __init__(self, channels: int, classes: int, hidden: Sequence[int], size: tuple[int, int] = (32, 32)) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels * math.prod(size), hidden[0])
        self.deeper = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(hidden))
        self.out = nn.Linear(hidden[-1], classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        x = torch.relu(self.hidden(images.flatten(1)))
        for layer in self.deeper:
            x = torch.relu(layer(x))
        return self.out(x)
