"""A metric: how far confidence and accuracy are apart."""

import torch
from torch import Tensor

from trainables.metrics import metric


@metric(direction="min", unit="fraction", meaning="expected calibration error")
def ece(logits: Tensor, labels: Tensor, bins: int = 15) -> Tensor:
    """Guo et al. 2017 (arXiv:1706.04599): the mean over all samples of \\|accuracy - confidence\\| in their bin.

    Args:
        logits: float32, [n, classes].
        labels: int64, [n].
        bins: of equal width, over the confidence.
    """
    confidence, guess = logits.softmax(1).max(1)
    excess = confidence - (guess == labels).float()
    place = (confidence * bins).long().clamp(max=bins - 1)
    return torch.zeros(bins, device=logits.device).index_add(0, place, excess).abs().sum() / len(labels)
