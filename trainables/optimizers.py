"""Optimizers and learning-rate schedules of Table 4.1."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from inspect import signature

import torch
from torch.nn import Parameter

from trainables import config, imports
from trainables.config import OptimizerConfig, ScheduleConfig

FUSED = frozenset({"SGD", "Adam", "AdamW"})
"""Those of which torch has a fused form: one kernel updates all parameters."""


def build(
    settings: OptimizerConfig, parameters: Iterable[Parameter], capturable: bool = False
) -> torch.optim.Optimizer:
    """torch's optimizer of that name with those settings, fused where it can be; or one of a researcher's own.

    A ``capturable`` one can be part of a CUDA graph: its learning rate is a tensor on the device.

    Raises:
        CodeError: a researcher's own raises, or is no optimizer.
    """
    parameters = list(parameters)
    rate = torch.tensor(settings.lr, device=parameters[0].device) if capturable else settings.lr
    if isinstance(settings, config.UsedOptimizer):
        return _used(settings, parameters, rate, capturable)
    kind: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, settings.name)
    options = settings.model_dump(exclude={"name", "lr"})  # under the names of torch's own arguments
    if settings.name in FUSED:
        options["fused"] = True
    if "capturable" in signature(kind).parameters:
        options["capturable"] = capturable
    return kind(parameters, lr=rate, **options)


def _used(
    settings: config.UsedOptimizer, parameters: list[Parameter], rate: float | torch.Tensor, capturable: bool
) -> torch.optim.Optimizer:
    with imports.blamed(f"optimizer {settings.use!r}"):
        options = settings.options | ({"capturable": True} if capturable else {})
        optimizer = imports.find(settings.use, "optimizers")(parameters, lr=rate, **options)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise imports.CodeError(f"optimizer.use: {settings.use!r} makes no torch.optim.Optimizer")
    return optimizer


def recordable(settings: OptimizerConfig) -> bool:
    """Whether the optimizer's updates can be part of a CUDA graph: a class of one's own must take ``capturable``."""
    if not isinstance(settings, config.UsedOptimizer):
        return True
    return "capturable" in (imports.signature(imports.find(settings.use, "optimizers")) or {})


def set_rate(optimizer: torch.optim.Optimizer, rate: float | torch.Tensor) -> None:
    """Go on with this learning rate; where it is a tensor, a CUDA graph may know it, and it is changed in place."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = float(rate)


def learning_rate(
    initial: float, schedule: ScheduleConfig, done: int | float, whole: int | float, epochs: int | None = None
) -> float:
    """The learning rate when ``done`` of the ``whole`` budget is spent.

    ``epochs`` are the epochs of the budget; None: its unit is the epoch. A warm-up and the decay of some schedules are
    given by the epoch.

    A closed form, so that a schedule has no state to save: what torch's ExponentialLR, StepLR and CosineAnnealingLR
    give when stepped after every epoch, and its CosineAnnealingLR, LinearLR and OneCycleLR after every update.
    """
    epoch = done if epochs in (None, whole) else done * epochs / whole
    match schedule:
        case config.Constant():
            return initial
        case config.Exponential():
            return initial * schedule.gamma**epoch
        case config.MultiStep():
            return initial * schedule.gamma ** (epoch // schedule.every)
        case config.Cosine():
            return _warmed(schedule.warmup, epoch) * initial * (1 + math.cos(math.pi * done / whole)) / 2
        case config.Linear():
            return _warmed(schedule.warmup, epoch) * initial * (1 - done / whole)
        case config.OneCycle():
            first = initial / schedule.div_factor
            share = done / whole
            if share < schedule.rising:
                return _between(first, initial, share / schedule.rising)
            falling = (share - schedule.rising) / (1 - schedule.rising)
            return _between(initial, first / schedule.final_div_factor, falling)


def _warmed(warmup: float, done: int | float) -> float:
    """The factor of a rate that rises in the first ``warmup`` epochs."""
    return 0.01 + 0.99 * done / warmup if done < warmup else 1.0


def _between(start: float, end: float, share: float) -> float:
    """The value at a share of the way from ``start`` to ``end`` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
