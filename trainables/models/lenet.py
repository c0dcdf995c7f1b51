"""LeNet (LeCun et al. 1998) in the form of kuangliu/pytorch-cifar."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class LeNet(nn.Module):
    """Two convolutions and three linear layers: 62,006 parameters with 3 channels and 10 classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, images: Float[Tensor, "n c 32 32"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        x = torch.relu(max_pool2d(self.conv1(images), 2))  # as of the ReLU's pool, bit for bit, on a quarter as many
        x = torch.relu(max_pool2d(self.conv2(x), 2)).flatten(1)
        x = torch.relu(self.fc2(torch.relu(self.fc1(x))))
        return self.fc3(x)
