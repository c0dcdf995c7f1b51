"""What an arm has spent, on the clocks that a budget can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from trainables.config import Clock, TrialConfig
from trainables.data import Dimensions


class Reference(NamedTuple):
    """What training cost on the machine where it was measured, in seconds per sample.

    Attributes:
        forward: of a forward pass without gradients, as a probe makes it.
        update: of a whole update: forward pass, backward pass and the optimizer's step.
    """

    forward: float
    update: float


def key(config: TrialConfig, shape: Dimensions) -> str:
    """The text under which a reference is kept: everything of a comparison that it depends on, but the machine.

    That is the network for images and classes of this ``shape``, batch size, precision, augmentation and optimizer.
    """
    named = "use" if config.model.own else "name"
    options = [f"{name}={value}" for name, value in config.model.model_dump(mode="json").items() if name != named]
    parts = [
        " ".join([config.model.title, *options]),
        f"{shape.channels} x {shape.size[0]} x {shape.size[1]}",
        f"{shape.classes} classes",
        f"batch {config.batch_size}",
        config.precision,
        f"augmentation {config.augmentation}",
        config.optimizer.name,
    ]
    return ", ".join(parts)


def seconds(counts: Mapping[str, int | float], reference: Reference) -> float:
    """What an arm's work takes at the reference's speed, from its counts under the names of the epoch table.

    Every sample that is probed or trained on goes through the network once, and auxiliary work is counted in such
    forward passes already. An update costs more than its forward pass by the backward pass and the optimizer's step;
    only the samples that are sent backward pay for these. So an update on all of its batch costs what was measured for
    it, and ``compute`` is the same sum with a forward pass of 1 and an update of 3.

    Clocks on the wall differ between runs of the same work, by whatever else the machine does; this one does not
    (the reference system time of Kaddour et al. 2023, arXiv:2307.06440).
    """
    forward = counts["samples_probed"] + counts["samples_trained"] + counts["auxiliary_compute"]
    return reference.forward * forward + (reference.update - reference.forward) * counts["samples_backward"]


def amount(clock: Clock, spent: Mapping[str, int | float], passes: float) -> int | float:
    """How much is spent on a clock, in its unit.

    Arguments:
        spent: sums over the epochs, under the names of the epoch table.
        passes: over the raw data.
    """
    match clock:
        case "epochs":
            return passes
        case "steps":
            return spent["steps"]
        case "samples":
            return spent["samples_trained"]
        case "compute":
            return spent["compute"]
        case "reference_seconds":
            return spent["reference_seconds"]
