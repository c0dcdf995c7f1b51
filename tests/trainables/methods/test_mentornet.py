"""MentorNet's curricula against Jiang et al. 2018 and the numbers of the authors' code."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from trainables.comparison import prepare
from trainables.config import Runtime, TrialConfig
from trainables.contracts import SelectionContract
from trainables.methods import Batch, Memory, Run, Unit
from trainables.methods.data_driven import DataDriven, Mentor, Record, initialize_mentor, teach
from trainables.methods.mentornet import MentorNet, kept

CPU = torch.device("cpu")


class TestPredefined(SelectionContract):
    selection = MentorNet(early_dropout=0, dropout=0)


class TestSelfPaced(SelectionContract):
    selection = MentorNet(curriculum="self_paced", percentile=0.7)


class TestDataDriven(SelectionContract):
    selection = DataDriven(clean_share=0.5, student_epochs=1)


def begun(selection: MentorNet, size: int = 8, batch_size: int = 4, epochs: int = 10) -> Memory:
    memory = Memory()
    labels = torch.zeros(size, dtype=torch.int64)
    selection.begin(Run(size, 2, labels, batch_size, epochs, CPU, Any, Any, Any, lambda spent: None), memory)
    return memory


def unit(size: int, epoch: int = 1, seed: int = 0) -> Unit:
    return Unit(0, epoch, epoch, torch.arange(size), size, seed, lambda arm: [], lambda spent: None)


def update(
    selection: MentorNet, memory: Memory, losses: list[float], weight: list[float] | None = None
) -> torch.Tensor:
    """The gradient of an update by the losses of its batch."""
    values = torch.tensor(losses, requires_grad=True)

    class WithLosses(Batch):
        losses = values

    count = len(losses)
    weights = torch.ones(count) if weight is None else torch.tensor(weight)
    batch = WithLosses(torch.arange(count), torch.zeros(count, 2), torch.zeros(count).long(), None, weights)
    selection.loss(batch, memory).backward()
    assert values.grad is not None
    return values.grad


@pytest.mark.parametrize(
    ("hundredth", "expected"),
    [
        (0, [1, 1, 1, 1]),
        (18, [1, 1, 1, 1]),  # e <= 18: all
        (19, [1, 1, 0, 0]),  # 18 < e < 90: those no larger than λ
        (89, [1, 1, 0, 0]),
        (90, [1, 1, 0.75, 0]),  # e >= 90: clip(1 - δ)
        (99, [1, 1, 0.75, 0]),
    ],
)
def test_the_predefined_curriculum_has_three_phases(hundredth: int, expected: list[float]) -> None:
    above = torch.tensor([-0.5, 0.0, 0.25, 3.0])
    assert MentorNet().weights(above, torch.tensor(hundredth / 100 + 1e-6)).tolist() == expected
    assert MentorNet(curriculum="self_paced").weights(above, torch.tensor(0.0)).tolist() == [1, 1, 0, 0]


def test_the_threshold_moves_halfway_to_the_percentile_before_it_is_used() -> None:
    selection = MentorNet(curriculum="self_paced", percentile=0.5)
    memory = begun(selection)
    selection.choose(unit(4), None, memory)
    losses = [1.0, 2.0, 3.0, 10.0]  # the median is 2.5
    gradient = update(selection, memory, losses)
    assert float(memory.threshold) == 1.25
    assert (4 * gradient).tolist() == [1, 0, 0, 0]  # the mean is over the whole batch
    gradient = update(selection, memory, losses)
    assert float(memory.threshold) == 1.25 / 2 + 2.5 / 2
    assert (4 * gradient).tolist() == [1, 0, 0, 0]
    for _ in range(20):
        gradient = update(selection, memory, losses)
    assert (4 * gradient).tolist() == [1, 1, 0, 0]


def test_with_a_percentile_of_1_and_no_dropout_every_sample_counts_in_the_end() -> None:
    selection = MentorNet(curriculum="self_paced", percentile=1.0, early_dropout=0, dropout=0)
    memory = begun(selection)
    memory.threshold.fill_(4.0)
    assert (4 * update(selection, memory, [1.0, 2.0, 3.0, 4.0])).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("dropped", "counts"), [(0.5, [16, 16, 3]), (0.05, [30, 30, 5]), (0.0, [32, 32, 6])])
def test_a_share_of_every_batch_has_no_weight(dropped: float, counts: list[int]) -> None:
    weights = kept(70, 32, dropped, torch.Generator().manual_seed(0))
    assert [int(part.sum()) for part in weights.split(32)] == counts
    assert counts == [int(size * (1 - dropped)) for size in (32, 32, 6)]


def test_more_is_dropped_early() -> None:
    selection = MentorNet(early_dropout=0.5, dropout=0.25)
    memory = begun(selection, size=8, batch_size=4, epochs=10)
    for epoch, total in ((1, 4), (2, 4), (3, 6), (10, 6)):
        choice = selection.choose(unit(8, epoch), None, memory)
        assert choice.positions.tolist() == list(range(8))
        assert choice.weights is not None
        assert int(choice.weights.sum()) == total


def test_training_comes_further_with_every_update() -> None:
    selection = MentorNet(early_dropout=0, dropout=0)
    memory = begun(selection, size=10, batch_size=4, epochs=5)
    selection.choose(unit(10, epoch=2), None, memory)
    shares = []
    for _ in range(3):
        shares.append(float(memory.done))
        update(selection, memory, [1.0, 2.0])
    assert shares == pytest.approx([3 / 15, 4 / 15, 5 / 15])


def test_a_loss_without_weight_may_be_infinite() -> None:
    selection = MentorNet(curriculum="self_paced")
    gradient = update(selection, begun(selection), [0.0, math.inf])
    assert gradient.isfinite().all()
    gradient = update(selection, begun(selection), [0.0, math.inf], weight=[1.0, 0.0])
    assert gradient.isfinite().all()


def test_a_mentor_learns_to_tell_right_labels_from_wrong_ones() -> None:
    mentor = Mentor(3)
    initialize_mentor(mentor, torch.Generator().manual_seed(0))
    stream = torch.Generator().manual_seed(1)
    right = torch.rand(600, generator=stream) < 0.7
    losses = torch.where(right, 0.3, 2.0) + 0.3 * torch.rand(600, generator=stream)
    labels = torch.randint(3, (600,), generator=stream)
    record = Record(losses, losses - 1, labels, torch.rand(600, generator=stream), right)
    teach(mentor, record)
    said = mentor(losses, losses - 1, labels, record.done).sigmoid()
    assert said[right].min() > 0.8
    assert said[~right].max() < 0.2


def config(noise: float, **options: Any) -> dict[str, Any]:
    return {
        "dataset.samples_per_class": 40,
        "dataset.label_noise": noise,
        "model.name": "FCNet20",
        "batch_size": 20,
        "epochs": 6,
        "arms.mentornet_dd.granularity": "epoch",
    } | {f"arms.mentornet_dd.selector.{name}": value for name, value in options.items()}


def test_without_wrong_labels_the_data_driven_curriculum_is_refused() -> None:
    with pytest.raises(ValueError, match="told which labels are right, and without label noise all are"):
        TrialConfig.from_dotted(config(0.0))


def test_the_data_driven_curriculum_gives_right_labels_more_weight() -> None:
    """In the mean of three seeds: each is one small network, whose bits differ from one kind of CPU to the next."""
    ahead = []
    for seed in range(3):
        given = config(0.4, clean_share=0.5, student_epochs=6) | {"seed": seed}
        comparison = prepare(TrialConfig.from_dotted(given), Runtime(device="cpu"))
        while not comparison.done:
            rows = comparison.step()
        arm = next(arm for arm in comparison.arms if arm.name == "mentornet_dd")
        row = next(row for row in rows if row["arm"] == "mentornet_dd")
        assert arm.data.true_labels is not None
        right = arm.data.true_labels == arm.data.train.labels
        assert float(right.float().mean()) == pytest.approx(0.6, abs=0.01)
        memory, everything = arm.sampler.memory, torch.arange(len(right))
        with torch.no_grad():
            logits = arm.model(arm.data.clean("train", everything))
            losses = nn.functional.cross_entropy(logits, arm.data.train.labels, reduction="none")
            weights = memory.mentor(losses, losses - memory.threshold, arm.data.train.labels, torch.ones(len(right)))
        ahead.append(float(weights[right].sigmoid().mean() - weights[~right].sigmoid().mean()))
        assert row["cumulative_auxiliary_compute"] == 3 * 6 * len(right)
    assert sum(ahead) / len(ahead) > 0.1
