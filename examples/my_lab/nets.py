"""A network: torchvision's vision transformer, small, with dropout."""

from torch import nn
from torchvision.models import VisionTransformer


def vit(size: tuple[int, int], classes: int, width: int = 48, layers: int = 2, dropout: float = 0.1) -> nn.Module:
    """A transformer over patches of 8 x 8 pixels, for square colour images.

    Args:
        size: height and width of the images; the program says it.
        classes: as many logits; the program says it.
        width: of the embedding, a multiple of 4.
        layers: blocks of attention and feedforward.
        dropout: the share of values that are dropped while training.
    """
    return VisionTransformer(
        image_size=size[0],
        patch_size=8,
        num_layers=layers,
        num_heads=4,
        hidden_dim=width,
        mlp_dim=2 * width,
        dropout=dropout,
        num_classes=classes,
    )
