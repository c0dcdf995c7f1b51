"""Measuring a reference: what is called how often, and what it leaves alone; no test looks at how long it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainables import reference
from trainables.clocks import Reference
from trainables.comparison import Arm
from trainables.config import Runtime, TrialConfig
from trainables.methods import ProbeResult, Views
from trainables.reference import LEAST, measure, measured

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def arm(make_dataset: Any, batch_size: int = 8) -> Arm:
    config = TrialConfig.model_validate(
        {"model": {"name": "FCNet8"}, "batch_size": batch_size, "schedule": {"name": "linear"}, "augmentation": "none"}
    )
    return Arm("archetype", config.arms["archetype"], config, make_dataset(), CPU, {})


def weights(of: Arm) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in of.model.parameters()]


def counted(run: Callable[[Views], ProbeResult], name: str, calls: list[tuple[str, list[int]]]) -> Any:
    def call(views: Views) -> ProbeResult:
        calls.append((name, views.index.tolist()))
        return run(views)

    return call


def test_medians_of_seconds_per_sample_of_both_in_turn(make_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"probe": iter([9.0, 0.5, 0.8, 0.16, 0.24]), "update": iter([9.0, 0.5, 8.0, 1.6, 2.4])}
    order = []

    def seconds(one: Arm, run: Any, batches: Any) -> float:
        order.append("probe" if run is one.probe else "update")
        return next(taken[order[-1]])

    monkeypatch.setattr(reference, "_seconds", seconds)
    assert measure(arm(make_dataset), span=0.0) == pytest.approx(Reference(0.24 / 8, 2.4 / 8))
    assert order == ["probe", "update"] * (2 + LEAST)


def test_an_update_takes_no_less_than_its_forward_pass(make_dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "_seconds", lambda one, run, _: 0.8 if run is one.probe else 0.4)
    assert measure(arm(make_dataset), span=0.0) == Reference(0.1, 0.1)


def test_different_batches_of_full_size_are_probed_and_trained_on_and_no_weight_changes(make_dataset: Any) -> None:
    one = arm(make_dataset)
    calls: list[tuple[str, list[int]]] = []
    one.probe, one.update = counted(one.probe, "probe", calls), counted(one.update, "update", calls)
    before = weights(one)
    found = measure(one, span=0.0)
    assert 0 < found.forward < found.update
    for name in ("probe", "update"):
        seen = [index for called, index in calls if called == name]
        assert {len(index) for index in seen} == {8}
        assert len({tuple(index) for index in seen}) >= LEAST
    assert all(torch.equal(a, b) for a, b in zip(before, weights(one), strict=True))
    assert one.probed == one.trained == []


def test_a_batch_may_be_larger_than_the_data_set(make_dataset: Any) -> None:
    one = arm(make_dataset, batch_size=64)
    assert len(one.data.train.labels) < 64
    assert measure(one, span=0.0).update > 0


@pytest.mark.parametrize("budget", [{}, {"clock": "reference_seconds", "amount": 1}])
def test_a_configuration_is_measured_in_this_process_whatever_its_budget_and_arms(budget: dict[str, Any]) -> None:
    config = TrialConfig.model_validate(
        {
            "dataset": {"samples_per_class": 20},
            "model": {"name": "FCNet8"},
            "batch_size": 8,
            "budget": budget,
            "baseline": "mine",
            "arms": {"mine": {"granularity": "none"}, "filtered": {}},
            "schedule": {"name": "one_cycle"},
        }
    )
    found = measured(config, Runtime(device="cpu", threads=1))
    assert found.forward > 0
    assert found.update > 0
