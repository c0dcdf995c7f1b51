"""The thesis's algorithms, transcribed over Python lists: slow, and as literal as they can be.

``net`` is either a table (``samplers/simulation.py``) or a real model (``test_train.py``). Random numbers come from the
sampler's own streams, so that the very same samples are drawn. A loss that is not a number counts as infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.functional import cross_entropy

from trainables.config import MethodConfig
from trainables.seeds import generator

Sample = tuple[int, int]
"""(index, epoch whose picture is shown)."""
Batch = list[Sample]


class Net(Protocol):
    """What the algorithms call ``net``, with its data set, loss function and optimizer."""

    def forward(self, data: Batch) -> list[list[float]]:
        """Predictions: logits."""

    def labels(self, data: Batch) -> list[int]:
        """Ŷ."""

    def step(self, batch: Batch) -> None:
        """Forward, losses, backward, Op.step."""


Select = Callable[[Net, Batch, torch.Generator], Batch]


@dataclass(frozen=True)
class Run:
    """What the algorithms require: the shuffled data set of an epoch, and sizes."""

    order: Callable[[int], torch.Tensor]
    epochs: int
    batch_size: int
    raw_batch_size: int
    seed: int

    def shuffled(self, epoch: int) -> Batch:
        """StochasticBatch(S, len(S))."""
        return [(index, epoch) for index in self.order(epoch).tolist()]

    def random(self, epoch: int, unit: int) -> torch.Generator:
        return generator(self.seed, "selection", epoch, unit)


def in_batches(data: Batch, size: int) -> Iterator[Batch]:
    """Batch(D, size); the last one may be smaller."""
    batch: Batch = []
    for sample in data:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


# ---------------------------------------------------------------------------------------------- filters, selectors


def loss(prediction: list[float], label: int) -> float:
    """C(Y, Ŷ) of one sample."""
    return cross_entropy(torch.tensor([prediction]), torch.tensor([label])).item()


def losses_of(net: Net, data: Batch) -> list[float]:
    predictions = net.forward(data) if data else []
    losses = [loss(prediction, label) for prediction, label in zip(predictions, net.labels(data), strict=True)]
    return [math.inf if math.isnan(value) else value for value in losses]


def argmax(prediction: list[float]) -> int:
    """The first of the largest; what is not a number is larger than any."""
    best = 0
    for i, value in enumerate(prediction):
        if not math.isnan(prediction[best]) and (math.isnan(value) or value > prediction[best]):
            best = i
    return best


def beliefs(prediction: list[float]) -> list[float]:
    """softmax(prediction)."""
    if any(math.isnan(value) for value in prediction):
        return [math.nan] * len(prediction)
    powers = [math.exp(value - max(prediction)) for value in prediction]
    return [power / sum(powers) for power in powers]


def argsort_descending(losses: list[float]) -> list[int]:
    return sorted(range(len(losses)), key=lambda i: -losses[i])


def algorithm_3(k: int) -> Select:
    """Loss sorted top-k."""

    def select(net: Net, data: Batch, random: torch.Generator) -> Batch:
        return [data[i] for i in argsort_descending(losses_of(net, data))[0:k]]

    return select


def algorithm_4(k: int, q: int, p: float) -> Select:
    """Loss q-split random selector."""

    def to_the_power(value: float) -> float:
        return math.sqrt(value) if p == 0.5 else math.prod([value] * int(p))

    def select(net: Net, data: Batch, random: torch.Generator) -> Batch:
        losses = losses_of(net, data)
        finite = [value for value in losses if math.isfinite(value)]
        losses = [value if math.isfinite(value) else max(finite, default=1.0) for value in losses]
        ascending = sorted(range(len(data)), key=lambda i: losses[i])
        cumulative, total = {}, 0.0
        for i in ascending:
            total += to_the_power(losses[i])
            cumulative[i] = total
        buckets: list[Batch] = [[] for _ in range(q)]
        size = total / q
        b = 0
        for i in ascending:
            buckets[b].append(data[i])
            if cumulative[i] >= size * (b + 1) and b + 1 < q:  # the thesis's last sample opens a bucket past the last
                b = b + 1
        selected = []
        for bucket in buckets:
            selected += select_random(bucket, k // q, random)
        return selected

    return select


def select_random(data: Batch, count: int, random: torch.Generator) -> Batch:
    return [data[i] for i in torch.randperm(len(data), generator=random).tolist()[:count]]


def algorithm_5(k: int) -> Select:
    """Hard accuracy + top-k."""
    return hard(algorithm_3(k))


def algorithm_6(k: int, margin: float) -> Select:
    """Soft accuracy + top-k."""
    return soft(margin, algorithm_3(k))


def algorithm_7(net: Net, data: Batch, random: torch.Generator) -> Batch:
    """Filter (accuracy / error)."""
    predictions, labels = net.forward(data) if data else [], net.labels(data)
    return [data[i] for i in range(len(data)) if argmax(predictions[i]) != labels[i]]


def hard(select: Select) -> Select:
    """Algorithm 5 with any selector."""
    return lambda net, data, random: select(net, algorithm_7(net, data, random), random)


def soft(margin: float, select: Select) -> Select:
    """Algorithm 6 with any selector."""

    def both(net: Net, data: Batch, random: torch.Generator) -> Batch:
        predictions, labels = net.forward(data), net.labels(data)
        marginal, wrong = [], []
        for i in range(len(data)):
            if argmax(predictions[i]) != labels[i]:
                wrong.append(data[i])
            else:
                p, q = sorted(beliefs(predictions[i]), reverse=True)[0:2]
                if p - q <= margin:
                    marginal.append(data[i])
        return select(net, wrong, random) + marginal

    return both


def everyone(net: Net, data: Batch, random: torch.Generator) -> Batch:
    return data


def top_q(q: float) -> Select:
    """Section 3.2.1: all samples from the quantile on."""

    def select(net: Net, data: Batch, random: torch.Generator) -> Batch:
        losses = losses_of(net, data)
        quantile = sorted(losses)[math.ceil(q * (len(data) - 1))] if data else math.nan
        return [sample for sample, value in zip(data, losses, strict=True) if value >= quantile]

    return select


def uniform(k: int) -> Select:
    def select(net: Net, data: Batch, random: torch.Generator) -> Batch:
        return sorted(select_random(data, k, random), key=data.index)

    return select


def share(ratio: float) -> Select:
    def select(net: Net, data: Batch, random: torch.Generator) -> Batch:
        return uniform(math.floor(ratio * len(data) + torch.rand((), generator=random).item()))(net, data, random)

    return select


def made_up(number: int, select: Select) -> Select:
    """Section 3.2.1: "simply select random samples" where too few are left."""

    def more(net: Net, data: Batch, random: torch.Generator) -> Batch:
        selected = select(net, data, random)
        if len(selected) >= number:
            return selected
        rest = [sample for sample in data if sample not in selected]
        return selected + select_random(rest, number - len(selected), random)

    return more


# ----------------------------------------------------------------------------------------------------------- loops


def algorithm_1(run: Run, net: Net) -> Iterator[None]:
    """Archetype; every loop yields at the end of an epoch."""
    for epoch in range(1, run.epochs + 1):
        for batch in in_batches(run.shuffled(epoch), run.batch_size):
            net.step(batch)
        yield


def algorithm_2(run: Run, net: Net, select: Select) -> Iterator[None]:
    """Preliminary work: one step an epoch."""
    for epoch in range(1, run.epochs + 1):
        batch = select(net, run.shuffled(epoch), run.random(epoch, 0))
        if batch:
            net.step(batch)
        yield


def algorithm_8(run: Run, net: Net, select: Select = algorithm_7) -> Iterator[None]:
    """Epochwise filtering."""
    for epoch in range(1, run.epochs + 1):
        selected = select(net, run.shuffled(epoch), run.random(epoch, 0))
        for batch in in_batches(selected, run.batch_size):
            net.step(batch)
        yield


def algorithm_9(run: Run, net: Net, select: Select = algorithm_7, first: Select | None = None) -> Iterator[None]:
    """Batchwise, unstable batch size; with ``first``, over what it selects at the start of the epoch (Table 4.4)."""
    for epoch in range(1, run.epochs + 1):
        data, unit = run.shuffled(epoch), 0
        if first is not None:
            data, unit = first(net, data, run.random(epoch, 0)), 1
        for raw in in_batches(data, run.raw_batch_size):
            batch = select(net, raw, run.random(epoch, unit))
            unit += 1
            if batch:
                net.step(batch)
        yield


def algorithm_10(run: Run, net: Net, select: Select = algorithm_7, first: Select | None = None) -> Iterator[None]:
    """Batchwise, stable batch size; with ``first``, over what it selects at the start of the epoch (Table 4.4)."""
    filtered: Batch = []
    for epoch in range(1, run.epochs + 1):
        data, unit = run.shuffled(epoch), 0
        if first is not None:
            data, unit = first(net, data, run.random(epoch, 0)), 1
        for raw in in_batches(data, run.raw_batch_size):
            filtered = filtered + select(net, raw, run.random(epoch, unit))
            unit += 1
            if len(filtered) >= run.batch_size:
                net.step(filtered[0 : run.batch_size])
                filtered = []
        yield


def future_work(
    run: Run, net: Net, select: Select, first: Select | None, carry: bool, limit: int | None
) -> Iterator[None]:
    """Algorithm 10 with overflow carried over, or with adaptive raw batches up to ``limit`` (section 5.2.2)."""
    filtered: Batch = []
    acceptance, drawn, kept = 1.0, 0, 0
    for epoch in range(1, run.epochs + 1):
        data, unit = run.shuffled(epoch), 0
        if first is not None:
            data, unit = first(net, data, run.random(epoch, 0)), 1
        while data:
            size = run.raw_batch_size
            if limit is not None:
                size = max(run.batch_size, min(limit, math.ceil((run.batch_size - len(filtered)) / acceptance)))
            raw, data = data[:size], data[size:]
            selected = select(net, raw, run.random(epoch, unit))
            unit += 1
            filtered, drawn, kept = filtered + selected, drawn + len(raw), kept + len(selected)
            while len(filtered) >= run.batch_size:
                net.step(filtered[: run.batch_size])
                filtered = filtered[run.batch_size :] if carry else []
                if drawn:
                    acceptance, drawn, kept = kept / drawn, 0, 0
        yield


def transcription(method: MethodConfig, run: Run, net: Net) -> Iterator[None]:
    """The loop that a configuration stands for; ``loss_weighted`` and ``like`` are not among them."""
    if method.granularity == "none":
        return algorithm_1(run, net)
    options = method.selector
    selector = {
        "all": lambda: everyone,
        "top_k": lambda: algorithm_3(options.k),
        "top_q": lambda: top_q(options.q),
        "q_split": lambda: algorithm_4(options.k, options.buckets, options.power),
        "random": lambda: uniform(options.k) if options.ratio is None else share(options.ratio),
    }[options.name]()
    filters = {"none": lambda s: s, "hard": hard, "soft": lambda s: soft(method.filter.margin, s)}
    select = filters[method.filter.name](selector)
    if method.fallback == "random":
        select = made_up(getattr(options, "k", None) or run.batch_size, select)
    if method.granularity == "epoch":
        return (algorithm_8 if method.batch == "stable" else algorithm_2)(run, net, select)
    first = select if method.granularity == "epoch+batch" else None
    if method.batch == "unstable":
        return algorithm_9(run, net, select, first)
    if method.overflow == "carry" or method.raw_batch_size == "adaptive":
        limit = method.raw_batch_limit if method.raw_batch_size == "adaptive" else None
        return future_work(run, net, select, first, method.overflow == "carry", limit)
    return algorithm_10(run, net, select, first)
