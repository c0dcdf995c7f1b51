"""The loop. It has no branch on the method: a sampler is handed in, and asks for probes as it sees fit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.samplers import Probe, ProbeResult, Sampler, Views

Feed = Callable[[Views], tuple[Tensor, Tensor]]
"""From views to the normalized pictures and labels that they stand for."""


def train_epoch(
    epoch: int,
    sampler: Sampler,
    probe: Probe,
    feed: Feed,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stopwatch: Stopwatch,
) -> None:
    """One pass over the raw training data (section 3.3.2); how many updates that makes is the sampler's affair."""
    for views in sampler.batches(epoch, probe):
        with stopwatch.measure("train"):
            images, labels = feed(views)
            model.train()
            loss = sampler.loss(views, cross_entropy(model(images), labels, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def prober(model: nn.Module, feed: Feed, training: bool, stopwatch: Stopwatch) -> Probe:
    """A forward pass that changes nothing: no gradient, parameter or buffer.

    With ``training`` the model runs as in training, normalizing by the probed batch's own statistics.
    """
    normalizations = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    @torch.no_grad()
    def probe(views: Views) -> ProbeResult:
        with stopwatch.measure("probe"):
            images, labels = feed(views)
            model.train(training)
            for module in normalizations:
                module.track_running_stats = not training
            logits = model(images)
            for module in normalizations:
                module.track_running_stats = True
            return ProbeResult(logits, labels)

    return probe


class Stopwatch:
    """Seconds by phase. On CUDA it records events and waits for the device only when read."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Add the time that the block takes to ``phase``."""
        if self._cuda:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            yield
            end.record()
            self._events.append((phase, start, end))
        else:
            begin = perf_counter()
            yield
            self._seconds[phase] += perf_counter() - begin

    def read(self) -> dict[str, float]:
        """Seconds by phase since the last reading; a phase that was not measured counts 0."""
        if self._cuda:
            torch.cuda.synchronize()
            for phase, start, end in self._events:
                self._seconds[phase] += start.elapsed_time(end) / 1000
            self._events.clear()
        seconds, self._seconds = self._seconds, defaultdict(float)
        return seconds
