"""CUDA graphs: a step of fixed shape is recorded once and replayed, so that the host no longer slows the device down.

A small network's step is dozens of kernels of a few microseconds, each of which costs the host longer to ask for than
the device to run. A graph asks for all of them at once (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/).
The kernels are the same, and so are the results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch

from trainables.methods import ProbeResult, Views

WARM_UP = 3
"""Calls before the recording, as torch asks for: libraries choose their kernels, optimizers make their buffers."""


class Replayed:
    """A probe or an update, replayed as a CUDA graph for batches of the ``sizes``; others run plainly.

    ``run`` must be a function of the views' tensors whose shapes say all: it may not wait for the device, nor make
    tensors that outlive it other than its result. Without CUDA all is the same, fixed buffers included, but for a plain
    call in the place of the replay.

    After tensors that ``run`` uses have been replaced (an optimizer's state by a restored one), :meth:`forget` is due.
    """

    def __init__(self, run: Callable[[Views], ProbeResult], sizes: Iterable[int], device: torch.device) -> None:
        self._run = run
        self._sizes = frozenset(sizes)
        self._device = device
        self.forget()

    def forget(self) -> None:
        """Record anew at the next calls."""
        self._calls: Counter[int] = Counter()
        self._replays: dict[int, Callable[[Views], ProbeResult]] = {}
        # Of all sizes together: they are replayed one after the other, and what one gives out is copied. Anew each
        # time, for torch does not take the pool of graphs that are gone.
        self._pool = torch.cuda.graph_pool_handle() if self._device.type == "cuda" else None

    @property
    def recorded(self) -> list[int]:
        """The sizes that are replayed by now."""
        return sorted(self._replays)

    def __call__(self, views: Views) -> ProbeResult:
        """What ``run`` says of the views; the result is the caller's own."""
        size = len(views)
        if size not in self._sizes:
            return self._run(views)
        if size not in self._replays:
            if self._calls[size] < WARM_UP:
                self._calls[size] += 1
                return _aside(self._run, views, self._device)
            self._replays[size] = _recorded(self._run, views, self._device, self._pool)
        return self._replays[size](views)


def _aside(run: Callable[[Views], ProbeResult], views: Views, device: torch.device) -> ProbeResult:
    """The result of a call on a stream of its own, where a recording must be warmed up."""
    if device.type != "cuda":
        return run(views)
    stream = _side(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        result = run(views)
    torch.cuda.current_stream(device).wait_stream(stream)
    for tensor in (result.logits, result.labels):
        tensor.record_stream(torch.cuda.current_stream(device))
    return result


@lru_cache
def _side(device: torch.device) -> torch.cuda.Stream:
    """The one stream for all that is not asked for in order: cuBLAS keeps memory for each stream that it has seen."""
    return torch.cuda.Stream(device)


def _recorded(
    run: Callable[[Views], ProbeResult], like: Views, device: torch.device, pool: Any
) -> Callable[[Views], ProbeResult]:
    """What runs ``run`` on as many views as ``like``, in the same memory every time; to record runs nothing."""
    fixed = Views(**{name: torch.zeros_like(tensor, device=device) for name, tensor in like.tensors().items()})
    if device.type == "cuda":
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=_side(device)):
            recorded = run(fixed)

    def replay(views: Views) -> ProbeResult:
        for name, tensor in views.tensors().items():
            getattr(fixed, name).copy_(tensor)
        if device.type == "cuda":
            graph.replay()
        result = recorded if device.type == "cuda" else run(fixed)
        return ProbeResult(result.logits.clone(), result.labels.clone())

    return replay
