"""AutoAssist against Zhang, Yu and Dhillon 2019."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from trainables.comparison import prepare
from trainables.config import Runtime, TrialConfig
from trainables.contracts import SelectionContract
from trainables.methods import Batch, Memory, Run, Unit
from trainables.methods.autoassist import AutoAssist

CPU = torch.device("cpu")
IMAGES = torch.rand(20, 1, 3, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(20) % 4


class TestAutoAssist(SelectionContract):
    selection = AutoAssist()


class TestForecastOfErrors(SelectionContract):
    selection = AutoAssist(target="error", base=0.1, assistant_lr=0.5)


def begun(selection: AutoAssist) -> Memory:
    memory = Memory()
    network = lambda stream: nn.Sequential(nn.Flatten(), nn.Linear(9, 50), nn.Linear(50, 4))  # noqa: E731
    stream = lambda name: torch.Generator().manual_seed(3)  # noqa: E731
    run = Run(20, 4, LABELS, 5, 3, CPU, lambda index: IMAGES[index], network, stream, lambda spent: None)
    selection.begin(run, memory)
    return memory


def unit(seed: int, spent: list[float] | None = None) -> Unit:
    spend = (lambda amount: None) if spent is None else spent.append
    return Unit(0, 1, 1, torch.arange(20), 5, seed, lambda arm: [], spend, lambda at: (IMAGES[at], LABELS[at]))


def update(selection: AutoAssist, memory: Memory, index: torch.Tensor, logits: torch.Tensor) -> None:
    selection.loss(Batch(index, logits, LABELS[index], None, images=IMAGES[index]), memory)


def confident(index: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
    """Logits that are right or wrong about these samples."""
    said = torch.where(wrong, (LABELS[index] + 1) % 4, LABELS[index])
    return 5.0 * nn.functional.one_hot(said, 4)


def test_an_assistant_that_knows_nothing_keeps_gamma_and_half_of_the_rest() -> None:
    selection = AutoAssist(base=0.3)
    memory = begun(selection)
    assert memory.pixels.std() < 0.01
    memory.pixels.zero_()
    memory.classes.zero_()
    assert selection.chances(IMAGES, LABELS, memory).tolist() == pytest.approx([0.65] * 20)
    kept = sum(len(selection.choose(unit(seed), None, memory).positions) for seed in range(500))
    assert kept / 10_000 == pytest.approx(0.65, abs=0.02)


def test_a_gamma_of_1_keeps_all_in_the_order_drawn() -> None:
    selection = AutoAssist(base=1.0)
    assert selection.choose(unit(0), None, begun(selection)).positions.tolist() == list(range(20))


@pytest.mark.parametrize("target", ["loss", "error"])
def test_a_step_of_the_assistant_is_one_of_cross_entropy_with_an_l2_penalty(target: Any) -> None:
    selection = AutoAssist(target=target, assistant_lr=0.2, assistant_weight_decay=0.01)
    memory = begun(selection)
    pixels, classes = memory.pixels.clone().requires_grad_(), memory.classes.clone().requires_grad_()
    index = torch.tensor([0, 3, 5, 9, 12, 14])
    wrong = torch.tensor([True, False, False, True, False, False])
    forecast = IMAGES[index].flatten(1) @ pixels + classes[LABELS[index]]
    # Of both targets the wrong ones: their losses are far above the mean.
    loss = binary_cross_entropy_with_logits(forecast, wrong.float(), reduction="sum")
    loss = loss + 0.01 / 2 * (pixels.square().sum() + classes[LABELS[index]].square().sum())
    loss.backward()
    assert pixels.grad is not None
    assert classes.grad is not None
    update(selection, memory, index, confident(index, wrong))
    step = 0.2 / len(index)
    assert memory.pixels.tolist() == pytest.approx((pixels - step * pixels.grad).tolist(), abs=1e-7)
    assert memory.classes.tolist() == pytest.approx((classes - step * classes.grad).tolist(), abs=1e-7)


def test_the_mean_is_of_sums_that_decay() -> None:
    selection = AutoAssist(decay=0.75)
    memory = begun(selection)
    index, sums, counts = torch.arange(4), 0.0, 0.0
    for wrong in (0, 2, 4):
        logits = confident(index, torch.arange(4) < wrong)
        losses = nn.functional.cross_entropy(logits, LABELS[index], reduction="none")
        sums, counts = 0.75 * sums + float(losses.sum()), 0.75 * counts + 4
        update(selection, memory, index, logits)
        assert float(memory.loss_sum / memory.loss_count) == pytest.approx(sums / counts)


def test_a_class_that_is_hard_is_kept_more_often() -> None:
    selection = AutoAssist(target="error", assistant_lr=2.0)
    memory = begun(selection)
    everything = torch.arange(20)
    for _ in range(200):
        update(selection, memory, everything, confident(everything, LABELS == 2))
    chances = selection.chances(IMAGES, LABELS, memory)
    assert chances[LABELS == 2].min() > 0.8
    assert chances[LABELS != 2].max() < 0.5


def test_its_cost_is_that_of_its_multiplications() -> None:
    selection = AutoAssist()
    memory = begun(selection)
    relative = 9 / (9 * 50 + 50 * 4)
    spent: list[float] = []
    selection.choose(unit(0, spent), None, memory)
    assert sum(spent) == pytest.approx(20 * relative)
    assert selection.overhead(memory) == pytest.approx(3 * relative)


def test_nothing_is_probed_and_the_assistant_is_counted() -> None:
    config = TrialConfig.from_dotted(
        {
            "dataset.samples_per_class": 20,
            "model.name": "FCNet10",
            "batch_size": 10,
            "epochs": 2,
            "arms.autoassist.granularity": "batch",
        }
    )
    comparison = prepare(config, Runtime(device="cpu"))
    for _ in range(3):
        row = next(row for row in comparison.step() if row["arm"] == "autoassist")
    relative = 1024 / (1024 * 10 + 10 * 10)
    assert row["samples_probed"] == 0
    assert 0.3 * 200 < row["samples_trained"] < 200
    auxiliary = 200 * relative + 3 * relative * row["samples_trained"]
    assert row["auxiliary_compute"] == pytest.approx(auxiliary)
    assert row["compute"] == pytest.approx(3 * row["samples_trained"] + auxiliary)
