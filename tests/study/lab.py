"""Code as a researcher has it, in a folder of their own: what the tests write there, and how."""

from pathlib import Path

METRICS = '''"""Metrics of a laboratory."""

import torch

from trainables.metrics import metric


@metric(direction="min", unit="fraction", meaning="expected calibration error")
def ece(logits, labels, bins=15):
    probability, guess = logits.softmax(1).max(1)
    right = (guess == labels).float()
    place = (probability * bins).long().clamp(max=bins - 1)
    error = torch.zeros(())
    for one in place.unique():
        here = place == one
        error += here.float().mean() * (probability[here].mean() - right[here].mean()).abs()
    return error


@metric(direction={"brier": "min", "top2": "max"}, unit={"top2": "fraction"})
def scores(logits, labels):
    truth = torch.nn.functional.one_hot(labels, logits.shape[1])
    top = (logits.topk(2).indices == labels[:, None]).any(1)
    return {"brier": ((logits.softmax(1) - truth) ** 2).sum(1).mean(), "top2": top.float().mean()}


def undeclared(logits, labels):
    return 1.0


def raising(logits, labels):
    raise ZeroDivisionError("no bins")


def shaped(logits, labels):
    return logits.mean(0)


def unnamed(logits, labels):
    return {"a": 1.0, "b": 2.0}


def nothing(logits, labels):
    return float("nan")


def late(logits, labels):
    if len(labels) < 512 and logits.softmax(1).max() > 0.9:  # what is tried before anything runs does not find it
        raise ValueError("too sure")
    return 1.0
'''


METHODS = '''"""Methods of a laboratory."""

import torch
from pydantic import Field

from trainables.methods import Choice, Selection


class Forgotten(Selection):
    """The samples whose loss, when they were last trained on, was among the largest; a memory of every sample."""

    keep: float = Field(0.5, gt=0, le=1)

    def begin(self, run, memory):
        memory.losses = torch.full((run.size,), float("inf"), device=run.device)

    def look(self, unit, memory):
        return False

    @property
    def probes(self):
        return False

    def choose(self, unit, seen, memory):
        number = max(int(self.keep * len(unit)), 1)
        return Choice(memory.losses[unit.index].argsort(descending=True, stable=True)[:number])

    def loss(self, batch, memory):
        memory.losses[batch.index] = batch.losses.detach()
        return batch.mean_loss
'''


def laboratory(folder: Path, package: str) -> Path:
    """A folder with the package ``package``, which has the modules ``metrics`` and ``methods``; returns the folder."""
    home = folder / package
    home.mkdir(parents=True)
    (home / "__init__.py").touch()
    (home / "metrics.py").write_text(METRICS)
    (home / "methods.py").write_text(METHODS)
    return folder
