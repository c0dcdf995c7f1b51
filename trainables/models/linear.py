"""Multinomial logistic regression on the pixels."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn


class Linear(nn.Module):
    """One linear layer: its loss is convex in its parameters."""

    def __init__(self, channels: int, classes: int, size: tuple[int, int] = (32, 32)) -> None:
        super().__init__()
        self.out = nn.Linear(channels * math.prod(size), classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        return self.out(images.flatten(1))
