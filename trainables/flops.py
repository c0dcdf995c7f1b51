"""What a forward pass computes, so that another network's work can be told in forward passes of an arm's own."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def forward_flops(model: nn.Module, images: Float[Tensor, "n channels h w"]) -> float:
    """Floating-point operations of a forward pass per image: of matrix products and convolutions, 2 a multiply-add."""
    training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(images)
    model.train(training)
    return counter.get_total_flops() / len(images)
