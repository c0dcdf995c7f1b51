from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trainables.config import (
    MNIST_LIKE,
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    DatasetConfig,
    Exponential,
    MethodConfig,
    ModelConfig,
    MultiStep,
    Objective,
    Runtime,
    TrialConfig,
    flatten,
    nest,
)
from trainables.records import BY_NAME, METRICS

POSITIVE = st.floats(1e-9, 1e6)
FRACTION = st.floats(0, 1, exclude_max=True)
COUNT = st.integers(1, 10**6)

DATASETS = st.builds(
    DatasetConfig,
    name=st.sampled_from(["mnist5k", "mnist", "fashion_mnist", "cifar10", "cifar100"]),
    classes=st.none() | st.integers(2, 100),
    samples_per_class=st.none() | COUNT,
    validation_fraction=FRACTION,
    split_seed=st.integers(0, 2**40),
)
MODELS = st.builds(
    ModelConfig, name=st.sampled_from(["LeNet", "ResNet18"]) | st.integers(1, 999_999).map("FCNet{}".format)
)
OPTIMIZERS = st.one_of(
    st.builds(SGD, lr=POSITIVE, momentum=st.floats(0.01, 0.99), nesterov=st.booleans(), weight_decay=FRACTION),
    st.builds(SGD, lr=POSITIVE, momentum=st.just(0.0), weight_decay=FRACTION),
    st.builds(Adam, name=st.just("Adam"), lr=POSITIVE, amsgrad=st.booleans(), weight_decay=FRACTION),
    st.builds(AdamW, name=st.just("AdamW"), lr=POSITIVE, amsgrad=st.booleans(), weight_decay=FRACTION),
)
SCHEDULES = st.one_of(
    st.just(Constant()),
    st.builds(Exponential, name=st.just("exponential"), gamma=st.floats(1e-3, 1)),
    st.builds(MultiStep, name=st.just("multistep"), gamma=st.floats(1e-3, 1), every=COUNT),
    st.just(Cosine(name="cosine")),
)
METHODS = st.one_of(
    st.just(MethodConfig(granularity="none")),
    st.builds(
        MethodConfig, granularity=st.sampled_from(["epoch", "batch", "epoch+batch"]), raw_batch_size=st.none() | COUNT
    ),
)


@st.composite
def trials(draw: st.DrawFn) -> TrialConfig:
    arms = draw(st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9_+-]{0,8}\Z"), METHODS, min_size=2, max_size=4))
    arms.pop("gap", None)
    arms |= {} if len(arms) > 1 else {"one": MethodConfig(), "two": MethodConfig()}
    baseline, treatment = draw(st.permutations(sorted(arms)))[:2]
    dataset = draw(DATASETS)
    pictures = ["none"] if dataset.name in MNIST_LIKE else ["none", "standard", "thesis"]
    return TrialConfig(
        dataset=dataset,
        model=draw(MODELS),
        augmentation=draw(st.none() | st.sampled_from(pictures)),
        optimizer=draw(OPTIMIZERS),
        schedule=draw(SCHEDULES),
        batch_size=draw(COUNT),
        epochs=draw(COUNT),
        seed=draw(st.integers(0, 2**62)),
        arms=arms,
        baseline=baseline,
        treatment=treatment,
    )


def test_defaults_are_those_of_table_4_1() -> None:
    config = TrialConfig()
    assert config.model.name == "ResNet18"
    assert isinstance(config.optimizer, SGD)
    assert (config.optimizer.lr, config.optimizer.momentum, config.optimizer.weight_decay) == (0.1, 0.9, 0.0005)
    assert config.optimizer.nesterov is False
    assert config.batch_size == 1024
    assert config.seed == 0
    assert config.schedule == Constant()
    assert config.arms["archetype"].granularity == "none"
    assert config.arms["filtered"] == MethodConfig(granularity="batch", raw_batch_size=None)
    assert Adam(name="Adam").amsgrad is False
    assert Exponential(name="exponential").gamma == 0.995
    assert MultiStep(name="multistep").gamma == 0.1


@pytest.mark.parametrize(
    ("dataset", "augmentation"),
    [
        ("mnist5k", "none"),
        ("mnist", "none"),
        ("fashion_mnist", "none"),
        ("cifar10", "thesis"),
        ("cifar100", "thesis"),
    ],
)
def test_augmentation_defaults_to_the_thesis_for_cifar_alone(dataset: str, augmentation: str) -> None:
    config = TrialConfig.from_dotted({"dataset.name": dataset})
    assert config.augmentation == augmentation
    assert config.to_dotted()["augmentation"] == augmentation


@given(trials())
@settings(max_examples=100)
def test_a_configuration_survives_dotted_keys_and_json(config: TrialConfig) -> None:
    dotted = config.to_dotted()
    assert all(isinstance(value, str | int | float | bool | None) for value in dotted.values())
    assert TrialConfig.from_dotted(dotted) == config
    assert TrialConfig.from_dotted(json.loads(json.dumps(dotted))) == config
    assert hash(TrialConfig.from_dotted(dotted)) == hash(config)


@given(trials(), trials())
@settings(max_examples=50)
def test_equal_configurations_are_those_with_equal_dotted_keys(one: TrialConfig, other: TrialConfig) -> None:
    assert (one == other) is (one.to_dotted() == other.to_dotted())


def test_equal_configurations_have_equal_hashes_whatever_the_order_of_arms() -> None:
    arms = {"archetype": {"granularity": "none"}, "filtered": {"granularity": "batch"}}
    one = TrialConfig.model_validate({"arms": arms})
    other = TrialConfig.model_validate({"arms": dict(reversed(arms.items()))})
    assert one == other
    assert hash(one) == hash(other)
    zeros = [TrialConfig.from_dotted({"optimizer.weight_decay": zero}) for zero in (0.0, -0.0)]
    assert zeros[0] == zeros[1]
    assert hash(zeros[0]) == hash(zeros[1])


KEYS = st.text("abcde_", min_size=1, max_size=4)
LEAVES = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
TREES = st.dictionaries(KEYS, st.recursive(LEAVES, lambda t: st.dictionaries(KEYS, t, min_size=1, max_size=3)))


@given(TREES)
def test_nest_undoes_flatten(tree: dict[str, Any]) -> None:
    flat = flatten(tree)
    assert not any(isinstance(value, dict) for value in flat.values())
    assert nest(flat) == tree
    assert flatten(nest(flat)) == flat


@pytest.mark.parametrize("order", [1, -1])
def test_a_key_that_is_both_a_value_and_a_section_is_refused(order: int) -> None:
    pairs = [("optimizer", "SGD"), ("optimizer.lr", 0.1)][::order]
    with pytest.raises(ValueError, match="optimizer"):
        TrialConfig.from_dotted(dict(pairs))


def test_all_unknown_keys_and_bad_values_are_reported_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        TrialConfig.from_dotted(
            {
                "optimizer.lrr": 0.1,
                "optimizer.momentum": 1.5,
                "modle.name": "LeNet",
                "model.name": "FCNet0",
                "dataset.name": "imagenet",
                "batch_size": 0,
                "epochs": "many",
                "seed": -1,
                "schedule.name": "warmup",
                "arms.filtered.granularity": "sometimes",
            }
        )
    places = {".".join(map(str, error["loc"])) for error in caught.value.errors()}
    expected = {
        "optimizer.SGD.lrr",
        "optimizer.SGD.momentum",
        "modle",
        "model.name",
        "dataset.name",
        "batch_size",
        "epochs",
        "seed",
        "schedule",
        "arms.filtered.granularity",
    }
    assert places == expected


def test_arms_that_do_not_fit_and_augmented_digits_are_reported_together() -> None:
    with pytest.raises(ValidationError) as caught:
        TrialConfig.from_dotted(
            {"dataset.name": "mnist", "augmentation": "thesis", "baseline": "plain", "treatment": "topk"}
        )
    message = str(caught.value)
    assert "baseline 'plain' is not among the arms: archetype, filtered" in message
    assert "treatment 'topk' is not among the arms" in message
    assert "augmentation 'thesis'" in message
    assert "mnist" in message


@pytest.mark.parametrize("dataset", MNIST_LIKE)
@pytest.mark.parametrize("augmentation", ["standard", "thesis"])
def test_mnist_like_data_cannot_be_augmented(dataset: str, augmentation: str) -> None:
    with pytest.raises(ValidationError, match="colour pictures"):
        TrialConfig.from_dotted({"dataset.name": dataset, "augmentation": augmentation})


@pytest.mark.parametrize(
    ("dotted", "message"),
    [
        ({"optimizer.nesterov": True, "optimizer.momentum": 0.0}, "nesterov needs a momentum"),
        ({"arms.archetype.granularity": "none", "arms.archetype.raw_batch_size": 8}, "raw_batch_size"),
        ({"baseline": "filtered"}, "the same arm"),
        ({"treatment": "topk"}, "treatment 'topk' is not among the arms: archetype, filtered"),
        ({"optimizer.lr": math.nan}, "finite"),
        ({"optimizer.lr": math.inf}, "finite"),
        ({"optimizer.lr": 0}, "greater than 0"),
        ({"schedule.name": "exponential", "schedule.gamma": 1.5}, "less than or equal to 1"),
        ({"dataset.validation_fraction": 1.0}, "less than 1"),
        ({"dataset.classes": 1}, "greater than or equal to 2"),
        ({"arms.Big.granularity": "none"}, "pattern"),
        ({"optimizer.name": "Adam", "optimizer.momentum": 0.9}, "Extra inputs"),
        ({"model.name": "FCNet"}, "FCNet100"),
        ({"model.name": "FCNet05"}, "FCNet100"),
        ({"model.name": "resnet18"}, "ResNet18"),
    ],
)
def test_bad_values_are_refused_with_the_reason(dotted: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialConfig.from_dotted(dotted)


def test_an_arm_cannot_take_the_name_under_which_gaps_are_reported() -> None:
    arms = {"archetype": {"granularity": "none"}, "gap": {"granularity": "batch"}}
    with pytest.raises(ValidationError, match="gap"):
        TrialConfig.model_validate({"arms": arms, "treatment": "gap"})


def test_a_section_without_a_name_is_of_its_default_kind() -> None:
    assert TrialConfig.from_dotted({"optimizer.lr": 0.5}).optimizer == SGD(lr=0.5)
    assert TrialConfig.from_dotted({"optimizer.name": "Adam"}).optimizer == Adam(name="Adam", lr=1e-3)


def test_an_arm_known_by_its_name_needs_only_what_differs() -> None:
    assert TrialConfig.from_dotted({"arms": {}}) == TrialConfig()
    config = TrialConfig.from_dotted({"arms.filtered.raw_batch_size": 64})
    assert config.arms == {
        "archetype": MethodConfig(granularity="none"),
        "filtered": MethodConfig(granularity="batch", raw_batch_size=64),
    }
    config = TrialConfig.from_dotted({"arms.epochwise.granularity": "epoch", "treatment": "epochwise"})
    assert config.arms == {
        "archetype": MethodConfig(granularity="none"),
        "epochwise": MethodConfig(granularity="epoch"),
    }


def test_a_configuration_cannot_be_changed() -> None:
    config = TrialConfig()
    for owner, name, value in (
        (config, "seed", 1),
        (config.optimizer, "lr", 1.0),
        (config.arms["filtered"], "granularity", "epoch"),
        (Objective(), "baseline_floor", 0.5),
        (Runtime(), "threads", 2),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(owner, name, value)
    assert config == TrialConfig()


@pytest.mark.parametrize("name", METRICS)
def test_the_objectives_mode_is_the_metrics_direction_for_an_arm_and_max_for_a_gap(name: str) -> None:
    direction = BY_NAME[name].direction
    assert Objective(metric=f"filtered/{name}").mode == {1: "max", -1: "min"}[direction]
    assert Objective(metric=f"gap/{name}").mode == "max"


@pytest.mark.parametrize("metric", ["accuracy", "gap/accuracy", "gap/", "/train_accuracy", "gap/epoch", "gap/arm"])
def test_an_objective_of_no_metric_is_refused(metric: str) -> None:
    with pytest.raises(ValidationError, match="must be gap/METRIC or ARM/METRIC"):
        Objective(metric=metric)


def floored(metric: str, floor: float, gap: float, accuracy: float) -> float:
    report = {metric: gap, "archetype/validation_accuracy": accuracy, "archetype/train_accuracy": 1 - accuracy}
    return Objective(metric=metric, baseline_floor=floor).value(report, "archetype")


@pytest.mark.parametrize(
    ("accuracy", "gap", "value"),
    [(0.4, 0.3, -0.1), (0.4, -0.3, -0.4), (0.1, 0.9, -0.4), (0.5, 0.3, 0.3), (0.9, -0.3, -0.3)],
)
def test_below_the_floor_a_win_is_worthless_a_loss_a_loss_and_the_lack_is_subtracted(
    accuracy: float, gap: float, value: float
) -> None:
    assert floored("gap/validation_accuracy", 0.5, gap, accuracy) == pytest.approx(value)


@given(FRACTION, FRACTION, st.floats(-5, 5), st.floats(-5, 5))
def test_no_gap_over_a_baseline_below_the_floor_beats_an_honest_win(
    floor: float, accuracy: float, gap: float, win: float
) -> None:
    value = floored("gap/test_mean_loss", floor, gap, accuracy)
    if accuracy < floor:
        assert value < 0
        assert value <= gap
        assert value <= floored("gap/test_mean_loss", floor, gap, (accuracy + floor) / 2)
        assert value < floored("gap/test_mean_loss", floor, abs(win), floor)
    else:
        assert value == gap


def test_the_floor_looks_at_training_accuracy_where_nothing_is_held_out() -> None:
    objective = Objective(metric="gap/train_mean_loss", baseline_floor=0.5)
    low, high = ({"gap/train_mean_loss": 2.0, "archetype/train_accuracy": accuracy} for accuracy in (0.1, 0.6))
    assert objective.value(low, "archetype") == pytest.approx(-0.4)
    assert objective.value(high, "archetype") == 2.0


def test_the_floor_is_of_gaps_alone() -> None:
    objective = Objective(metric="filtered/test_accuracy", baseline_floor=0.9)
    assert objective.value({"filtered/test_accuracy": 0.7, "archetype/train_accuracy": 0.1}, "archetype") == 0.7


def test_an_objective_whose_metric_is_missing_or_nan_is_nan() -> None:
    objective = Objective(baseline_floor=0.5)
    assert math.isnan(objective.value({"archetype/train_accuracy": 0.9}, "archetype"))
    for accuracy in (0.1, 0.9):
        report = {"gap/validation_accuracy": math.nan, "archetype/validation_accuracy": accuracy}
        assert math.isnan(objective.value(report, "archetype"))
