"""Budgets: what every arm may spend, where its rows fall, and how its schedule ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from drawing import methods
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.clocks import Reference, key, seconds
from trainables.comparison import Comparison, UnmeasuredError
from trainables.config import BudgetConfig, MethodConfig, TrialConfig
from trainables.data import Dataset, Dimensions
from trainables.methods import Views
from trainables.records import REPRODUCIBLE, Row
from trainables.train import MOST_PASSES

CPU = torch.device("cpu")
SPENT = {
    "epochs": "passes",
    "steps": "cumulative_steps",
    "samples": "cumulative_samples_trained",
    "compute": "cumulative_compute",
    "reference_seconds": "cumulative_reference_seconds",
}
REFERENCE = Reference(forward=0.001, update=0.0041)


def compared(trial: TrialConfig, data: Dataset) -> Comparison:
    """The comparison on a machine where an update takes 4.1 times as long as a forward pass."""
    shape = Dimensions(data.channels, data.size, data.classes)
    return Comparison(trial, data, CPU, references={key(trial, shape): REFERENCE})


def config(**sections: Any) -> TrialConfig:
    """A small comparison whose learning rate falls with every step."""
    usual = {
        "batch_size": 8,
        "epochs": 4,
        "model": {"name": "FCNet8"},
        "optimizer": {"lr": 0.02},
        "schedule": {"name": "linear"},
        "augmentation": "none",
    }
    return TrialConfig.model_validate(usual | sections)


def run(trial: TrialConfig, data: Dataset) -> tuple[Comparison, dict[str, list[Row]]]:
    comparison = compared(trial, data)
    rows: dict[str, list[Row]] = {arm: [] for arm in trial.arms}
    while not comparison.done:
        for row in comparison.step():
            rows[str(row["arm"])].append(row)
    return comparison, rows


def weights(comparison: Comparison, arm: str) -> list[torch.Tensor]:
    model = next(one.model for one in comparison.arms if one.name == arm)
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


BUDGETS = st.sampled_from(
    [
        {"clock": "compute", "of": "archetype"},
        {"clock": "compute", "amount": 700.0},
        {"clock": "steps", "amount": 14.0},
        {"clock": "samples", "amount": 90.0},
        {"clock": "epochs", "amount": 2.5},
        {"clock": "reference_seconds", "amount": 0.9},
        {"clock": "reference_seconds", "of": "archetype"},
    ]
)


@given(method=methods(plain=False).filter(lambda method: not method.selector.knows_labels), budget=BUDGETS)
@settings(max_examples=60)
def test_every_method_spends_its_budget_row_by_row_and_no_more_than_one_update_beyond(
    make_dataset: Any, method: MethodConfig, budget: dict[str, Any]
) -> None:
    arms = {"archetype": {}, "mine": method.model_dump(exclude_unset=True)}
    trial = config(budget=budget, arms=arms, treatment="mine")
    data = make_dataset()
    comparison = compared(trial, data)
    passes = dict.fromkeys(trial.arms, 0.0)
    while not comparison.done:
        rows = {row["arm"]: row for row in comparison.step()}
        epoch = comparison.epoch
        if epoch == 0 or comparison.diverged:
            continue
        for arm in comparison.arms:
            clock = arm.allotment.clock
            may, has = arm.budget(epoch), float(rows[arm.name][SPENT[clock]] or 0)
            assert may == pytest.approx(_amount(trial, rows, SPENT[clock], arm.name) * epoch / trial.epochs)
            before, passes[arm.name] = passes[arm.name], float(rows[arm.name]["passes"] or 0)
            assert has >= may or passes[arm.name] - before >= MOST_PASSES - 1
            prepared = not rows[arm.name]["cumulative_steps"]  # all of it was work before the first update
            assert prepared or has - may < _dearest_update(arm, clock, len(data.train.labels))


def _amount(trial: TrialConfig, rows: dict[Any, Row], clock: str, arm: str) -> float:
    """The whole budget of an arm."""
    allotment = trial.allotment(arm)
    if allotment.amount is not None:
        return allotment.amount
    epoch = float(rows["archetype"]["epoch"] or 0)
    return float(rows["archetype"][clock] or 0) * trial.epochs / epoch  # the archetype's epochs all cost the same


def _dearest_update(arm: Any, clock: str, size: int) -> float:
    """What an update can cost, with the probes since the one before: at most two of the whole pass."""
    batch = arm.sampler.batching.batch_size if arm.sampler.batching.stable else size
    most = {
        "compute": 2 * size + 3 * max(batch, size),
        "steps": 1,
        "samples": max(batch, size),
        "epochs": 1,
        "reference_seconds": 2 * size * REFERENCE.forward + max(batch, size) * REFERENCE.update,
    }
    return most[clock] + 1e-9


def test_an_arm_of_fewer_epochs_is_the_archetype_of_so_many_bit_for_bit(make_dataset: Any) -> None:
    data = make_dataset()
    short = {"archetype": {}, "short": {"granularity": "none", "epochs": 2}}
    many, rows = run(config(arms=short, treatment="short"), data)
    few, _ = run(config(epochs=2), data)
    assert same(weights(many, "short"), weights(few, "archetype"))
    assert [row["passes"] for row in rows["short"]] == pytest.approx([0, 0.5, 1, 1.5, 2], abs=0.1)
    assert not same(weights(many, "archetype"), weights(few, "archetype"))


@pytest.mark.parametrize(("ratio", "passes"), [(0.5, 2), (0.25, 1), (0.75, 3)])
def test_rs2_without_replacement_is_the_archetype_of_as_many_passes_bit_for_bit(
    ratio: float, passes: int, make_dataset: Any
) -> None:
    data = make_dataset()
    arms = {"archetype": {}, "rs2": {"selector": {"name": "rs2", "ratio": ratio}}}
    reduced, rows = run(config(arms=arms, treatment="rs2"), data)
    few, _ = run(config(epochs=passes), data)
    assert same(weights(reduced, "rs2"), weights(few, "archetype"))
    assert rows["rs2"][-1]["cumulative_samples_trained"] == passes * len(data.train.labels)


def test_rs2_with_replacement_draws_a_share_of_everything_in_every_epoch(make_dataset: Any) -> None:
    data = make_dataset()
    arms = {"archetype": {}, "rs2": {"selector": {"name": "rs2", "ratio": 0.25, "replacement": True}}}
    comparison = Comparison(config(arms=arms, treatment="rs2"), data, CPU)
    arm, epochs, update = comparison.arms[-1], [], comparison.arms[-1].update
    size = len(data.train.labels)

    def seen(views: Views) -> Any:
        epochs[-1] += views.index.tolist()
        return update(views)

    arm.update = seen
    while not comparison.done:
        epochs.append([])
        comparison.step()
    assert [len(set(epoch)) for epoch in epochs[1:]] == [round(size / 4)] * 4
    assert len(set().union(*epochs)) < size  # with replacement, some come again before all have come


def test_rates_end_at_the_budget_whatever_a_method_skips(make_dataset: Any) -> None:
    data = make_dataset()
    trial = config(budget={"clock": "compute", "of": "archetype"}, optimizer={"lr": 1e-4}, epochs=6)
    comparison = Comparison(trial, data, CPU)
    rates: dict[str, list[float]] = {}
    for arm in comparison.arms:
        rates[arm.name] = []
        step, group = arm.optimizer.step, arm.optimizer.param_groups[0]
        arm.optimizer.step = lambda step=step, group=group, kept=rates[arm.name]: (kept.append(group["lr"]), step())
    while not comparison.done:
        rows = comparison.step()
    for row in rows:
        kept = rates[str(row["arm"])]
        assert kept == sorted(kept, reverse=True)
        assert kept[0] == 1e-4
        assert kept[-1] / 1e-4 < 2 / row["cumulative_steps"]  # the last update is made with what is left for one


def test_random_selection_of_like_compute_costs_what_the_arm_costs_in_every_row(make_dataset: Any) -> None:
    trial = config(arms={"archetype": {}, "filtered": {}, "equal_compute": {}})
    _, rows = run(trial, make_dataset())
    pairs = list(zip(rows["equal_compute"], rows["filtered"], strict=True))[1:]
    for ours, theirs in pairs:
        assert 0 <= ours["cumulative_compute"] - theirs["cumulative_compute"] < 3 * 8
        assert ours["samples_probed"] == 0
    assert rows["archetype"][-1]["cumulative_compute"] == 4 * 3 * 48


def test_an_arm_that_follows_makes_as_many_updates_under_any_budget(make_dataset: Any) -> None:
    follower = {"granularity": "batch", "selector": {"name": "random", "like": "filtered"}}
    for budget in ({"clock": "compute", "of": "archetype"}, {"clock": "steps", "amount": 20}, {}):
        arms = {"archetype": {}, "filtered": {}, "random": follower}
        comparison, rows = run(config(budget=budget, arms=arms), make_dataset())
        for ours, theirs in zip(rows["random"], rows["filtered"], strict=True):
            assert ours["cumulative_steps"] == theirs["cumulative_steps"]
        samplers = {arm.name: arm.sampler for arm in comparison.arms}
        needed = min(samplers["filtered"].finished, samplers["random"].finished)
        assert min(samplers["filtered"].kept_in) >= needed


@pytest.mark.parametrize(
    "budget",
    [
        {"clock": "compute", "of": "archetype"},
        {"clock": "steps", "amount": 21},
        {"clock": "epochs", "amount": 2.5},
        {"clock": "reference_seconds", "of": "archetype"},
        {"clock": "reference_seconds", "amount": 0.7},
    ],
)
def test_a_restored_comparison_under_a_budget_goes_on_with_the_same_bits(
    budget: dict[str, Any], make_dataset: Any
) -> None:
    data = make_dataset()
    arms = {
        "archetype": {},
        "filtered": {},
        "random": {"granularity": "batch", "selector": {"name": "random", "like": "filtered"}},
        "epochwise": {},
        "selective_backprop": {},
        "infobatch": {},
        "equal_compute": {},
        "rs2": {},
    }
    trial = config(budget=budget, arms=arms)
    whole, rows = run(trial, data)
    for stop in (1, 3):
        first, second = compared(trial, data), compared(trial, data)
        for _ in range(stop + 1):
            first.step()
        second.load_state_dict(first.state_dict())
        while not second.done:
            for row in second.step():
                theirs = rows[str(row["arm"])][int(row["epoch"] or 0)]
                same_columns = (*REPRODUCIBLE, "reference_seconds", "cumulative_reference_seconds")
                assert {k: row[k] for k in same_columns if k in row} == {k: theirs[k] for k in same_columns if k in row}
        assert all(same(weights(second, arm), weights(whole, arm)) for arm in arms)


def test_reference_seconds_of_equal_machines_are_a_budget_of_compute_bit_for_bit(make_dataset: Any) -> None:
    data = make_dataset()
    arms = {"archetype": {}, "filtered": {}, "selective_backprop": {}, "infobatch": {}}
    trials = [config(budget={"clock": clock, "amount": 512.0}, arms=arms) for clock in ("compute", "reference_seconds")]
    nominal = {key(trials[0], Dimensions(data.channels, data.size, data.classes)): (1.0, 3.0)}
    one, other = (Comparison(trial, data, CPU, references=nominal) for trial in trials)
    while not other.done:
        one.step()
        for row in other.step():
            assert row["reference_seconds"] == row["compute"]
    assert all(same(weights(one, arm), weights(other, arm)) for arm in arms)


def test_a_reference_that_no_budget_asks_for_fills_the_columns_and_changes_no_bit(make_dataset: Any) -> None:
    data = make_dataset()
    counts = ("samples_probed", "samples_trained", "samples_backward", "auxiliary_compute")
    with_reference, rows = run(config(), data)
    without = Comparison(config(), data, CPU)
    while not without.done:
        for row in without.step():
            theirs = rows[str(row["arm"])][int(row["epoch"] or 0)]
            assert {k: row[k] for k in REPRODUCIBLE if k in row} == {k: theirs[k] for k in REPRODUCIBLE if k in row}
            assert row["reference_seconds"] is row["cumulative_reference_seconds"] is None
            assert theirs["reference_seconds"] == seconds({c: theirs[c] for c in counts}, REFERENCE)
    assert all(same(weights(without, arm), weights(with_reference, arm)) for arm in ("archetype", "filtered"))
    assert rows["archetype"][-1]["cumulative_reference_seconds"] == pytest.approx(4 * 48 * REFERENCE.update)


def test_a_budget_of_reference_seconds_needs_a_reference_of_the_configuration(make_dataset: Any) -> None:
    trial = config(budget={"clock": "reference_seconds", "amount": 1})
    with pytest.raises(UnmeasuredError, match=r"measured for FCNet8, .*batch 8, fp32, augmentation none, SGD"):
        Comparison(trial, make_dataset(), CPU)


def test_a_method_that_finds_nothing_to_train_on_ends_its_rows_all_the_same(make_dataset: Any) -> None:
    data = make_dataset()
    trial = config(budget={"clock": "steps", "amount": 40}, epochs=2)
    comparison = Comparison(trial, data, CPU)
    filtered = comparison.arms[-1]
    with torch.no_grad():
        data.train.labels.zero_()
        list(filtered.model.parameters())[-1][0] += 1e6  # every sample is right
    comparison.step()
    rows = comparison.step()
    assert rows[-1]["steps"] == 0
    assert rows[-1]["passes"] == MOST_PASSES


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"budget": {"clock": "compute"}}, "a budget of compute needs its amount, or of"),
        ({"budget": {"clock": "steps", "amount": 3, "of": "archetype"}}, "amount 3 and of 'archetype' exclude"),
        ({"budget": {"clock": "steps", "amount": 0}}, "greater than 0"),
        ({"budget": {"clock": "hours", "amount": 1}}, "epochs.*steps.*samples.*compute"),
        ({"budget": {"clock": "steps", "of": "nobody"}}, "spends, which is not among the arms"),
        ({"arms": {"archetype": {"epochs": 2, "budget": {"clock": "steps", "amount": 2}}}}, "exclude each other"),
        (
            {
                "arms": {
                    "archetype": {"budget": {"clock": "steps", "of": "filtered"}},
                    "filtered": {"budget": {"clock": "steps", "of": "archetype"}},
                }
            },
            "in a circle: archetype, filtered",
        ),
        ({"arms": {"archetype": {}, "filtered": {}, "equal_compute": {"epochs": 3}}}, "spends what filtered spends"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_with_the_reason(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**sections)


def test_a_budget_has_the_same_name_everywhere() -> None:
    trial = config(budget={"clock": "compute", "of": "archetype"})
    dotted = trial.to_dotted()
    assert (dotted["budget.clock"], dotted["budget.amount"], dotted["budget.of"]) == ("compute", None, "archetype")
    assert TrialConfig.from_dotted(dotted) == trial
    assert config().budget == BudgetConfig()
    assert config(arms={"archetype": {"epochs": 2}, "filtered": {}}).to_dotted()["arms.archetype.epochs"] == 2.0
