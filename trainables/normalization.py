"""The running statistics of batch normalization, estimated anew.

A network that trains on batches of what it gets wrong normalizes, when it is evaluated, by running statistics of such
batches. What it loses by that is not what it has learned: statistics of clean training data tell the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

BatchNorm = nn.modules.batchnorm._BatchNorm


def normalizations(model: nn.Module) -> list[BatchNorm]:
    """The layers that keep running statistics."""
    return [layer for layer in model.modules() if isinstance(layer, BatchNorm) and layer.track_running_stats]


@contextmanager
def reestimated(model: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """Within it, running statistics are the means over ``batches`` of images; afterwards they are what they were.

    Each batch counts alike, so all should have the same size. Other layers are in evaluation mode; no gradient is kept.
    """
    layers = normalizations(model)
    if not layers:
        yield
        return
    before = [{name: buffer.clone() for name, buffer in layer.named_buffers(recurse=False)} for layer in layers]
    momenta = [layer.momentum for layer in layers]
    try:
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
            layer.train()
        with torch.no_grad():
            for images in batches:
                model(images)
        model.eval()
        yield
    finally:
        for layer, buffers, momentum in zip(layers, before, momenta, strict=True):
            layer.momentum = momentum
            for name, buffer in layer.named_buffers(recurse=False):
                buffer.copy_(buffers[name])
