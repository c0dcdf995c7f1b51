"""Whether a comparison has room in memory: what it takes at the very least, and what there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from study.experiment import Resources
from study.limits import available_memory
from trainables.config import TrialConfig
from trainables.data import Dimensions
from trainables.models import Examined

NUMBER = 4
"""Bytes of a number in fp32, which weights and states have in every precision."""
GIBIBYTE = 2**30

STATE: Mapping[str, Callable[[Any], int]] = {
    "SGD": lambda of: of.momentum > 0,
    "Adam": lambda of: 2 + of.amsgrad,
    "AdamW": lambda of: 2 + of.amsgrad,
    "RMSprop": lambda of: 1 + of.centered + (of.momentum > 0),
}
"""The numbers that an optimizer keeps for each weight; of one's own, none are known."""


class Asked(NamedTuple):
    """What a configuration asks for.

    Attributes:
        config: its settings.
        seen: its network.
        shape: of its images.
        data: bytes of its data set.
    """

    config: TrialConfig
    seen: Examined
    shape: Dimensions
    data: int


def least(asked: Asked) -> int:
    """Bytes that a comparison takes at the least.

    These are the data set, weights and optimizer state of every arm, and of one arm that trains the gradients, a batch
    of images and what the layers put out for it. Evaluation and libraries come on top.
    """
    config, seen, shape, data = asked
    kept = STATE.get(config.optimizer.name, lambda of: 0)(config.optimizer)
    weights = seen.parameters * (len(config.arms) * (1 + kept) + 1)
    height, width = shape.size
    batch = config.batch_size * (shape.channels * height * width + seen.activations)
    return NUMBER * (weights + batch) + data


def room(resources: Resources) -> tuple[int, str] | None:
    """Bytes that one comparison may take, and whose they are; None where it trains on a GPU that is not there."""
    if resources.gpu:
        if not torch.cuda.is_available():
            return None
        return int(torch.cuda.get_device_properties(0).total_memory * resources.gpu), "its share of the GPU"
    if resources.memory_gib is not None:
        return int(resources.memory_gib * GIBIBYTE), "resources.memory_gib"
    return available_memory(), "the free memory of this machine"


def trouble(asked: Asked, resources: Resources) -> str | None:
    """Why a comparison cannot fit into memory, and the remedy; None where it may."""
    has, needs, (config, seen, _, data) = room(resources), least(asked), asked
    if has is None or needs <= has[0]:
        return None
    return (
        f"{config.model.title} with {seen.parameters:,} parameters, {config.optimizer.name}, {len(config.arms)} arms "
        f"and batch_size {config.batch_size} needs at least {_gib(needs)}, {_gib(data)} of them for "
        f"{config.dataset.title}, and {has[1]} is {_gib(has[0])}; take a smaller network, batch or data set, or a "
        "machine with more memory"
    )


def _gib(size: int) -> str:
    return f"{size / GIBIBYTE:.1f} GiB"
