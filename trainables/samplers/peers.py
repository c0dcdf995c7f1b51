"""Other authors' methods, as arms in the same form. They remember losses, and so have a state."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trainables.samplers.filters import ProbeResult


class SelectiveBackprop:
    """Selective Backprop (Jiang et al. 2019, arXiv:1910.00762): a sample is selected with probability CDF_R(loss)^β.

    CDF_R is the share of the last ``window`` (R) losses, this raw batch's included, that are no larger than its own.
    """

    def __init__(self, beta: float, window: int, device: torch.device) -> None:
        self.beta = beta
        self.window = window
        self.history: Float[Tensor, " r"] = torch.empty(0, device=device)

    def __call__(self, result: ProbeResult, generator: torch.Generator) -> Int64[Tensor, " m"]:
        """Positions of the selected samples, in the order drawn; their losses join the history first."""
        losses = result.losses.nan_to_num(math.inf, math.inf)
        self.history = torch.cat((self.history, losses))[-self.window :]
        chance = torch.rand(len(losses), generator=generator).to(losses.device)
        return (chance < self.probabilities(losses)).nonzero().flatten()

    def probabilities(self, losses: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """CDF_R(loss)^β over the history as it stands."""
        ranks = torch.searchsorted(self.history.sort().values, losses, right=True)
        return (ranks / max(len(self.history), 1)) ** self.beta

    def state_dict(self) -> dict[str, Tensor]:
        """The history."""
        return {"history": self.history}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.history = state["history"].to(self.history.device)


class InfoBatch:
    """InfoBatch (Qin et al. 2023, arXiv:2303.04947): samples whose last loss is below the mean are pruned at random.

    Each of them with probability ``prune`` (r), and the loss of those that stay is scaled by 1 / (1 - r), so that the
    expected gradient is that of the whole set. A sample's loss is that of its last update; before the first, nothing is
    pruned. After the share ``anneal`` (δ) of all epochs, nothing is pruned any more. Nothing is probed.
    """

    def __init__(self, prune: float, anneal: float, epochs: int, size: int, device: torch.device) -> None:
        self.prune = prune
        self.last_pruned_epoch = math.floor(anneal * epochs)
        self.scores = torch.ones(size, device=device)
        self.weights = torch.ones(size, device=device)

    def below(self) -> Bool[Tensor, " n"]:
        """Whether a sample's last loss is below the mean of all."""
        return self.scores < self.scores.mean()

    def __call__(self, index: Int64[Tensor, " n"], epoch: int, generator: torch.Generator) -> Int64[Tensor, " m"]:
        """Positions in ``index`` of the samples that stay in ``epoch`` (counted from 1), in the order drawn."""
        prunable = self.below() if epoch <= self.last_pruned_epoch else torch.zeros_like(self.scores, dtype=torch.bool)
        self.weights.copy_(torch.where(prunable, 1 / (1 - self.prune), 1.0))
        chance = torch.rand(len(index), generator=generator).to(index.device)
        return (~prunable[index] | (chance >= self.prune)).nonzero().flatten()

    def loss(self, index: Int64[Tensor, " n"], losses: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The rescaled mean of a batch's losses, which are remembered."""
        self.scores[index] = losses.detach().nan_to_num(math.inf, math.inf).to(self.scores.dtype)
        return (losses * self.weights[index]).mean()

    def state_dict(self) -> dict[str, Tensor]:
        """Losses and scales by sample."""
        return {"scores": self.scores.clone(), "weights": self.weights.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.scores = state["scores"].to(self.scores.device, copy=True)
        self.weights = state["weights"].to(self.weights.device, copy=True)
