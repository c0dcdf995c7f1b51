"""From a method's configuration to its sampler: the place where configuration stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from trainables.config import MethodConfig
from trainables.methods.sampler import Batching, Order, Sampler
from trainables.methods.selection import Ledger, Run, Selection
from trainables.methods.views import Views
from trainables.seeds import generator


@dataclass(frozen=True)
class Problem:
    """What an arm's sampler is built for.

    Attributes:
        labels: of the training samples.
        images: their clean, normalized images at an index.
        network: a fresh network of the arm's kind, initial weights from the stream of that name.
        samples: the normalized images that views stand for, as the arm trains on them, and their labels.
        gradient_norms: the norms of these samples' gradients, of the arm's own network.
        true_labels: what the labels were before some were replaced; None: the labels.
    """

    labels: Int64[Tensor, " N"]
    classes: int
    batch_size: int
    epochs: int
    images: Callable[[Int64[Tensor, " n"]], Tensor]
    network: Callable[[str], nn.Module]
    samples: Callable[[Views], tuple[Tensor, Tensor]] | None = None
    gradient_norms: Callable[[Views], Tensor] | None = None
    true_labels: Int64[Tensor, " N"] | None = None


def build(
    method: MethodConfig,
    problem: Problem,
    order: Order,
    seed: int,
    device: torch.device,
    others: Mapping[str, Sampler],
    at_once: int = 0,
    smoothing: float = 0.0,
) -> Sampler:
    """The sampler of ``method``; ``others`` are those that it can follow, by arm.

    ``at_once`` samples may be probed together where the output for a sample does not depend on the rest of the batch,
    as in evaluation mode, and where raw batches have a fixed size: an adaptive one is as large as the batch needs and
    as memory allows, and the size of the next depends on what this one kept.
    """
    raw = method.raw_batch_size
    together = method.probe_mode == "eval" and raw != "adaptive"
    batching = Batching(
        batch_size=problem.batch_size,
        raw_batch_size=None if raw == "adaptive" else raw or problem.batch_size,
        raw_batch_limit=max(method.raw_batch_limit, problem.batch_size),
        stable=method.batch == "stable",
        carry=method.overflow == "carry",
        at_once=at_once if together else 0,
    )
    granularity = "epoch" if method.granularity == "none" else method.granularity
    kept = lambda arm, number: others[arm].kept_in[number]  # noqa: E731
    selection = method.selection(problem.batch_size)
    return sampler(selection, granularity, batching, problem, order, seed, device, kept, smoothing)


def sampler(
    selection: Selection,
    granularity: str,
    batching: Batching,
    problem: Problem,
    order: Order,
    seed: int,
    device: torch.device,
    kept: Callable[[str, int], Sequence[int]],
    smoothing: float = 0.0,
) -> Sampler:
    """The sampler of a selection; the arguments as for :class:`~trainables.methods.sampler.Sampler`."""
    ledger = Ledger()
    run = Run(
        size=len(problem.labels),
        classes=problem.classes,
        labels=problem.labels,
        batch_size=problem.batch_size,
        epochs=problem.epochs,
        device=device,
        images=problem.images,
        network=problem.network,
        stream=lambda name: generator(seed, "selection", name),
        spend=ledger.add,
        true_labels=problem.labels if problem.true_labels is None else problem.true_labels,
    )
    return Sampler(
        order,
        batching,
        selection,
        granularity,
        run,
        kept,
        seed=seed,
        ledger=ledger,
        smoothing=smoothing,
        samples=problem.samples,
        gradient_norms=problem.gradient_norms,
    )
