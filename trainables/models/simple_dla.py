"""Deep layer aggregation (Yu et al. 2018) as kuangliu/pytorch-cifar simplifies it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from trainables.models.dla import Root, Tree, trunk


class BinaryTree(nn.Module):
    """A tree of two levels: two trees, one after the other, and a root over both."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.root = Root(2, outputs)
        self.left = Tree(inputs, outputs, 2)
        self.right = Tree(outputs, outputs, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        """The tree's activations, h2 = h / 2."""
        left = self.left(x)
        return self.root(left, self.right(left))


class SimpleDLA(nn.Module):
    """Aggregation in pairs: 15,142,970 parameters with 3 channels and 10 classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stages = trunk(channels, BinaryTree)
        self.out = nn.Linear(512, classes)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Logits."""
        x = self.stages(images)
        return self.out(avg_pool2d(x, x.shape[-2:]).flatten(1))
