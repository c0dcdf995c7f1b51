"""The reference of a clock of seconds: how fast a machine probes and trains, measured before anything is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from statistics import median
from time import perf_counter

import torch

from trainables.clocks import Reference
from trainables.comparison import Arm, ready
from trainables.config import ARMS, BudgetConfig, Constant, MethodConfig, Runtime, TrialConfig
from trainables.graphs import WARM_UP
from trainables.methods import ProbeResult, Views
from trainables.optimizers import set_rate

SPAN_SECONDS = 0.3
"""Of measuring, about; a large network takes longer, for each is measured :data:`LEAST` times."""
BLOCK_SECONDS = 0.01
"""Of calls that are timed together, so that neither the clock nor waiting for a GPU weighs much."""
LEAST = 3
BATCHES = 4
"""Different batches in turn: one and the same would stay in the processor's cache."""


def measured(config: TrialConfig, runtime: Runtime) -> Reference:
    """The reference of a configuration in this process, on the device and threads of ``runtime``.

    Raises:
        UserError: as :func:`trainables.comparison.prepare`.
    """
    data, device = ready(config, runtime)
    arms = {"archetype": MethodConfig.model_validate(ARMS["archetype"])}
    plain = config.model_copy(update={"arms": arms, "budget": BudgetConfig(), "schedule": Constant()})
    graphs = runtime.cuda_graphs and device.type == "cuda"
    return measure(Arm("archetype", arms["archetype"], plain, data, device, {}, graphs))


def measure(arm: Arm, span: float = SPAN_SECONDS) -> Reference:
    """Medians of repeated probes and updates of an arm at its batch size, in turn, after a warm-up; on CUDA replayed.

    Gathering and augmentation of the images are part of both. The learning rate is 0, so that the weights stay as they
    are; the arm is not to be trained afterwards.

    Arguments:
        span: seconds of measuring, about.
    """
    size, order = arm.config.batch_size, arm.sampler.order(1)
    index = order[torch.arange(BATCHES * size) % len(order)]
    batches = [*Views.of(index.to(arm.device), 1).split(size)]
    set_rate(arm.optimizer, 0.0)
    with arm.randomness or nullcontext():
        for _ in range(WARM_UP + 1 if arm.graphs else 1):
            _seconds(arm, arm.probe, batches[:1])
            _seconds(arm, arm.update, batches[:1])
        runs = (arm.probe, arm.update)
        calls = [max(round(BLOCK_SECONDS / _seconds(arm, run, batches[:1])), 1) for run in runs]
        taken: list[list[float]] = [[] for _ in runs]
        began = perf_counter()
        while len(taken[0]) < LEAST or perf_counter() - began < span:
            for times, run, count in zip(taken, runs, calls, strict=True):
                block = [batches[(len(times) * count + place) % BATCHES] for place in range(count)]
                times.append(_seconds(arm, run, block) / (count * size))
    forward, update = map(median, taken)
    return Reference(forward, max(forward, update))  # by noise alone, where augmentation is nearly all of both


def _seconds(arm: Arm, run: Callable[[Views], ProbeResult], batches: Sequence[Views]) -> float:
    """Seconds that calls for these batches take, the device's work included."""
    cuda = arm.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(arm.device)
    began = perf_counter()
    for views in batches:
        run(views)
    if cuda:
        torch.cuda.synchronize(arm.device)
    taken = perf_counter() - began
    arm.probed.clear()
    arm.trained.clear()
    return taken
