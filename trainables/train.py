"""The loop. It has no branch on the method: a sampler is handed in, and asks for probes as it sees fit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainables.samplers import ProbeResult, Sampler, Views

Feed = Callable[[Views], tuple[Tensor, Tensor]]
"""From views to the normalized pictures and labels that they stand for."""


def train_epoch(
    epoch: int,
    sampler: Sampler,
    feed: Feed,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stopwatch: Stopwatch,
) -> None:
    """One pass over the raw training data (section 3.3.2); how many updates that makes is the sampler's affair."""

    def probe(views: Views) -> ProbeResult:
        with stopwatch.measure("probe"), torch.no_grad():
            images, labels = feed(views)
            model.eval()
            return ProbeResult(model(images), labels)

    for views in sampler.batches(epoch, probe):
        with stopwatch.measure("train"):
            images, labels = feed(views)
            model.train()
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


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
