"""Deep layer aggregation (Yu et al. 2018) for small images, in the form of kuangliu/pytorch-cifar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from trainables.models.resnet import BasicBlock, convolution


class Root(nn.Module):
    """Aggregates feature maps of one shape by a 1 x 1 convolution."""

    def __init__(self, maps: int, channels: int) -> None:
        super().__init__()
        self.merge = convolution(maps * channels, channels, 1)

    def forward(self, *maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """One feature map of their shape."""
        return torch.relu(self.merge(torch.cat(maps, 1)))


class Tree(nn.Module):
    """A tree of one level: two blocks, one after the other, and a root over both."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.root = Root(2, outputs)
        self.left = BasicBlock(inputs, outputs, stride)
        self.right = BasicBlock(outputs, outputs, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """The tree's activations, h2 = h / stride."""
        left = self.left(x)
        return self.root(left, self.right(left))


class HierarchicalTree(nn.Module):
    """A tree of two levels: a tree and two blocks, one after another, and a root over these and a block beside them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.root = Root(4, outputs)
        self.tree = Tree(inputs, outputs, 2)
        self.beside = BasicBlock(inputs, outputs, 2)
        self.left = BasicBlock(outputs, outputs, 1)
        self.right = BasicBlock(outputs, outputs, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """The tree's activations, h2 = h / 2."""
        tree = self.tree(x)
        left = self.left(tree)
        return self.root(self.beside(x), tree, left, self.right(left))


def trunk(channels: int, deep: Callable[[int, int], nn.Module]) -> nn.Sequential:
    """Three convolutions and four trees, the middle two of which ``deep`` makes from input and output channels."""
    stages: list[nn.Module] = []
    for inputs, outputs in ((channels, 16), (16, 16), (16, 32)):
        stages.append(nn.Sequential(convolution(inputs, outputs, 3), nn.ReLU()))
    return nn.Sequential(*stages, Tree(32, 64, 1), deep(64, 128), deep(128, 256), Tree(256, 512, 2))


class DLA(nn.Module):
    """Aggregation of all that a hierarchy leaves: 16,291,386 parameters with 3 channels and 10 classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stages = trunk(channels, HierarchicalTree)
        self.out = nn.Linear(512, classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        x = self.stages(images)
        return self.out(avg_pool2d(x, x.shape[-2:]).flatten(1))
