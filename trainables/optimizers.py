"""Optimizers and learning-rate schedules of Table 4.1."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter

from trainables import config
from trainables.config import OptimizerConfig, ScheduleConfig


def build(
    settings: OptimizerConfig, parameters: Iterable[Parameter], capturable: bool = False
) -> torch.optim.Optimizer:
    """torch's optimizer of that name with those settings, fused: one kernel updates all parameters.

    A ``capturable`` one can be part of a CUDA graph: its learning rate is a tensor on the device.
    """
    parameters = list(parameters)
    rate = torch.tensor(settings.lr, device=parameters[0].device) if capturable else settings.lr
    match settings:
        case config.SGD():
            return torch.optim.SGD(
                parameters,
                lr=rate,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                weight_decay=settings.weight_decay,
                fused=True,
            )
        case config.Adam():
            return torch.optim.Adam(
                parameters,
                lr=rate,
                amsgrad=settings.amsgrad,
                weight_decay=settings.weight_decay,
                capturable=capturable,
                fused=True,
            )
        case config.AdamW():
            return torch.optim.AdamW(
                parameters,
                lr=rate,
                amsgrad=settings.amsgrad,
                weight_decay=settings.weight_decay,
                capturable=capturable,
                fused=True,
            )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Go on with this learning rate; where it is a tensor, a CUDA graph may know it, and it is changed in place."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rate(initial: float, schedule: ScheduleConfig, epoch: int, epochs: int) -> float:
    """The learning rate of the ``epoch``-th of ``epochs`` epochs, counted from 1.

    A closed form, so that a schedule has no state to save: what torch's ExponentialLR, StepLR and CosineAnnealingLR
    give when stepped after every epoch.
    """
    done = epoch - 1
    match schedule:
        case config.Constant():
            return initial
        case config.Exponential():
            return initial * schedule.gamma**done
        case config.MultiStep():
            return initial * schedule.gamma ** (done // schedule.every)
        case config.Cosine():
            return initial * (1 + math.cos(math.pi * done / epochs)) / 2
