"""The loop. It has no branch on the method: a sampler is handed in, and asks for probes as it sees fit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.samplers import Probe, ProbeResult, Sampler, Views

Feed = Callable[[Views], tuple[Tensor, Tensor]]
"""From views to the normalized pictures and labels that they stand for."""

Observe = Callable[[ProbeResult], object]
"""Gets what a forward pass said, on the device: to wait for it is up to the observer."""


def ignore(result: ProbeResult) -> None:
    """Observe nothing."""


def train_epoch(
    epoch: int,
    sampler: Sampler,
    probe: Probe,
    feed: Feed,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stopwatch: Stopwatch,
    observe: Observe = ignore,
) -> None:
    """One pass over the raw training data (section 3.3.2); how many updates that makes is the sampler's affair.

    ``observe`` gets what the model said of each batch before its update.
    """
    for views in sampler.batches(epoch, probe):
        with stopwatch.measure("train"):
            images, labels = feed(views)
            switch(model, training=True)
            logits = model(images)
            loss = sampler.loss(views, cross_entropy(logits, labels, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            observe(ProbeResult(logits.detach(), labels))


def switch(model: nn.Module, training: bool) -> None:
    """Put the model into training or evaluation mode, unless it is: that takes a walk through all its layers."""
    if model.training != training:
        model.train(training)


def prober(model: nn.Module, feed: Feed, training: bool, stopwatch: Stopwatch, observe: Observe = ignore) -> Probe:
    """A forward pass that changes nothing: no gradient, parameter or buffer. ``observe`` gets every result.

    With ``training`` the model runs as in training, normalizing by the probed batch's own statistics.
    """
    layers = model.modules() if training else ()
    normalizations = [layer for layer in layers if isinstance(layer, nn.modules.batchnorm._BatchNorm)]

    @torch.no_grad()
    def probe(views: Views) -> ProbeResult:
        with stopwatch.measure("probe"):
            images, labels = feed(views)
            switch(model, training)
            for layer in normalizations:
                layer.track_running_stats = False
            result = ProbeResult(model(images), labels)
            for layer in normalizations:
                layer.track_running_stats = True
            observe(result)
            return result

    return probe


class Stopwatch:
    """Seconds by phase. On CUDA it records events and waits for the device only when read."""

    def __init__(self, device: torch.device) -> None:
        self._kind = _DeviceSpan if device.type == "cuda" else _Span
        self._spans: dict[str, _Span | _DeviceSpan] = {}

    def measure(self, phase: str) -> AbstractContextManager[None]:
        """Add the time that the block takes to ``phase``."""
        if phase not in self._spans:
            self._spans[phase] = self._kind()
        return self._spans[phase]

    def read(self) -> dict[str, float]:
        """Seconds by phase since the last reading; a phase that was not measured is missing."""
        spans, self._spans = self._spans, {}
        return {phase: span.seconds for phase, span in spans.items()}


class _Span:
    """Adds up the time that is spent in it; cheap, for it is entered at every probe and update."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += perf_counter() - self._began


class _DeviceSpan:
    """Adds up the time that the device spends on what was asked of it here."""

    def __init__(self) -> None:
        self._events: list[torch.cuda.Event] = []

    def __enter__(self) -> None:
        self._record()

    def __exit__(self, *_: object) -> None:
        self._record()

    def _record(self) -> None:
        self._events.append(torch.cuda.Event(enable_timing=True))
        self._events[-1].record()

    @property
    def seconds(self) -> float:
        torch.cuda.synchronize()
        pairs = zip(self._events[::2], self._events[1::2], strict=True)
        return sum(start.elapsed_time(end) for start, end in pairs) / 1000
