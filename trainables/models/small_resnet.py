"""ResNet8, ResNet20 and ResNet56, small residual networks for CIFAR (He et al. 2016, arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from trainables.models.resnet import convolution


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without parameters (option A of the paper).

    Where the shape changes, the shortcut takes every second pixel and has zeros in the new channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new = outputs - inputs
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """The block's activations, h2 = h / stride."""
        kept = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return torch.relu(self.second(torch.relu(self.first(x))) + kept)


class SmallResNet(nn.Module):
    """Three stages of 16, 32 and 64 channels with ``blocks`` blocks each: 6 · blocks + 2 layers.

    With 3 channels and 10 classes, ResNet8 has 75,290 parameters, ResNet20 269,722 and ResNet56 853,018. A forward pass
    costs a forty-fifth, a fourteenth and a fourth of ResNet18's.
    """

    def __init__(self, channels: int, classes: int, blocks: int) -> None:
        super().__init__()
        self.stem = convolution(channels, 16, 3)
        made, inputs = [], 16
        for outputs, stride in ((16, 1), (32, 2), (64, 2)):
            made += [Block(inputs, outputs, stride)] + [Block(outputs, outputs, 1) for _ in range(blocks - 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*made)
        self.out = nn.Linear(64, classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        x = self.blocks(torch.relu(self.stem(images)))
        return self.out(avg_pool2d(x, x.shape[-2:]).flatten(1))
