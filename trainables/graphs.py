"""CUDA graphs: a step of fixed shape is recorded once and replayed, so that the host no longer slows the device down.

A small network's step is dozens of kernels of a few microseconds, each of which costs the host longer to ask for than
the device to run. A graph asks for all of them at once (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/).
The kernels are the same, and so are the results.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainables.samplers import ProbeResult, Views

WARM_UP = 3
"""Calls before the recording, as torch asks for: libraries choose their kernels, optimizers make their buffers."""


class Replayed:
    """A probe or an update, replayed as a CUDA graph for batches of ``size``; others, such as a last one, run plainly.

    ``run`` must be a function of the views' tensors whose shapes say all: it may not wait for the device, nor make
    tensors that outlive it other than its result. Without CUDA all is the same, fixed buffers included, but for a plain
    call in the place of the replay.

    After tensors that ``run`` uses have been replaced (an optimizer's state by a restored one), :meth:`forget` is due.
    """

    def __init__(self, run: Callable[[Views], ProbeResult], size: int, device: torch.device) -> None:
        self._run = run
        self._size = size
        self._device = device
        self.forget()

    def forget(self) -> None:
        """Record anew at the next calls."""
        self._calls = 0
        self._replay: Callable[[], ProbeResult] | None = None
        self._views = Views(*(torch.zeros(self._size, dtype=torch.int64, device=self._device) for _ in range(2)))

    def __call__(self, views: Views) -> ProbeResult:
        """What ``run`` says of the views; the result is the caller's own."""
        if len(views) != self._size:
            return self._run(views)
        if self._calls < WARM_UP:
            self._calls += 1
            return _aside(self._run, views, self._device)
        self._views.index.copy_(views.index)
        self._views.epoch.copy_(views.epoch)
        if self._replay is None:
            self._replay = _recorded(self._run, self._views, self._device)
        result = self._replay()
        return ProbeResult(result.logits.clone(), result.labels.clone())


def _aside(run: Callable[[Views], ProbeResult], views: Views, device: torch.device) -> ProbeResult:
    """The result of a call on a stream of its own, where a recording must be warmed up."""
    if device.type != "cuda":
        return run(views)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        result = run(views)
    torch.cuda.current_stream(device).wait_stream(stream)
    for tensor in (result.logits, result.labels):
        tensor.record_stream(torch.cuda.current_stream(device))
    return result


def _recorded(run: Callable[[Views], ProbeResult], views: Views, device: torch.device) -> Callable[[], ProbeResult]:
    """What runs ``run`` on the contents of ``views`` whenever it is called; to record runs nothing."""
    if device.type != "cuda":
        return lambda: run(views)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run(views)

    def replay() -> ProbeResult:
        graph.replay()
        return result

    return replay
