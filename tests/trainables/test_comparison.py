from __future__ import annotations

import io
import math
import subprocess
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from drawing import train_epoch

from trainables import comparison, records
from trainables.comparison import Arm, Comparison, better, dead, diverged, prepare, report, resolve_device
from trainables.config import DeadRun, MethodConfig, Runtime, TrialConfig
from trainables.data import Dataset
from trainables.imports import CodeError
from trainables.methods import ProbeResult, Views
from trainables.records import ADDITIVE, COLUMNS, REPRODUCIBLE, Row
from trainables.train import watched

CPU = torch.device("cpu")
ARMS = {
    "archetype": MethodConfig(granularity="none"),
    "filtered": MethodConfig(granularity="batch", raw_batch_size=7),
    "epochwise": MethodConfig(granularity="epoch"),
    "both": MethodConfig(granularity="epoch+batch"),
    "softly": MethodConfig(raw_batch_size="adaptive", filter="soft", overflow="carry", probe_mode="train"),
    "top": MethodConfig(granularity="epoch", batch="unstable", selector="top_k", k=20, probe_view="fresh"),
}
TYPES = {"int": int, "float": float, "str": str}
COUNTS = [column.name for column in ADDITIVE if column.unit != "s"]


def trial(**dotted: Any) -> TrialConfig:
    base = {
        "dataset.name": "cifar10",
        "augmentation": "standard",
        "model.name": "FCNet16",
        "optimizer.lr": 0.02,
        "batch_size": 8,
        "epochs": 4,
        "arms": {name: method.model_dump() for name, method in ARMS.items()},
    }
    return TrialConfig.from_dotted(base | {key.replace("__", "."): value for key, value in dotted.items()})


@pytest.fixture
def data(make_dataset) -> Dataset:
    return make_dataset(train=45)


def run(config: TrialConfig, data: Dataset) -> tuple[list[Row], Comparison]:
    started = Comparison(config, data, CPU)
    rows = []
    while not started.done:
        rows += started.step()
    return rows, started


def reproducible(rows: list[Row]) -> list[dict[str, object]]:
    return [{name: row[name] for name in REPRODUCIBLE} for row in rows]


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """The state as a file gives it back, with no pickled code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# ------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("validation", [0, 20])
def test_rows_have_the_declared_columns_in_their_types_from_epoch_0_on(make_dataset, validation: int) -> None:
    rows, _ = run(trial(epochs=2), make_dataset(train=45, validation=validation))
    assert [(row["arm"], row["epoch"]) for row in rows] == [(arm, epoch) for epoch in range(3) for arm in ARMS]
    declared = {column.name: TYPES[column.type] for column in COLUMNS if column.name != "trial_id"}
    for row in rows:
        assert set(row) == set(declared)
        for name, value in row.items():
            if value is None:
                unknown = ("acceptance", "raw_batches_per_step", "reference_seconds", "cumulative_reference_seconds")
                assert name.startswith(("gpu_", "validation_")) or name in unknown, name
            else:
                assert type(value) is declared[name], name
        for name in (column.name for column in records.EVALUATIONS):
            assert (row[name] is None) is (name.startswith("validation_") and not validation), name


def test_at_epoch_0_the_arms_are_equal_and_have_done_nothing(data: Dataset) -> None:
    rows = Comparison(trial(), data, CPU).step()
    for row in rows:
        assert row["epoch"] == 0
        for column in records.EVALUATIONS:
            assert row[column.name] == rows[0][column.name]
        for name in COUNTS:
            assert row[name] == row[f"cumulative_{name}"] == 0
        assert row["probe_seconds"] == row["train_seconds"] == row["seconds"] == 0.0
        assert row["evaluate_seconds"] > 0
        assert row["samples_held"] == 0
        assert row["acceptance"] is row["raw_batches_per_step"] is None
        assert row["learning_rate"] == 0.02


def test_every_epoch_accounts_for_every_sample(data: Dataset) -> None:
    rows, _ = run(trial(), data)
    held = dict.fromkeys(ARMS, 0)
    for row in rows:
        if row["epoch"] == 0:
            continue
        arm = str(row["arm"])
        assert row["samples_kept"] + row["samples_rejected"] == 45
        growth, held[arm] = row["samples_held"] - held[arm], row["samples_held"]
        assert row["samples_kept"] == row["samples_trained"] + row["samples_overflowed"] + growth
        assert row["compute"] == row["samples_probed"] + 3 * row["samples_trained"]
        assert row["seconds"] == sum(row[f"{part}_seconds"] for part in ("probe", "select", "train", "auxiliary"))
        assert row["select_seconds"] > 0
        assert row["acceptance"] == row["samples_kept"] / 45
        if row["steps"]:
            assert row["raw_batches_per_step"] == row["raw_batches"] / row["steps"]
        if arm == "archetype":
            assert (row["steps"], row["samples_trained"], row["samples_probed"], row["raw_batches"]) == (6, 45, 0, 0)
        else:
            assert row["samples_probed"] >= 45
            assert row["probe_seconds"] > 0
        assert (row["samples_held"] > 0) <= (arm in ("filtered", "both", "softly"))
    assert any(held.values())
    assert any(row["samples_rejected"] for row in rows)


def test_cumulative_columns_are_running_sums(data: Dataset) -> None:
    rows, _ = run(trial(), data)
    for arm in ARMS:
        sums = {column.name: 0 for column in ADDITIVE if column.name != "reference_seconds"}  # none were measured
        for row in (row for row in rows if row["arm"] == arm):
            for name in sums:
                sums[name] += row[name]
                assert row[f"cumulative_{name}"] == pytest.approx(sums[name], rel=1e-12), name


def test_rows_report_the_learning_rate_of_the_schedule(data: Dataset) -> None:
    rows, trained = run(trial(schedule__name="multistep", schedule__every=2, schedule__gamma=0.5), data)
    rates = [row["learning_rate"] for row in rows if row["arm"] == "filtered"]
    assert rates == [0.02, 0.02, 0.02, 0.01, 0.01]
    assert {group["lr"] for arm in trained.arms for group in arm.optimizer.param_groups} == {0.01}


# --------------------------------------------------------------------------------------------------- what is shared


def test_arms_start_from_the_same_weights_and_share_none_of_them(data: Dataset) -> None:
    arms = Comparison(trial(), data, CPU).arms
    for arm in arms[1:]:
        for ours, theirs in zip(arm.model.parameters(), arms[0].model.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize("augmentation", ["none", "standard", "thesis"])
def test_arms_share_order_and_pictures_which_change_from_epoch_to_epoch(data: Dataset, augmentation: str) -> None:
    arms = Comparison(trial(augmentation=augmentation), data, CPU).arms
    first, *others = arms
    orders, pictures = [], []
    for epoch in (1, 2):
        views = Views.of(first.sampler.order(epoch), epoch)
        orders.append(views.index)
        pictures.append(first.feed(Views.of(torch.arange(45), epoch))[0])
        for arm in others:
            assert torch.equal(arm.sampler.order(epoch), views.index)
            for ours, theirs in zip(arm.feed(views), first.feed(views), strict=True):
                assert torch.equal(ours, theirs)
    assert not torch.equal(*orders)
    assert torch.equal(*pictures) is (augmentation == "none")


@pytest.mark.slow
def test_selecting_all_that_is_drawn_makes_unlike_arms_alike(make_dataset) -> None:
    everything = {"filter": "none", "selector": "top_q", "q": 0.0}
    arms = {"archetype": {"granularity": "none"}} | {
        name: {"granularity": granularity, **everything}
        for name, granularity in (("filtered", "batch"), ("epochwise", "epoch"), ("both", "epoch+batch"))
    }
    arms["share"] = {"selector": "random", "ratio": 1.0}
    rows, trained = run(trial(arms=arms, augmentation="thesis"), make_dataset(train=48))
    reference = trained.arms[0].model.state_dict()
    for arm in trained.arms[1:]:
        assert arm.totals["samples_probed"] == {"both": 2, "share": 0}.get(arm.name, 1) * 48 * 4
        for key, value in arm.model.state_dict().items():
            assert torch.equal(value, reference[key]), (arm.name, key)
    for row in rows:
        assert row["test_mean_loss"] == rows[(row["epoch"]) * len(arms)]["test_mean_loss"]


# ------------------------------------------------------------------------------------------------------------ probes


def arm_probing(data: Dataset, **method: str) -> Arm:
    arms = {"archetype": {"granularity": "none"}, "filtered": method}
    return Comparison(trial(arms=arms, augmentation="thesis"), data, CPU).arms[1]


def shown(arm: Arm, views: Views) -> torch.Tensor:
    """The pictures that the arm's model sees in a probe."""
    seen = []
    hook = arm.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    result = arm.probe(views)
    hook.remove()
    assert torch.equal(result.labels, arm.data.train.labels[views.index])
    (pictures,) = seen
    return pictures


def test_a_probe_sees_what_is_trained_on_or_another_augmentation_or_none(data: Dataset) -> None:
    views = Views.of(torch.arange(45), 3)
    trained, fresh, clean = (arm_probing(data, probe_view=view) for view in ("trained", "fresh", "clean"))
    to_train_on = trained.feed(views)[0]
    assert torch.equal(shown(trained, views), to_train_on)
    assert torch.equal(shown(clean, views), data.normalize(data.train.images.float() / 255))
    assert torch.equal(shown(clean, Views.of(views.index, 1)), shown(clean, views))
    other = shown(fresh, views)
    assert torch.equal(shown(fresh, views), other)
    for pictures in (to_train_on, shown(clean, views), shown(fresh, Views.of(views.index, 2))):
        assert (other != pictures).flatten(1).any(1).float().mean() > 0.9
    for epoch in range(1, 6):  # no epoch trains on what a fresh probe saw
        assert not torch.equal(trained.feed(Views.of(views.index, epoch))[0], other)


@pytest.mark.parametrize("view", ["trained", "fresh", "clean"])
def test_an_update_sees_the_picture_of_its_epoch_whatever_was_probed(data: Dataset, view: str) -> None:
    arm = arm_probing(data, probe_view=view)
    pictures: list[torch.Tensor] = []
    arm.model.register_forward_pre_hook(lambda module, inputs: pictures.append(inputs[0]) if module.training else None)
    trained_on: list[Views] = []
    feed = arm.feed
    batches = arm.sampler.batches

    def spied(probe):
        for views in batches(probe):
            trained_on.append(views)
            yield views

    arm.sampler.batches = spied
    arm.advance(0)
    arm.advance(1)
    assert len(pictures) == len(trained_on) > 0
    for views, seen in zip(trained_on, pictures, strict=True):
        assert torch.equal(seen, feed(views)[0])


@pytest.mark.slow
def test_an_arm_follows_another_wherever_it_stands_in_the_configuration(data: Dataset) -> None:
    like = {"selector": "random", "like": "filtered", "raw_batch_size": 7}
    arms = {"random": like} | {name: method.model_dump() for name, method in ARMS.items()}
    rows, _ = run(trial(arms=arms, augmentation="thesis"), data)
    by_arm = {name: [row for row in rows if row["arm"] == name] for name in ("filtered", "random")}
    for theirs, ours in zip(by_arm["filtered"], by_arm["random"], strict=True):
        for name in ("steps", "samples_kept", "samples_rejected", "samples_trained", "samples_overflowed"):
            assert ours[name] == theirs[name]
        assert ours["samples_held"] == theirs["samples_held"]
        assert ours["samples_probed"] == ours["raw_batches"] == 0
    assert sum(row["steps"] for row in by_arm["random"]) > 0
    assert by_arm["random"][-1]["train_mean_loss"] != by_arm["filtered"][-1]["train_mean_loss"]


def test_filtering_trains_another_model_than_the_archetype(data: Dataset) -> None:
    rows, _ = run(trial(), data)
    final = [row["train_mean_loss"] for row in rows[-len(ARMS) :]]
    assert len(set(final)) == len(ARMS)


def test_the_seed_changes_weights_order_and_pictures(data: Dataset) -> None:
    one, other = (Comparison(trial(seed=seed), data, CPU).arms[0] for seed in (0, 1))
    assert not torch.equal(next(one.model.parameters()), next(other.model.parameters()))
    assert not torch.equal(one.sampler.order(1), other.sampler.order(1))
    views = Views.of(torch.arange(45), 1)
    assert not torch.equal(one.feed(views)[0], other.feed(views)[0])


def test_pictures_are_normalized_and_keep_their_labels(data: Dataset) -> None:
    arm = Comparison(trial(augmentation="none"), data, CPU).arms[0]
    index = torch.tensor([7, 3, 44])
    images, labels = arm.feed(Views.of(index, 1))
    assert torch.equal(labels, data.train.labels[index])
    assert torch.allclose(images * data.std + data.mean, data.train.images[index] / 255, atol=1e-6)


# --------------------------------------------------------------------------------------- repeating, saving, stopping

OPTIMIZERS = [
    pytest.param({"optimizer.name": "SGD", "optimizer.lr": 0.02, "optimizer.nesterov": True}, id="SGD"),
    pytest.param({"optimizer.name": "Adam", "optimizer.lr": 0.001, "optimizer.amsgrad": True}, id="Adam"),
]


@pytest.mark.slow
def test_the_same_configuration_twice_leaves_the_same_rows(data: Dataset) -> None:
    rows, _ = run(trial(augmentation="thesis"), data)
    torch.rand(10)
    again, _ = run(trial(augmentation="thesis"), data)
    assert reproducible(again) == reproducible(rows)
    assert "train_mean_loss" in REPRODUCIBLE
    assert "cumulative_compute" in REPRODUCIBLE


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_restored_comparison_continues_bit_for_bit(data: Dataset, optimizer: dict[str, Any]) -> None:
    config = trial(**optimizer, schedule__name="cosine", epochs=3)
    rows, through = run(config, data)
    held = 0
    for stop in range(-1, config.epochs + 1):
        stopped = Comparison(config, data, CPU)
        early = [row for _ in range(stop + 1) for row in stopped.step()]
        held += sum(len(arm.sampler.held) for arm in stopped.arms)
        resumed = Comparison(config, data, CPU)
        resumed.load_state_dict(saved(stopped.state_dict()))
        assert resumed.epoch == stop
        while not resumed.done:
            early += resumed.step()
        assert reproducible(early) == reproducible(rows)
        for arm, other in zip(resumed.arms, through.arms, strict=True):
            for key, value in arm.model.state_dict().items():
                assert torch.equal(value, other.model.state_dict()[key])
            assert arm.sampler.held.index.tolist() == other.sampler.held.index.tolist()
            assert arm.sampler.held.epoch.tolist() == other.sampler.held.epoch.tolist()
    assert held > 0


@pytest.mark.slow
def test_a_comparison_with_batch_normalization_restores_its_running_statistics(make_dataset) -> None:
    data = make_dataset(train=6, validation=0, test=4)
    arms = {"archetype": {"granularity": "none"}, "filtered": {"granularity": "batch", "raw_batch_size": 2}}
    config = trial(model__name="ResNet18", epochs=2, batch_size=3, arms=arms)
    through, stopped, resumed = (Comparison(config, data, CPU) for _ in range(3))
    for _ in range(2):
        through.step()
        stopped.step()
    resumed.load_state_dict(saved(stopped.state_dict()))
    assert reproducible(resumed.step()) == reproducible(through.step())


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"optimizer.lr": 0.03}, {"epochs": 5}, {"arms.both.granularity": "epoch"}]
)
def test_a_checkpoint_of_another_configuration_is_refused(data: Dataset, change: dict[str, Any]) -> None:
    config = trial()
    stopped = Comparison(config, data, CPU)
    stopped.step()
    other = Comparison(TrialConfig.from_dotted(config.to_dotted() | change), data, CPU)
    with pytest.raises(ValueError, match="another configuration"):
        other.load_state_dict(saved(stopped.state_dict()))
    assert other.epoch == -1


@pytest.mark.parametrize("optimizer", [{}, {"optimizer.name": "AdamW"}])
def test_a_state_is_adopted_and_the_own_numbers_are_in_force(data: Dataset, optimizer: dict[str, Any]) -> None:
    own = {"optimizer.lr": 0.001, "optimizer.weight_decay": 0.01, "seed": 1}
    own |= {} if optimizer else {"optimizer.momentum": 0.3}
    schedule = {"schedule": {"name": "exponential", "gamma": 0.5}}
    donor = Comparison(trial(**optimizer, **schedule), data, CPU)
    adopter = Comparison(TrialConfig.from_dotted(donor.config.to_dotted() | own), data, CPU)
    for _ in range(3):
        donor.step()
        before = adopter.step()
    adopter.adopt(saved(donor.state_dict()))
    assert adopter.epoch == 2
    for ours, theirs in zip(adopter.arms, donor.arms, strict=True):
        for name, weights in theirs.model.state_dict().items():
            assert torch.equal(ours.model.state_dict()[name], weights)
        (group,) = ours.optimizer.param_groups
        assert group["weight_decay"] == 0.01
        assert group.get("momentum") == own.get("optimizer.momentum")
    rows = adopter.step()
    for row, then in zip(rows, before, strict=True):
        assert row["epoch"] == 3
        assert row["learning_rate"] == 0.001 * 0.5**2
        for name in COUNTS:  # what it has spent is its own
            assert row[f"cumulative_{name}"] == then[f"cumulative_{name}"] + row[name]
    assert reproducible(rows) != reproducible(donor.step())


def test_who_has_not_come_as_far_adopts_what_was_spent_too(data: Dataset) -> None:
    config = trial()
    donor, adopter, same = (Comparison(config, data, CPU) for _ in range(3))
    for _ in range(2):
        donor.step()
    adopter.adopt(saved(donor.state_dict()))
    same.load_state_dict(saved(donor.state_dict()))
    assert reproducible(adopter.step()) == reproducible(same.step()) == reproducible(donor.step())


@pytest.mark.parametrize("change", [{"model.name": "FCNet10"}, {"batch_size": 4}, {"optimizer.nesterov": True}])
def test_the_state_of_a_comparison_that_differs_in_more_is_not_adopted(data: Dataset, change: dict[str, Any]) -> None:
    config = trial()
    donor = Comparison(config, data, CPU)
    donor.step()
    other = Comparison(TrialConfig.from_dotted(config.to_dotted() | change), data, CPU)
    with pytest.raises(ValueError, match="differs in more than the optimizer's numbers and seed"):
        other.adopt(saved(donor.state_dict()))
    assert other.epoch == -1


def test_a_step_after_the_last_epoch_is_refused(data: Dataset) -> None:
    rows, finished = run(trial(epochs=1), data)
    assert finished.done
    assert finished.epoch == 1
    assert len(rows) == 2 * len(ARMS)
    with pytest.raises(RuntimeError, match="over: 1 of 1 epochs"):
        finished.step()


def test_divergence_ends_the_comparison_and_names_the_arms(data: Dataset) -> None:
    config = trial(optimizer__lr=1e30)
    started = Comparison(config, data, CPU)
    started.step()
    assert not started.done
    rows = started.step()
    assert started.done
    assert "archetype" in started.diverged
    assert started.epoch < config.epochs
    for row in rows:
        assert (row["arm"] in started.diverged) is (not math.isfinite(row["train_mean_loss"]))
    with pytest.raises(RuntimeError, match="archetype"):
        started.step()
    restored = Comparison(config, data, CPU)
    restored.load_state_dict(saved(started.state_dict()))
    assert restored.done
    assert restored.diverged == started.diverged


def test_an_error_for_want_of_memory_names_the_arm_that_wanted_it(data: Dataset) -> None:
    comparison = Comparison(trial(), data, torch.device("cpu"))
    comparison.step()
    for greedy, names in ((lambda: torch.empty(2**45), True), (lambda: torch.empty(-1), False)):
        comparison.arms[1].update = lambda views, greedy=greedy: ProbeResult(greedy(), torch.empty(0))
        with pytest.raises((RuntimeError, CodeError)) as caught:  # what else this file raises is a researcher's own
            comparison.step()
        comparison.epoch -= 1
        recorded = "".join(traceback.format_exception(caught.value))
        assert (records.out_of_memory(comparison.arms[1].name) in recorded) == names


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_only_arms_without_a_finite_training_loss_have_diverged(loss: float) -> None:
    rows = [{"arm": "a", "train_mean_loss": 0.0}, {"arm": "b", "train_mean_loss": loss}]
    assert diverged(rows) == ["b"]
    assert diverged(rows[:1]) == []
    assert diverged([{"arm": "c", "train_mean_loss": None}, *rows]) == ["b"]


def test_why_a_comparison_ended_early_is_said_and_of_one_that_did_not_nothing(data: Dataset) -> None:
    _, finished = run(trial(epochs=1), data)
    assert (finished.status, finished.reason) == ("finished", None)
    started = Comparison(trial(), data, CPU)
    started.step()
    assert (started.status, started.reason) == ("running", None)
    _, lost = run(trial(optimizer__lr=1e30), data)
    assert lost.status == "diverged"
    assert lost.reason == f"training loss is not finite: {', '.join(lost.diverged)}"


def learning(*accuracies: float | None, epoch: int = 3) -> list[Row]:
    return [{"arm": f"arm{i}", "epoch": epoch, "train_accuracy": value} for i, value in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("rows", "given_up"),
    [
        (learning(0.25, 0.26), True),
        (learning(0.1, 0.27), True),
        (learning(0.1, 0.28), False),  # one arm learns
        (learning(0.9, 0.9), False),
        (learning(None, 0.2), True),
        (learning(0.2, 0.2, epoch=2), False),  # too early
        (learning(0.2, 0.2, epoch=4), False),  # it was looked at before
        (learning(None, None), False),  # not measured
        ([], False),
    ],
)
def test_a_comparison_is_dead_where_no_arm_is_over_chance_after_so_many_epochs(rows: list[Row], given_up: bool) -> None:
    reason = dead(rows, 0.25, DeadRun(epochs=3))
    assert (reason is not None) is given_up
    if reason is not None:
        assert reason == (
            "dead: after epoch 3 no arm's training accuracy is over 0.270 (dead_run: chance 0.250 + margin 0.02)"
        )
    assert dead(rows, 0.25, DeadRun()) is None


@pytest.mark.parametrize(("every", "judged"), [(1, 3), (2, 4), (3, 3), (5, 5)])
def test_a_comparison_is_looked_at_for_death_when_it_is_measured(every: int, judged: int) -> None:
    reasons = {epoch: dead(learning(0.2, epoch=epoch), 0.25, DeadRun(epochs=3), every) for epoch in range(1, 13)}
    assert [epoch for epoch, reason in reasons.items() if reason] == [judged]
    assert str(reasons[judged]).startswith(f"dead: after epoch {judged} no arm's")


def test_chance_is_the_share_of_the_most_frequent_class(make_dataset) -> None:
    assert Comparison(trial(), make_dataset(train=48), CPU).chance == 0.25
    assert Comparison(trial(), make_dataset(train=45), CPU).chance == 12 / 45
    noisy = {"dataset.label_noise": 0.5, "dataset.samples_per_class": 20, "model.name": "FCNet4"}
    started = prepare(TrialConfig.from_dotted(noisy), Runtime(device="cpu"))
    labels = started.arms[0].data.train.labels
    assert started.chance == max(labels.tolist().count(label) for label in range(10)) / len(labels) > 0.1


# ---------------------------------------------------------------------------------- when the training set is measured

TRAIN = [column.name for column in records.EVALUATIONS if column.name.startswith("train_")]
MEASURED_WHEN = [1, 3, "running"]


def test_measuring_the_training_set_less_often_changes_nothing_else(data: Dataset) -> None:
    always, _ = run(trial(), data)
    for train in (3, "running"):
        rows, _ = run(trial(evaluate__train=train), data)
        for row, reference in zip(reproducible(rows), reproducible(always), strict=True):
            measured = row["epoch"] in ((0,) if train == "running" else (0, 3, 4))
            for name, value in row.items():
                if name in TRAIN and not measured:
                    assert (value is None) is (train == 3)
                else:
                    assert value == reference[name], (train, row["epoch"], row["arm"], name)


def test_running_metrics_are_those_of_all_that_was_probed_or_else_trained_on(data: Dataset) -> None:
    arms = {name: method.model_dump() for name, method in ARMS.items()}
    arms["share"] = {"selector": "random", "ratio": 0.5}
    config = trial(arms=arms, augmentation="thesis", evaluate__train="running")
    started, twin = Comparison(config, data, CPU), Comparison(config, data, CPU)
    started.step()
    for row, arm in zip(started.step(), twin.arms, strict=True):
        probed, trained = [], []

        def probe(views: Views, arm: Arm = arm, probed: list[ProbeResult] = probed) -> ProbeResult:
            probed.append(arm.probe(views))
            return probed[-1]

        train_epoch(1, arm.sampler, probe, watched(arm.update, nullcontext(), trained.append))
        assert bool(probed) is (arm.name not in ("archetype", "share"))
        seen = ProbeResult.join(probed or trained)
        assert len(seen.labels) == row["samples_probed" if probed else "samples_trained"]
        assert row["train_mean_loss"] == pytest.approx(float(seen.losses.mean()), rel=1e-6)
        assert row["train_worst_loss"] == float(seen.losses.max())
        assert row["train_accuracy"] == pytest.approx(1 - float(seen.wrong.float().mean()), rel=1e-6)


def test_an_arm_keeps_nothing_of_what_its_passes_said_while_others_train(data: Dataset) -> None:
    comparison = Comparison(trial(), data, CPU)
    for _ in range(2):
        comparison.step()
        assert all(arm.probed == arm.trained == [] for arm in comparison.arms)


def test_an_arm_that_saw_nothing_has_no_running_metrics(data: Dataset) -> None:
    arms = {"archetype": {"granularity": "none"}, "filtered": {"selector": "random", "ratio": 0.01}}
    rows, _ = run(trial(arms=arms, evaluate__train="running", batch_size=40), data)
    idle = [row for row in rows if row["arm"] == "filtered" and row["epoch"] > 0 and row["steps"] == 0]
    assert idle
    assert {row[name] for row in idle for name in TRAIN} == {None}
    assert not any(
        key.startswith("filtered/train_") for key in report(rows[-2:], "archetype", "filtered") if "loss" in key
    )


@pytest.mark.parametrize("train", [2, "running"])
def test_a_comparison_measured_otherwise_continues_bit_for_bit(data: Dataset, train: Any) -> None:
    config = trial(evaluate__train=train)
    rows, _ = run(config, data)
    for stop in range(config.epochs):
        stopped, resumed = Comparison(config, data, CPU), Comparison(config, data, CPU)
        early = [row for _ in range(stop + 1) for row in stopped.step()]
        resumed.load_state_dict(saved(stopped.state_dict()))
        while not resumed.done:
            early += resumed.step()
        assert reproducible(early) == reproducible(rows)


@pytest.mark.parametrize("train", MEASURED_WHEN)
def test_divergence_is_found_however_seldom_the_training_set_is_measured(data: Dataset, train: Any) -> None:
    config = trial(optimizer__lr=1e30, epochs=30, evaluate__train=30 if train == 3 else train)
    rows, lost = run(config, data)
    assert lost.status == "diverged"
    assert lost.epoch <= 2
    last = rows[-len(ARMS) :]
    assert None not in [row["train_mean_loss"] for row in last]  # all arms are measured at the end
    assert [row["arm"] for row in last if not math.isfinite(row["train_mean_loss"])] == lost.diverged
    assert "archetype" in lost.diverged


def test_a_running_loss_that_is_not_finite_is_measured_before_it_counts(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Comparison(trial(evaluate__train=3), data, CPU)
    started.step()
    monkeypatch.setattr(started.arms[0], "running", lambda: {"train_mean_loss": math.inf})
    rows = started.step()
    assert not started.done
    reference, _ = run(trial(epochs=1), data)
    for row, measured in zip(reproducible(rows), reproducible(reference[len(ARMS) :]), strict=True):
        assert row == measured


# ----------------------------------------------------------------------------------------------------------- report


def test_a_report_names_arms_and_turns_gaps_so_that_better_is_positive() -> None:
    rows: list[Row] = [
        {"arm": "archetype", "epoch": 3, "test_accuracy": 0.5, "test_mean_loss": 1.0, "cumulative_compute": 300.0},
        {"arm": "filtered", "epoch": 3, "test_accuracy": 0.75, "test_mean_loss": 1.5, "cumulative_compute": 100.0},
        {"arm": "random", "epoch": 3, "test_accuracy": 0.25, "test_mean_loss": 0.5, "cumulative_compute": 200.0},
    ]
    flat = report(rows, "archetype", "filtered")
    assert flat["gap/test_accuracy"] == 0.25
    assert flat["gap/test_mean_loss"] == -0.5
    assert flat["gap/cumulative_compute"] == 200.0
    assert flat["random/test_accuracy"] == 0.25
    assert {key for key in flat if key.startswith("gap/")} == {
        "gap/test_accuracy",
        "gap/test_mean_loss",
        "gap/cumulative_compute",
    }
    against_random = report(rows, "random", "filtered")
    assert against_random["gap/test_accuracy"] == 0.5
    assert against_random["gap/test_mean_loss"] == -1.0
    assert all(type(value) is float for value in flat.values())


def test_a_report_of_real_rows_leaves_out_what_is_missing(make_dataset) -> None:
    rows = Comparison(trial(), make_dataset(validation=0), CPU).step()
    flat = report(rows, "archetype", "filtered")
    assert not any("validation" in key for key in flat)
    for name in records.METRICS:
        if not name.startswith("validation") and not name.endswith("seconds"):
            assert flat[f"gap/{name}"] == 0.0
            assert flat[f"both/{name}"] == flat[f"archetype/{name}"]
    assert not any(key.endswith(("/arm", "/gpu_power")) for key in flat)


# ------------------------------------------------------------------------------------------------------ a whole trial


def test_real_digits_are_learned_by_archetype_and_filter_alike() -> None:
    config = TrialConfig.from_dotted(
        {
            "dataset.samples_per_class": 100,
            "model.name": "FCNet50",
            "batch_size": 32,
            "epochs": 3,
            "optimizer.lr": 0.05,
        }
    )
    started = prepare(config, Runtime(device="cpu", threads=1))
    first = started.step()
    assert all(row["test_accuracy"] < 0.3 for row in first)
    while not started.done:
        rows = started.step()
    assert {row["arm"]: row["test_accuracy"] > 0.75 for row in rows} == {"archetype": True, "filtered": True}
    filtered = rows[1]
    assert filtered["acceptance"] < 0.3
    assert filtered["cumulative_steps"] < rows[0]["cumulative_steps"]


def test_prepare_sets_the_threads_and_the_device_of_the_runtime() -> None:
    config = TrialConfig.from_dotted({"model.name": "FCNet4", "dataset.samples_per_class": 10, "epochs": 1})
    started = prepare(config, Runtime(device="cpu", threads=2))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert threads == 2
    assert started.arms[0].device == CPU
    assert started.epoch == -1


def test_devices_are_resolved_by_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device(Runtime(device="auto")) == resolve_device(Runtime(device="cpu")) == CPU
    with pytest.raises(comparison.DeviceError, match="no CUDA device; use --device cpu"):
        resolve_device(Runtime(device="cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device(Runtime(device="auto")).type == "cuda"
    assert resolve_device(Runtime(device="cpu")) == CPU


@pytest.mark.slow
def test_a_comparison_needs_neither_ray_nor_optuna_nor_wandb_nor_pandas() -> None:
    script = """
import sys
for name in ("ray", "optuna", "wandb", "pandas", "typer", "rich"):
    sys.modules[name] = None
from trainables.comparison import prepare
from trainables.config import Runtime, TrialConfig
config = TrialConfig.from_dotted({"model.name": "FCNet4", "dataset.samples_per_class": 10, "epochs": 1})
comparison = prepare(config, Runtime(device="cpu"))
rows = comparison.step() + comparison.step()
print(comparison.done, [(row["arm"], row["epoch"], row["samples_kept"] > 0) for row in rows])
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "True [('archetype', 0, False), ('filtered', 0, False), ('archetype', 1, True), ('filtered', 1, True)]"
    )


@pytest.mark.cuda
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_comparison_trains_and_resumes_on_a_gpu(
    make_dataset, cuda: torch.device, optimizer: dict[str, Any], graphs: bool
) -> None:
    data = make_dataset(train=45, device="cuda")
    config = trial(**optimizer, augmentation="thesis", model__name="LeNet", epochs=2)
    stopped = Comparison(config, data, cuda, graphs)
    first = stopped.step() + stopped.step()
    for row in first:
        assert row["gpu_memory"] > 0
        assert math.isfinite(row["train_mean_loss"])
    assert all(row["train_seconds"] > 0 for row in first if row["steps"])
    resumed = Comparison(config, data, cuda, graphs)
    resumed.load_state_dict(saved(stopped.state_dict()))
    for ours, theirs in zip(resumed.step(), stopped.step(), strict=True):
        assert ours["samples_kept"] == pytest.approx(theirs["samples_kept"], abs=2)
        assert ours["test_mean_loss"] == pytest.approx(theirs["test_mean_loss"], rel=1e-2)


def test_the_better_arm_is_that_of_baseline_and_treatment_by_the_direction_of_each_metric() -> None:
    metrics = {
        "archetype/test_accuracy": 0.9,
        "filtered/test_accuracy": 0.8,
        "random/test_accuracy": 1.0,
        "archetype/test_mean_loss": 0.5,
        "filtered/test_mean_loss": 0.25,
        "archetype/train_mean_loss": math.nan,
        "filtered/train_mean_loss": 2.0,
        "archetype/test_worst_loss": math.nan,
        "filtered/test_worst_loss": math.nan,
        "archetype/validation_accuracy": 0.5,
        "archetype/steps": 3.0,
        "filtered/steps": 2.0,
    }
    found = better(metrics, "archetype", "filtered")
    assert math.isnan(found.pop("better/test_worst_loss"))
    assert found == {"better/test_accuracy": 0.9, "better/test_mean_loss": 0.25, "better/train_mean_loss": 2.0}
    again = better(metrics, "filtered", "archetype")
    assert math.isnan(again.pop("better/test_worst_loss"))
    assert again == found
    assert better(metrics, "random", "filtered") == {"better/test_accuracy": 1.0}


@pytest.mark.parametrize("arm", ["archetype", "filtered"])
def test_a_schedule_per_update_falls_fully_whatever_number_of_updates_an_arm_makes(arm: str, make_dataset) -> None:
    config = TrialConfig.from_dotted(
        {"model.name": "FCNet8", "batch_size": 8, "epochs": 3, "optimizer.lr": 0.1, "schedule.name": "linear"}
    )
    compared = Comparison(config.model_copy(update={"augmentation": "none"}), make_dataset(), CPU)
    trained = next(one for one in compared.arms if one.name == arm)
    rates: list[float] = []
    step = trained.optimizer.step
    trained.optimizer.step = lambda: (rates.append(trained.optimizer.param_groups[0]["lr"]), step())  # type: ignore
    rows = []
    while not compared.done:
        rows += [row for row in compared.step() if row["arm"] == arm]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.1, abs=0.03)
    assert rates[-1] < 0.1 / 3
    assert rows[-1]["learning_rate"] == rates[-1]
    if arm == "archetype":
        assert rates == pytest.approx([0.1 * (1 - update / 18) for update in range(18)])


def test_label_smoothing_changes_training_alone(make_dataset) -> None:
    def rows(smoothing: float) -> list[Row]:
        config = TrialConfig.from_dotted(
            {"model.name": "FCNet8", "batch_size": 8, "epochs": 1, "label_smoothing": smoothing}
        )
        compared = Comparison(config.model_copy(update={"augmentation": "none"}), make_dataset(), CPU)
        return [row for _ in range(2) for row in compared.step()]

    plain, smooth = rows(0.0), rows(0.5)
    assert [row["test_mean_loss"] for row in plain[:2]] == [row["test_mean_loss"] for row in smooth[:2]]
    assert all(a["test_mean_loss"] != b["test_mean_loss"] for a, b in zip(plain[2:], smooth[2:], strict=True))
