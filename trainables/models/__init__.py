"""Networks for 32 x 32 pictures, one file per architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from trainables.config import ModelConfig
from trainables.models.dla import DLA
from trainables.models.fcnet import FCNet
from trainables.models.lenet import LeNet
from trainables.models.resnet import ResNet18
from trainables.models.simple_dla import SimpleDLA

ARCHITECTURES: Mapping[str, Callable[[int, int], nn.Module]] = {
    "LeNet": LeNet,
    "ResNet18": ResNet18,
    "SimpleDLA": SimpleDLA,
    "DLA": DLA,
}
"""Networks that a name alone describes, made from channels and classes."""


def build(config: ModelConfig, channels: int, classes: int, generator: torch.Generator) -> nn.Module:
    """The network of ``config`` for pictures of shape (channels, 32, 32), on the CPU, weights drawn from
    ``generator``.
    """
    with torch.device("meta"):
        model = _architecture(config.name, channels, classes)
    model = model.to_empty(device="cpu")
    initialize(model, generator)
    return model


def _architecture(name: str, channels: int, classes: int) -> nn.Module:
    if name in ARCHITECTURES:
        return ARCHITECTURES[name](channels, classes)
    return FCNet(channels, classes, hidden=int(name.removeprefix("FCNet")))


def initialize(model: nn.Module, generator: torch.Generator) -> None:
    """Draw PyTorch's default initial weights from ``generator`` instead of the global one.

    Linear and convolution: uniform in ±1/sqrt(fan_in), weight and bias (He et al. 2015 with a = sqrt 5, as
    ``nn.Linear.reset_parameters`` has it). Batch normalization: identity.

    Raises:
        TypeError: the model has parameters in a layer of another kind.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(nn.init._calculate_fan_in_and_fan_out(module.weight)[0])
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"no initialization for {type(module).__name__}, layer {name!r}")
