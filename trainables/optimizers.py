"""Optimizers and learning-rate schedules of Table 4.1."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter

from trainables import config
from trainables.config import OptimizerConfig, ScheduleConfig


def build(settings: OptimizerConfig, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
    """torch's optimizer of that name with those settings, fused: one kernel updates all parameters."""
    match settings:
        case config.SGD():
            return torch.optim.SGD(
                parameters,
                lr=settings.lr,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                weight_decay=settings.weight_decay,
                fused=True,
            )
        case config.Adam():
            return torch.optim.Adam(
                parameters,
                lr=settings.lr,
                amsgrad=settings.amsgrad,
                weight_decay=settings.weight_decay,
                fused=True,
            )
        case config.AdamW():
            return torch.optim.AdamW(
                parameters,
                lr=settings.lr,
                amsgrad=settings.amsgrad,
                weight_decay=settings.weight_decay,
                fused=True,
            )


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
