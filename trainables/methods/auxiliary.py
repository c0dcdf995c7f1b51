"""Auxiliary networks: a selection trains them before the first update, to learn something about the samples.

They are of the arm's own kind (:attr:`Run.network`), and they see clean images, in training as in scoring: a score then
depends on the sample alone and on no augmentation of it. All that is computed is counted (:attr:`Run.spend`).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.methods.selection import ProbeResult, Run

FORWARD, TRAINED = 1, 3
"""Forward-equivalents of a sample that is scored, and of one that is trained on."""

SCORED_AT_ONCE = 1024
"""Samples that are scored in one forward pass."""


def train_pass(
    run: Run, network: nn.Module, optimizer: torch.optim.Optimizer, samples: Int64[Tensor, " n"], order: torch.Generator
) -> tuple[Int64[Tensor, " n"], ProbeResult]:
    """Train once on each of the samples, in a random order, by the mean cross-entropy of each batch.

    There are as few batches as the arm's batch size allows, and their sizes differ by one at most, so that batch
    normalization is never left with a single sample if it can be avoided.

    Returns:
        The samples in the order of training, and what the network said of each just before the update on it.
    """
    network.train()
    shuffled = samples[torch.randperm(len(samples), generator=order).to(samples.device)]
    said = []
    for index in shuffled.tensor_split(max(math.ceil(len(shuffled) / run.batch_size), 1)):
        labels = run.labels[index]
        logits = network(run.images(index))
        optimizer.zero_grad()
        cross_entropy(logits, labels).backward()
        optimizer.step()
        said.append(ProbeResult(logits.detach(), labels))
    run.spend(TRAINED * len(samples))
    return shuffled, ProbeResult.join(said)


def score_pass(run: Run, network: nn.Module, samples: Int64[Tensor, " n"]) -> ProbeResult:
    """What the network says of the samples in evaluation mode, in their order."""
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(run.images(index)) for index in samples.split(SCORED_AT_ONCE)])
    run.spend(FORWARD * len(samples))
    return ProbeResult(logits, run.labels[samples])
