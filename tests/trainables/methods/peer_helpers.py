"""A method on its own, its memory and a pass to choose from, with batches made up; and as an arm of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from scipy import stats
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.comparison import Comparison
from trainables.config import TrialConfig
from trainables.data import Dataset
from trainables.methods import Batch, Choice, Memory, ProbeResult, Run, Selection, Unit
from trainables.records import REPRODUCIBLE

CPU = torch.device("cpu")
LEAST = 1e-4
"""A p-value below this is no accident; seeds are fixed, so that a test that passes once always does."""


def remembering(method: Selection, size: int, classes: int = 2, batch_size: int = 4, epochs: int = 10) -> Memory:
    """The memory of ``method`` before the first update."""
    known = {"size": size, "classes": classes, "batch_size": batch_size, "epochs": epochs, "device": CPU}
    others = {field.name: None for field in fields(Run)} | dict.fromkeys(("images", "network", "stream", "spend"), len)
    memory = Memory()
    method.begin(Run(**{**others, **known, "labels": torch.zeros(size, dtype=torch.int64)}), memory)
    return memory


def whole(size: int, epoch: int = 1, number: int | None = None, seed: int = 0, order: Any = None) -> Unit:
    """A pass over ``size`` samples, in their order or another; by default, every epoch is a pass."""
    index = torch.arange(size) if order is None else torch.tensor(order)
    return Unit(0, epoch, number or epoch, index, size, seed, lambda arm: [], lambda spent: None)


def of_chance(chances: Sequence[float]) -> Tensor:
    """Logits of two classes that give class 0 these probabilities."""
    p = torch.tensor(chances, dtype=torch.float64)
    return torch.stack((p.log(), (1 - p).log()), 1).float()


def of_loss(losses: Sequence[float]) -> Tensor:
    """Logits of two classes that give label 0 these losses."""
    values = torch.tensor(losses, dtype=torch.float64)
    return torch.stack((torch.zeros_like(values), values.expm1().log()), 1).float()


def of_class(predicted: Sequence[int], classes: int) -> Tensor:
    """Logits that predict these classes."""
    return torch.nn.functional.one_hot(torch.tensor(predicted), classes).float()


def trained(method: Selection, memory: Memory, index: Sequence[int], logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """The loss of an update on these samples, all of label 0, with its gradient."""
    labels = torch.zeros(len(index), dtype=torch.int64)
    return method.loss(Batch(torch.tensor(index), logits, labels, None, smoothing=smoothing), memory)


def probed(losses: Sequence[float]) -> ProbeResult:
    """What a probe says of samples with these losses."""
    return ProbeResult(of_loss(losses), torch.zeros(len(losses), dtype=torch.int64))


def is_the_pass_as_it_is(choice: Choice, size: int) -> bool:
    """Whether every sample is trained on once, in the order drawn, without weights."""
    return choice.positions.tolist() == list(range(size)) and choice.weights is None


def looks_drawn_from(counts: Sequence[int] | Tensor, chances: Sequence[float] | Tensor) -> bool:
    """Whether a chi-square test takes these counts for draws with these probabilities."""
    observed = torch.as_tensor(counts, dtype=torch.float64)
    expected = torch.as_tensor(chances, dtype=torch.float64)
    return bool(stats.chisquare(observed, expected / expected.sum() * observed.sum()).pvalue > LEAST)


def updates_without_waiting(method: Selection) -> bool:
    """Whether ``loss`` never asks for a tensor's value: here tensors have none, and to ask raises an error."""
    with FakeTensorMode():
        memory = remembering(method, 8)
        before = {name: id(value) for name, value in vars(memory).items() if isinstance(value, Tensor)}
        trained(method, memory, [3, 1, 5], torch.zeros(3, 2, requires_grad=True)).backward()
        after = {name: id(value) for name, value in vars(memory).items() if isinstance(value, Tensor)}
    return before == after


def of_ordered_batches(weights: Sequence[float], size: int) -> dict[tuple[int, ...], float]:
    """The probability of every batch of ``size``, in the order drawn, without replacement: written out."""
    found: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(size):
        longer = {}
        for batch, chance in found.items():
            rest = [i for i in range(len(weights)) if i not in batch]
            total = math.fsum(weights[i] for i in rest)
            longer |= {(*batch, i): chance * weights[i] / total for i in rest}
        found = longer
    return found


def as_arm(method: dict[str, Any], **more: Any) -> TrialConfig:
    """A comparison of the archetype with the arm ``mine``, of three short epochs."""
    usual = {
        "batch_size": 8,
        "epochs": 3,
        "model": {"name": "FCNet8"},
        "optimizer": {"lr": 0.02},
        "augmentation": "none",
        "arms": {"archetype": {}, "mine": method},
        "treatment": "mine",
    }
    return TrialConfig.model_validate(usual | more)


def compared(config: TrialConfig, data: Dataset) -> tuple[Comparison, list[dict[str, Any]]]:
    """The comparison when it is over, and the rows of the arm ``mine``."""
    comparison = Comparison(config, data, CPU)
    rows = []
    while not comparison.done:
        rows += [row for row in comparison.step() if row["arm"] == "mine"]
    return comparison, rows


def assert_goes_on(config: TrialConfig, data: Dataset) -> None:
    """A comparison that is restored after two steps goes on with the same bits."""
    whole, rows = Comparison(config, data, CPU), []
    while not whole.done:
        rows.append(whole.step())
    first, second = Comparison(config, data, CPU), Comparison(config, data, CPU)
    for _ in range(2):
        first.step()
    second.load_state_dict(first.state_dict())
    after = []
    while not second.done:
        after.append(second.step())
    columns = [name for name in REPRODUCIBLE if name in rows[0][0]]
    pick = lambda some: [[row[name] for name in columns] for step in some for row in step]  # noqa: E731
    assert len(after) == 2
    assert pick(after) == pick(rows[2:])
