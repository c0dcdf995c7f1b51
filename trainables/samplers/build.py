"""From a method's configuration to its sampler: the place where configuration stops."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from trainables.config import MethodConfig
from trainables.samplers import filters, selection, selectors
from trainables.samplers.filters import Filter
from trainables.samplers.peers import InfoBatch, SelectiveBackprop
from trainables.samplers.sampler import Batching, Order, Sampler
from trainables.samplers.selection import Selection
from trainables.samplers.selectors import Selector


def build(
    method: MethodConfig,
    batch_size: int,
    order: Order,
    seed: int,
    device: torch.device,
    others: Mapping[str, Sampler],
    size: int,
    epochs: int,
    at_once: int = 0,
) -> Sampler:
    """The sampler of ``method`` for ``size`` samples and ``epochs``; ``others`` are those that it can follow, by arm.

    ``at_once`` samples may be probed together where the output for a sample does not depend on the rest of the batch,
    as in evaluation mode, and where raw batches have a fixed size: an adaptive one is as large as the batch needs and
    as memory allows, and the size of the next depends on what this one kept.
    """
    raw = method.raw_batch_size
    together = method.probe_mode == "eval" and raw != "adaptive"
    batching = Batching(
        batch_size=batch_size,
        raw_batch_size=None if raw == "adaptive" else raw or batch_size,
        raw_batch_limit=max(method.raw_batch_limit, batch_size),
        stable=method.batch == "stable",
        carry=method.overflow == "carry",
        at_once=at_once if together else 0,
    )
    chosen: Selection | None
    match method.selector:
        case _ if method.granularity == "none":
            chosen = None
        case "selective_backprop":
            chosen = SelectiveBackprop(method.beta, method.window, device)
        case "infobatch":
            chosen = InfoBatch(method.prune, method.anneal, epochs, size, device)
        case _:
            chosen = _selection(method, batch_size, others)
    return Sampler(
        order,
        batching,
        epoch_selection=chosen if "epoch" in method.granularity else None,
        batch_selection=chosen if "batch" in method.granularity else None,
        seed=seed,
        device=device,
    )


def _selection(method: MethodConfig, batch_size: int, others: Mapping[str, Sampler]) -> Selection:
    """Chance, or filter × selector."""
    if method.like is not None:
        followed = others[method.like]
        return selection.Chance(selection.as_traced(lambda: followed.kept_by_unit))
    if method.selector == "random" and method.ratio is not None:
        return selection.Chance(selection.share(method.ratio))
    if method.selector == "random" and method.filter == "none":
        return selection.Chance(selection.exactly(_number(method)))
    needed = method.k if method.k is not None else batch_size
    return selection.Judged(_filter(method), _selector(method), needed if method.fallback == "random" else 0)


def _filter(method: MethodConfig) -> Filter:
    match method.filter:
        case "none":
            return filters.everything
        case "hard":
            return filters.hard
        case "soft":
            return filters.soft(method.margin)


def _selector(method: MethodConfig) -> Selector | None:
    match method.selector:
        case "all":
            return None
        case "top_k":
            return selectors.top_k(_number(method))
        case "top_q":
            return selectors.top_q(method.q)
        case "loss_weighted":
            return selectors.loss_weighted(_number(method))
        case "q_split":
            return selectors.q_split(_number(method), method.buckets, method.power)
        case "random":
            return selectors.uniform(_number(method))
        case "selective_backprop" | "infobatch":
            raise AssertionError("a peer is no selector of a filter")  # refused by the configuration


def _number(method: MethodConfig) -> int:
    assert method.k is not None  # the configuration asks for it
    return method.k
