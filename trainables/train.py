"""The loop. It has no branch on the method: a sampler is handed in, and asks for probes as it sees fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from time import perf_counter

import torch
from torch import Tensor, nn

from trainables.methods import Probe, ProbeResult, Sampler, Views

Feed = Callable[[Views], tuple[Tensor, Tensor]]
"""From views to the normalized pictures and labels that they stand for."""

Loss = Callable[[Views, Tensor, Tensor, Tensor], Tensor]
"""From a batch, its logits, labels and images to what an update descends."""

Update = Callable[[Views], ProbeResult]
"""One step of the optimizer on a batch; what the model said of it before."""


MOST_PASSES = 100
"""Passes over the raw data in an epoch at most: a method that finds nothing to train on would never spend a budget."""


def train(
    sampler: Sampler,
    probe: Probe,
    update: Update,
    spent: Callable[[], int | float],
    until: int | float,
    choosing: AbstractContextManager[None],
) -> None:
    """Train until that much is ``spent``; by default that is one pass over the raw training data (section 3.3.2).

    How many updates a pass makes is the sampler's affair. An epoch may end within a pass: the next goes on there.
    ``choosing`` times the making of batches, probes included.
    """
    last = sampler.finished + MOST_PASSES
    while spent() < until and sampler.finished < last:
        for views in timed(sampler.batches(probe), choosing):
            update(views)
            if spent() >= until:
                break


def timed(batches: Iterator[Views], span: AbstractContextManager[None]) -> Iterator[Views]:
    """The same batches; ``span`` times what each takes to be made."""
    while True:
        with span:
            views = next(batches, None)
        if views is None:
            return
        yield views


def updater(model: nn.Module, feed: Feed, loss: Loss, optimizer: torch.optim.Optimizer) -> Update:
    """A step of ``optimizer`` on what ``loss`` makes of a batch. It never waits for the device."""

    def update(views: Views) -> ProbeResult:
        images, labels = feed(views)
        switch(model, training=True)
        logits = model(images)
        optimizer.zero_grad()
        loss(views, logits, labels, images).backward()
        optimizer.step()
        return ProbeResult(logits.detach(), labels)

    return update


def prober(model: nn.Module, feed: Feed, training: bool) -> Probe:
    """A forward pass that changes nothing: no gradient, parameter or buffer. It never waits for the device.

    With ``training`` the model runs as in training, normalizing by the probed batch's own statistics.
    """
    layers = list(model.modules()) if training else []
    normalizing = [layer for layer in layers if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    normalizations = [layer for layer in normalizing if layer.track_running_stats]
    others = [layer for layer in layers if layer not in normalizations]
    buffers = [buffer for layer in others for buffer in layer.buffers(recurse=False)]

    @torch.no_grad()
    def probe(views: Views) -> ProbeResult:
        images, labels = feed(views)
        switch(model, training)
        for layer in normalizations:
            layer.track_running_stats = False
        before = [buffer.clone() for buffer in buffers]
        result = ProbeResult(model(images), labels)
        for layer in normalizations:
            layer.track_running_stats = True
        for buffer, values in zip(buffers, before, strict=True):
            buffer.copy_(values)
        return result

    return probe


def switch(model: nn.Module, training: bool) -> None:
    """Put the model into training or evaluation mode, unless it is: that takes a walk through all its layers."""
    if model.training != training:
        model.train(training)


def watched(
    run: Probe | Update, span: AbstractContextManager[None], observe: Callable[[ProbeResult], object]
) -> Probe | Update:
    """``run``, timed by ``span``; ``observe`` gets every result, on the device: to wait for it is up to it."""

    def measured(views: Views) -> ProbeResult:
        with span:
            result = run(views)
        observe(result)
        return result

    return measured


class Stopwatch:
    """Seconds by phase. On CUDA it records events and waits for the device only when read."""

    def __init__(self, device: torch.device) -> None:
        self._kind = _DeviceSpan if device.type == "cuda" else _Span
        self._spans: dict[str, _Span | _DeviceSpan] = {}

    def measure(self, phase: str) -> AbstractContextManager[None]:
        """What adds the time that is spent in it to ``phase``; it can be entered again and again."""
        if phase not in self._spans:
            self._spans[phase] = self._kind()
        return self._spans[phase]

    def read(self) -> dict[str, float]:
        """Seconds by phase since the last reading."""
        return {phase: span.read() for phase, span in self._spans.items()}


class _Span:
    """Adds up the time that is spent in it; cheap, for it is entered at every probe and update."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds += perf_counter() - self._began

    def read(self) -> float:
        """Seconds since the last reading."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


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

    def read(self) -> float:
        """Seconds since the last reading."""
        torch.cuda.synchronize()
        events, self._events = self._events, []
        pairs = zip(events[::2], events[1::2], strict=True)
        return sum(start.elapsed_time(end) for start, end in pairs) / 1000
