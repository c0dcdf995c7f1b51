"""How a model does on a clean set: accuracy and mean, best, quantile and worst losses (section 4.1)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.data import Dataset
from trainables.records import EVALUATION_METRICS

CHUNK = {"cpu": 256, "cuda": 2048}
"""Samples evaluated at once, by device: what the caches hold, or what keeps all of a GPU busy."""


def summarize(losses: Float[Tensor, " n"], correct: Bool[Tensor, " n"]) -> dict[str, float]:
    """The metrics of :data:`EVALUATION_METRICS`, fetched from the device at once.

    Quantiles interpolate linearly. A loss that is NaN makes every loss statistic NaN.
    """
    ordered = losses.double().sort().values
    if len(ordered) == 0:
        raise ValueError("no samples to summarize")
    position = torch.tensor((0.0, 0.5, 0.9, 0.99, 1.0), dtype=torch.float64, device=losses.device) * (len(ordered) - 1)
    below, above = ordered[position.floor().long()], ordered[position.ceil().long()]
    fraction = position - position.floor()
    quantiles = torch.where(fraction == 0, below, below + fraction * (above - below))
    quantiles = torch.where(ordered[-1].isnan(), ordered[-1], quantiles)
    values = torch.cat((correct.double().mean()[None], ordered.mean()[None], quantiles)).tolist()
    return dict(zip(EVALUATION_METRICS, values, strict=True))


@torch.no_grad()
def evaluate(model: nn.Module, data: Dataset, split: str) -> dict[str, float]:
    """The metrics of ``model`` in evaluation mode on the clean pictures of the split of that name."""
    model.eval()
    labels = dict(data.splits())[split].labels
    size = CHUNK[labels.device.type]
    logits = [model(data.clean(split, slice(start, start + size))) for start in range(0, len(labels), size)]
    return judge(torch.cat(logits), labels)


def judge(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> dict[str, float]:
    """The metrics of a model that says ``logits`` of samples with these labels."""
    return summarize(cross_entropy(logits, labels, reduction="none"), logits.argmax(1) == labels)
