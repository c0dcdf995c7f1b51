"""Networks as a researcher would bring them."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn


class Gray(nn.Module):
    """A network for colour images, shown grayscale ones."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.expand(-1, 3, -1, -1))


def resnet(num_classes: int, dropout: float = 0.0) -> nn.Module:
    network = torchvision.models.resnet18(num_classes=num_classes)
    network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)
    return Gray(network)


def vit(classes: int, size: tuple[int, int], dropout: float = 0.0) -> nn.Module:
    return Gray(torchvision.models.VisionTransformer(size[0], 8, 2, 2, 16, 32, dropout, num_classes=classes))


def convnext(num_classes: int) -> nn.Module:
    block = torchvision.models.convnext.CNBlockConfig
    stages = [block(8, 16, 1), block(16, None, 1)]
    return Gray(torchvision.models.ConvNeXt(stages, stochastic_depth_prob=0.5, num_classes=num_classes))


class Pretrained(nn.Module):
    """Weights and a buffer that are given, and a view that relies on the layout."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, 2, 3)
        self.out = nn.Linear(2 * 30 * 30, num_classes)
        nn.init.constant_(self.out.weight, 0.25)
        self.register_buffer("scale", torch.tensor(3.0))

    def forward(self, images: Tensor) -> Tensor:
        x = self.convolution(images)
        return self.out(x.view(len(x), -1)) * self.scale


def three(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 3))


def boom() -> nn.Module:
    raise ValueError("no luck")


def text() -> str:
    return "no network"


def empty() -> nn.Module:
    return nn.Flatten()


def narrow(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(5, num_classes))
