"""A rehearsal: every arm goes through all phases of its method on made-up images, before anything runs in earnest.

A method may warm up, select, and stop selecting near the end of training. What is wrong with a late phase would else
show hours into a study.
"""

from __future__ import annotations

import torch

from trainables.comparison import Comparison
from trainables.config import SGD, BudgetConfig, Constant, EvaluationConfig, ModelConfig, TrialConfig
from trainables.data import Dataset, Split
from trainables.imports import CodeError
from trainables.seeds import generator

EPOCHS, BATCH, BATCHES = 12, 16, 8
"""What is trained at most: phases are shares of the epochs, or the first few of them."""

CLASSES, SIZE, LR = 3, 8, 1e-3
NOISE = 0.2
"""The share of wrong labels: a method may need some to tell right ones from."""


def rehearse(config: TrialConfig) -> str | None:
    """What goes wrong when the arms of ``config`` train for a moment; None where nothing does.

    The methods are as they are. The network is a small one, the images are random, every budget is one of epochs, and
    the learning rate is so low that no arm diverges and ends the rehearsal before its last phase.
    """
    arms = {name: arm.model_copy(update={"epochs": None, "budget": None}) for name, arm in config.arms.items()}
    short = {
        "arms": arms,
        "model": ModelConfig(name="FCNet4"),
        "batch_size": min(config.batch_size, BATCH),
        "epochs": min(config.epochs, EPOCHS),
        "budget": BudgetConfig(),
        "optimizer": SGD(lr=LR),
        "schedule": Constant(),
        "augmentation": "none",
        "precision": "fp32",
        "metrics": {},
        "evaluate": EvaluationConfig(train="running"),
    }
    comparison = Comparison(config.model_copy(update=short), made_up(), torch.device("cpu"))
    try:
        while not comparison.done:
            comparison.step()
    except CodeError as error:
        return f"{error} (in a rehearsal on made-up images, epoch {comparison.epoch} of {comparison.config.epochs})"
    return None


def made_up() -> Dataset:
    """Random images of three classes, of which a fifth is labelled wrong."""
    stream = generator(0, "rehearsal")
    count = BATCH * BATCHES
    images = torch.randint(256, (count, 1, SIZE, SIZE), generator=stream, dtype=torch.uint8)
    truth = torch.arange(count) % CLASSES
    labels = torch.where(torch.arange(count) < NOISE * count, (truth + 1) % CLASSES, truth)
    half = torch.full((1, 1, 1), 0.5)
    split = Split(images, labels)
    return Dataset(split, None, split.select(torch.arange(BATCH)), CLASSES, half, half / 2, true_labels=truth)
