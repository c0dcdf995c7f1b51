from collections.abc import Iterator
from typing import Any

import pytest
import torch

from study.bench import gpu
from study.bench.gpu import Cell, Cost, Sizes
from study.bench.loop import case_config, generated
from trainables.comparison import Arm

CPU = torch.device("cpu")
TINY = Sizes(samples=64, sample_batches=2, matrix=64, rounds=1, precisions=("fp32", "bf16"))
RUN: dict[str, Any] = {
    "row": 1,
    "dataset": "CIFAR10",
    "model": "ResNet18",
    "batch_size": 1024,
    "epochs": 10,
    "augmentation": True,
    "batch_filtering": False,
    "epoch_filtering": False,
    "train_accuracy": 0.75,
}
COST = Cost(archetype=1.0, probe=0.25, update=2.0, evaluation=0.5)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("changes", "evaluated", "at_end", "each"),
    [
        ({}, False, True, 1.0),
        ({"batch_filtering": True}, False, True, 0.25 + 0.25 * 2),
        ({"epoch_filtering": True}, False, True, 0.25 + 0.25 * 2),
        ({"batch_filtering": True, "epoch_filtering": True}, False, True, 0.25 + 0.25 * (0.25 + 2)),
        ({"batch_filtering": True}, False, False, 0.25 + 2),
        ({"batch_filtering": True, "row": 134}, False, True, 0.25 + 2),  # its accuracy stands elsewhere
        ({}, True, True, 1.0 + 0.5 * 60_000 / 50_000),
    ],
)
def test_a_published_run_costs_its_probes_its_updates_and_its_evaluations(
    changes: dict[str, Any], evaluated: bool, at_end: bool, each: float
) -> None:
    assert gpu._seconds(RUN | changes, COST, evaluated, at_end) == pytest.approx(10 * 50_000 * each)


def test_mnist_has_more_samples_and_one_channel() -> None:
    mnist = RUN | {"dataset": "MNIST", "augmentation": False}
    assert gpu._seconds(mnist, COST, False, True) == 10 * 60_000
    assert gpu._cell(mnist) == Cell(1, "ResNet18", 1024, "none")
    assert gpu._cell(RUN) == Cell(3, "ResNet18", 1024, "thesis")


def test_arithmetic_is_counted_by_what_the_layers_multiply() -> None:
    config = case_config("FCNet10", "none", 8)
    arm = Arm("archetype", config.arms["archetype"], config, generated(16, CPU), CPU, {})
    inputs, hidden, classes = 3 * 32 * 32, 10, 10
    forward = 2 * (inputs * hidden + hidden * classes)
    assert gpu.flops(arm) == 3 * forward - 2 * inputs * hidden  # the pictures need no gradient


def test_a_cell_is_measured_in_its_parts() -> None:
    cost = gpu.cost(Cell(1, "FCNet10", 8, "none"), "fp32", CPU, TINY)
    assert all(0 < seconds < 1 for seconds in cost)


def test_every_figure_of_the_suite_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Cell] = []

    def cost(cell: Cell, *others: Any) -> Cost:
        measured.append(cell)
        return COST

    monkeypatch.setattr(gpu, "cost", cost)
    monkeypatch.setattr(gpu, "TIMED", Cell(3, "FCNet10", 8, "thesis"))
    monkeypatch.setattr(gpu, "RECORDED", (Cell(3, "FCNet10", 8, "none"),))
    figures = list(gpu.suite(CPU, TINY))
    assert [figure.unit for figure in figures] == [
        *["TFLOP/s"] * 2,
        *["/s", "s", "s", "%", "/s", "s", "s"] * 2,
        "×",
        *["GPU-hours"] * 2,
    ]
    assert all(figure.value > 0 and figure.suite == "gpu" for figure in figures)
    assert len(measured) == len(set(measured)) == 18
    assert "all 190 runs, bf16, with evaluation" in figures[-2].name
    assert figures[-2].value > figures[-1].value
