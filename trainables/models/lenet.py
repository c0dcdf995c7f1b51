"""LeNet (LeCun et al. 1998) in the form of kuangliu/pytorch-cifar."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class LeNet(nn.Module):
    """Two convolutions and three linear layers: 62,006 parameters with 3 channels, 10 classes and 32 x 32 pixels.

    Raises:
        ValueError: images have fewer than 16 pixels on a side, so that nothing is left of them.
    """

    def __init__(self, channels: int, classes: int, size: tuple[int, int] = (32, 32)) -> None:
        super().__init__()
        height, width = (((pixels - 4) // 2 - 4) // 2 for pixels in size)
        if min(height, width) < 1:
            raise ValueError(f"takes images of 16 x 16 pixels or more, not {size[0]} x {size[1]}")
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * height * width, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        x = torch.relu(max_pool2d(self.conv1(images), 2))  # as of the ReLU's pool, bit for bit, on a quarter as many
        x = torch.relu(max_pool2d(self.conv2(x), 2)).flatten(1)
        x = torch.relu(self.fc2(torch.relu(self.fc1(x))))
        return self.fc3(x)
