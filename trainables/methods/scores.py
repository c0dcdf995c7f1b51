"""What says how much a sample matters, from its logits and label."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot


def gradient_bound(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """||p - y||, the norm of a sample's gradient of the cross-entropy by its logits, in [0, √2].

    Times a constant it bounds the norm of the gradient by all parameters (Katharopoulos and Fleuret 2018, eq. 20). The
    error of a vector of error probabilities, it is also the EL2N score (Paul et al. 2021). What is not a number counts
    as the largest.
    """
    probabilities = logits.softmax(1)
    error = (probabilities - one_hot(labels, logits.shape[1])).square().sum(1).sqrt()
    return error.nan_to_num(math.sqrt(2))


def finite(scores: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Scores as weights of a draw: what is not a number or infinite counts as the largest finite one, or as 1."""
    known = torch.where(scores.isfinite(), scores, 0.0)
    largest = known.max().clamp_min(torch.finfo(scores.dtype).tiny) if scores.numel() else known.sum()
    return torch.where(scores.isfinite(), known, torch.where(known.any(), largest, 1.0))


def normalized(scores: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Probabilities in proportion to scores of 0 and more, in double precision on the CPU; equal where all are 0."""
    weights = finite(scores.double().cpu())
    total = weights.sum()
    return weights / total if float(total) > 0 else torch.full_like(weights, 1 / max(len(weights), 1))
