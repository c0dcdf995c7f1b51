from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from drawing import follower, methods
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trainables.config import (
    ARMS,
    MNIST_LIKE,
    NETWORKS,
    SGD,
    Adam,
    AdamW,
    BuiltIn,
    Constant,
    Cosine,
    DeadRun,
    EvaluationConfig,
    Exponential,
    Frozen,
    MethodConfig,
    ModelConfig,
    MultiStep,
    Objective,
    Recovery,
    Runtime,
    ScheduleConfig,
    TrialConfig,
    flatten,
    nest,
)
from trainables.records import BY_NAME, METRICS

POSITIVE = st.floats(1e-9, 1e6)
FRACTION = st.floats(0, 1, exclude_max=True)
COUNT = st.integers(1, 10**6)

DATASETS = st.builds(
    BuiltIn,
    name=st.sampled_from(["mnist5k", "mnist", "fashion_mnist", "cifar10", "cifar100"]),
    classes=st.none() | st.integers(2, 100),
    samples_per_class=st.none() | COUNT,
    validation_fraction=FRACTION,
    label_noise=FRACTION,
    split_seed=st.integers(0, 2**40),
)
MODELS = st.builds(ModelConfig, name=st.sampled_from(NETWORKS) | st.integers(1, 999_999).map("FCNet{}".format))
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
METHODS = methods(largest=10**6).filter(lambda method: not method.selector.knows_labels)  # which takes label noise


@st.composite
def trials(draw: st.DrawFn) -> TrialConfig:
    arms = draw(st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9_+-]{0,8}\Z"), METHODS, min_size=2, max_size=4))
    arms.pop("gap", None)
    arms.pop("better", None)
    arms |= {} if len(arms) > 1 else {"one": MethodConfig(), "two": MethodConfig()}
    able = sorted(n for n, method in arms.items() if method.granularity != "none" and not method.own_raw_batches)
    if able and draw(st.booleans()):
        followed = draw(st.sampled_from(able))
        arms["following"] = follower(arms[followed], followed)
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
        precision=draw(st.sampled_from(["fp32", "tf32", "bf16"])),
        evaluate=EvaluationConfig(train=draw(COUNT | st.just("running"))),
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
    assert config.precision == "fp32"
    assert config.evaluate.train == 1
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
        "model.built_in.name",
        "dataset",
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
        ({"dataset.label_noise": 1.0}, "less than 1"),
        ({"dataset.label_noise": -0.1}, "greater than or equal to 0"),
        ({"dataset.classes": 1}, "greater than or equal to 2"),
        ({"arms.Big.granularity": "none"}, "pattern"),
        ({"optimizer.name": "Adam", "optimizer.momentum": 0.9}, "Extra inputs"),
        ({"model.name": "FCNet"}, "FCNet100"),
        ({"model.name": "FCNet05"}, "FCNet100"),
        ({"model.name": "resnet18"}, "ResNet18, SimpleDLA, DLA, ResNet8"),
    ],
)
def test_bad_values_are_refused_with_the_reason(dotted: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialConfig.from_dotted(dotted)


@pytest.mark.parametrize("name", ["gap", "better"])
def test_an_arm_cannot_take_the_name_under_which_gaps_or_the_better_arm_are_reported(name: str) -> None:
    arms = {"archetype": {"granularity": "none"}, name: {"granularity": "batch"}}
    with pytest.raises(ValidationError, match=f"an arm cannot be named '{name}': {name}/METRIC is"):
        TrialConfig.model_validate({"arms": arms, "treatment": name})


def test_a_section_without_a_name_is_of_its_default_kind() -> None:
    assert TrialConfig.from_dotted({"optimizer.lr": 0.5}).optimizer == SGD(lr=0.5)
    assert TrialConfig.from_dotted({"optimizer.name": "Adam"}).optimizer == Adam(name="Adam", lr=1e-3)


# --------------------------------------------------------------------------------------------------------- methods

NONE: dict[str, Any] = {"granularity": "none"}
TOP: dict[str, Any] = {"selector": "top_k", "k": 8}
REFUSED: list[tuple[dict[str, Any], str]] = [
    (NONE | {"filter": "hard"}, "granularity none trains on every sample: it has no filter and no selector"),
    (NONE | TOP, "granularity none trains on every sample: it has no filter and no selector"),
    (NONE | {"raw_batch_size": 8}, "raw_batch_size means nothing with granularity none, which probes no sample"),
    (NONE | {"raw_batch_size": "adaptive"}, "raw_batch_size means nothing with granularity none"),
    (NONE | {"batch": "unstable"}, "batch unstable means nothing with granularity none"),
    ({"filter": "none"}, "with neither filter nor selector nothing is selected; use granularity none"),
    *(({"selector": selector}, "selector.k\n  Field required") for selector in ("top_k", "loss_weighted", "q_split")),
    ({"selector": "random"}, "random needs k, the number of samples to select, or a ratio, or the arm that it is like"),
    ({"selector": {"name": "all", "k": 8}}, "selector.k\n  unknown key of all; known here: none"),
    ({"selector": {"name": "top_q", "k": 8}}, "selector.k\n  unknown key of top_q; known here: q"),
    ({"selector": {"name": "q_split", "k": 8, "bucktes": 4}}, "unknown key of q_split; did you mean 'buckets'?"),
    ({"selector": {"name": "random", "ratio": 0.5, "k": 8}}, "k and ratio exclude each other"),
    ({"selector": {"name": "random", "like": "a", "k": 8}}, "k and like exclude each other"),
    ({"selector": {"k": 8}}, "is missing; k is for selector top_k or loss_weighted or q_split or random"),
    ({"selector": "top_kk"}, "Input tag 'top_kk' found using name does not match any of the expected tags: 'all'"),
    ({"selector": 3}, "must be a word or a section with a name"),
    ({"ratio": 0.5}, "selector.name\n  is missing; ratio is for selector random"),
    ({"like": "a", **TOP}, "selector.like\n  unknown key of top_k; known here: k"),
    (
        {"selector": {"name": "random", "like": "a"}, "filter": "hard"},
        "ratio, like and like_compute are for selector random alone, without a filter",
    ),
    ({"selector": {"name": "random", "ratio": 0.5, "like": "a"}}, "ratio and like exclude each other"),
    ({"filter": {"margin": 0.2}}, "filter.name\n  is missing; margin is for filter soft"),
    ({"filter": {"name": "hard", "margin": 0.2}}, "filter.margin\n  unknown key of hard; known here: none"),
    ({"q": 0.9}, "q is for selector top_q"),
    ({"power": 3.0}, "power is for selector q_split"),
    (TOP | {"buckets": 4}, "selector.buckets\n  unknown key of top_k"),
    ({"selector": "q_split", "k": 9}, "k must be a multiple of buckets: 9 samples are not 2 equal parts"),
    ({"beta": 2.0}, "beta is for selector selective_backprop"),
    ({"window": 64}, "window is for selector selective_backprop"),
    ({"prune": 0.4}, "prune is for selector infobatch"),
    ({"anneal": 0.4}, "anneal is for selector infobatch"),
    ({"selector": "selective_backprop", "filter": "hard"}, "selective_backprop is a method of its own and takes no"),
    ({"selector": "infobatch", "granularity": "epoch", "filter": "soft"}, "infobatch is a method of its own and takes"),
    ({"selector": "selective_backprop", "granularity": "epoch"}, "selective_backprop is for granularity batch"),
    ({"selector": "selective_backprop", "granularity": "epoch+batch"}, "selective_backprop is for granularity batch"),
    ({"selector": "infobatch"}, "infobatch is for granularity epoch"),
    (
        {"selector": "infobatch", "granularity": "epoch", "batch": "unstable"},
        "infobatch needs stable batches: batch stable",
    ),
    *(
        (values | {"overflow": "carry"}, "overflow carry is for stable batches of granularity batch or epoch+batch")
        for values in (NONE, {"granularity": "epoch"}, {"batch": "unstable"})
    ),
    *(
        (values | {"raw_batch_size": "adaptive"}, "raw_batch_size adaptive is for stable batches of granularity batch")
        for values in ({"granularity": "epoch"}, {"batch": "unstable"})
    ),
    ({"raw_batch_limit": 64}, "raw_batch_limit is for raw_batch_size adaptive"),
    ({"raw_batch_size": 8, "raw_batch_limit": 64}, "raw_batch_limit is for raw_batch_size adaptive"),
    *(
        (
            values | {"fallback": "random"},
            "fallback random needs a number to make up: a selector with k that probes, or",
        )
        for values in (
            NONE,
            {"granularity": "batch"},
            {"granularity": "epoch+batch", "selector": "top_q"},
        )
    ),
    *(
        (values | {"fallback": "random"}, "fallback random is for a filter and its selector; random is a method of its")
        for values in (
            {"granularity": "epoch", "selector": {"name": "random", "ratio": 0.5}},
            {"filter": "none", "selector": {"name": "random", "k": 8}},
        )
    ),
    *(
        (values | probe, "probe_mode and probe_view mean nothing where no sample is probed")
        for values in (
            NONE,
            {"selector": "random", "ratio": 0.5},
            {"selector": "random", "like": "a"},
            {"filter": "none", "selector": "random", "k": 8},
            {"granularity": "epoch", "selector": "infobatch"},
        )
        for probe in ({"probe_mode": "train"}, {"probe_view": "clean"})
    ),
    ({"preset": "thesis/alg0"}, "preset 'thesis/alg0' is not one of thesis/alg1, thesis/alg2"),
    ({"margin": 1.0, "filter": "soft"}, "less than 1"),
    ({"margin": 0.0, "filter": "soft"}, "greater than 0"),
    ({"selector": "top_q", "q": 1.0}, "less than 1"),
    ({"selector": "q_split", "k": 8, "buckets": 1}, "greater than or equal to 2"),
    ({"selector": "q_split", "k": 8, "power": 0}, "greater than 0"),
    ({"selector": "top_k", "k": 0}, "greater than 0"),
    ({"selector": "random", "ratio": 0.0}, "greater than 0"),
    ({"selector": "random", "ratio": 1.5}, "less than or equal to 1"),
    ({"raw_batch_size": 0}, "greater than 0"),
    ({"raw_batch_size": "large"}, "adaptive"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_a_method_that_makes_no_sense_is_refused_with_the_reason(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MethodConfig(**values)
    assert message in str(caught.value)


def test_all_that_makes_no_sense_is_reported_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        MethodConfig(granularity="none", filter="hard", overflow="carry", raw_batch_size=8)
    for reason in ("has no filter", "raw_batch_size means nothing", "overflow carry is for stable batches"):
        assert reason in str(caught.value)


def test_the_filter_is_none_where_nothing_is_filtered_and_nobody_says_otherwise() -> None:
    assert MethodConfig().filter.name == "hard"
    assert MethodConfig(granularity="none").filter.name == "none"
    assert MethodConfig(selector="random", ratio=0.5).filter.name == "none"
    assert MethodConfig(selector="random", like="filtered").filter.name == "none"
    assert MethodConfig(selector="selective_backprop").filter.name == "none"
    assert MethodConfig(selector="random", k=3).filter.name == "hard"


@given(methods())
@settings(max_examples=40)
def test_a_method_survives_its_plain_values(method: MethodConfig) -> None:
    assert MethodConfig.model_validate(method.model_dump(mode="json")) == method


@given(methods(plain=False).filter(lambda method: not method.own_raw_batches and not method.selector.knows_labels))
@settings(max_examples=40)
def test_an_arm_can_follow_only_one_with_the_same_batches(method: MethodConfig) -> None:
    arms = {"archetype": {"granularity": "none"}, "followed": method, "following": follower(method, "followed")}
    config = TrialConfig(arms=arms, treatment="followed")
    assert TrialConfig.from_dotted(config.to_dotted()) == config
    batches = {"raw_batch_size": "adaptive", "raw_batch_limit": 77, "overflow": "carry"}
    other = MethodConfig(selector="random", like="followed", **batches)
    unlike = [
        name
        for name in ("granularity", "batch", "raw_batch_size", "raw_batch_limit", "overflow")
        if getattr(other, name) != getattr(method, name)
    ]
    if unlike:
        with pytest.raises(ValidationError) as caught:
            TrialConfig(arms=arms | {"following": other}, treatment="followed")
        message = f"arm 'following' can select like 'followed' only with the same {', '.join(unlike)}"
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("like", "others", "able"),
    [
        ("nobody", {}, "filtered"),
        ("archetype", {}, "filtered"),
        ("following", {}, "filtered"),
        ("other", {"other": {"selector": "random", "like": "filtered"}}, "filtered"),
        ("nobody", {"epochwise": {"granularity": "epoch"}}, "epochwise, filtered"),
    ],
)
def test_an_arm_can_follow_only_one_that_selects_for_itself(like: str, others: dict[str, Any], able: str) -> None:
    arms = others | {"following": {"selector": "random", "like": like}}
    with pytest.raises(ValidationError) as caught:
        TrialConfig.model_validate({"arms": arms})
    message = str(caught.value)
    assert f"arm 'following' is to select like {like!r}; it can follow " in message
    named = message.split("it can follow ")[1].split(" [")[0].split(";")[0]
    assert set(named.split(", ")) == set(able.split(", "))


def test_where_no_arm_selects_none_can_be_followed() -> None:
    arms = {"one": {"granularity": "none"}, "two": {"selector": "random", "like": "one"}}
    with pytest.raises(ValidationError, match="it can follow no arm of this trial"):
        TrialConfig.model_validate({"arms": arms, "baseline": "one", "treatment": "two"})


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_known_by_its_name_survives_dotted_keys(name: str) -> None:
    treatment = "filtered" if name == "archetype" else name
    noisy = {"label_noise": 0.1}  # without wrong labels one of them has nothing to learn
    config = TrialConfig.model_validate(
        {"arms": {name: {}, "filtered": {}}, "treatment": treatment, "dataset": {"name": "mnist5k", **noisy}}
    )
    assert config.arms[name] == MethodConfig.model_validate(ARMS[name])
    assert TrialConfig.from_dotted(config.to_dotted()) == config
    assert TrialConfig.from_dotted(json.loads(json.dumps(config.to_dotted()))) == config


def test_all_arms_known_by_name_fit_into_one_trial() -> None:
    arms = {f"arms.{name}.granularity": ARMS[name]["granularity"] for name in ARMS}
    config = TrialConfig.from_dotted(arms | {"dataset.label_noise": 0.1})  # without which one has nothing to learn
    assert config.arms == {name: MethodConfig.model_validate(method) for name, method in ARMS.items()}
    assert TrialConfig.from_dotted(config.to_dotted()) == config


def test_an_arm_known_by_its_name_needs_only_what_differs() -> None:
    assert set(TrialConfig.from_dotted({"arms": {}}).arms) == {"archetype", "filtered"}
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
    assert Objective(metric=f"filtered/{name}").modes() == ({1: "max", -1: "min"}[direction],)
    assert Objective(metric=f"gap/{name}").modes() == ("max",)


@pytest.mark.parametrize("metric", ["accuracy", "gap/accuracy", "gap/", "/train_accuracy", "gap/epoch", "gap/arm"])
def test_an_objective_of_no_metric_is_refused(metric: str) -> None:
    with pytest.raises(ValidationError, match="must be gap/METRIC or ARM/METRIC"):
        Objective(metric=metric)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ((), "at least 1 item"),
        (("gap/test_accuracy", "gap/test_accuracy"), "names a metric twice: gap/test_accuracy, gap/test_accuracy"),
        (("gap/test_accuracy", "gap/steps"), "'gap/steps': must be gap/METRIC or ARM/METRIC"),
        (("gap/test_accuracy", 5), "valid string"),
    ],
)
def test_several_objectives_of_which_one_is_none_are_refused(metric: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Objective(metric=metric)


def test_several_objectives_have_a_mode_and_a_value_each() -> None:
    objective = Objective(metric=("gap/test_accuracy", "filtered/cumulative_compute", "gap/test_mean_loss"))
    assert objective.modes() == ("max", "min", "max")
    report = {"gap/test_accuracy": 0.3, "filtered/cumulative_compute": 7.0, "archetype/validation_accuracy": 0.9}
    first, second, third = objective.values(report, "archetype")
    assert (first, second) == (0.3, 7.0)
    assert math.isnan(third)
    first, second, _ = objective.values(report | {"archetype/validation_accuracy": 0.2}, "archetype")
    assert (first, second) == (pytest.approx(-0.3), 7.0)  # the floor is of each gap, and of gaps alone
    assert Objective.model_validate(objective.model_dump(mode="json")) == objective


def test_a_list_of_one_objective_is_that_objective() -> None:
    assert Objective(metric=("gap/test_accuracy",)) == Objective(metric="gap/test_accuracy")
    assert Objective().metrics == ("gap/validation_accuracy",)


def valued(objective: Objective, report: dict[str, float]) -> float:
    (value,) = objective.values(report, "archetype")
    return value


def floored(metric: str, floor: float, gap: float, accuracy: float) -> float:
    report = {metric: gap, "archetype/validation_accuracy": accuracy, "archetype/train_accuracy": 1 - accuracy}
    return valued(Objective(metric=metric, baseline_floor=floor), report)


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
    assert valued(objective, low) == pytest.approx(-0.4)
    assert valued(objective, high) == 2.0


def guarded(metric: str, gap: float, baseline: float, **objective: Any) -> float:
    """The value of a gap over a baseline that is accurate and has this loss."""
    report = {f"gap/{metric}": gap, f"archetype/{metric}": baseline, "archetype/validation_accuracy": 0.95}
    return valued(Objective(metric=f"gap/{metric}", **objective), report)


@pytest.mark.parametrize(
    ("metric", "bound"),
    [("test_mean_loss", 4.6), ("validation_q90_loss", 10.0), ("train_q99_loss", 25.0), ("test_worst_loss", 40.0)],
)
def test_a_win_over_a_baseline_whose_own_loss_is_above_the_ceiling_is_worthless(metric: str, bound: float) -> None:
    assert guarded(metric, 3.0, bound) == 3.0
    assert guarded(metric, 3.0, bound + 2) == pytest.approx(-2)
    assert guarded(metric, -3.0, bound + 2) == pytest.approx(-5)  # a loss is still a loss
    bounds = {metric.partition("_")[2]: bound + 2}
    assert guarded(metric, 3.0, bound + 2, baseline_ceiling=bounds) == 3.0
    assert guarded(metric, 3.0, 1e6, baseline_ceiling=dict.fromkeys(bounds)) == 3.0


@given(st.floats(0, 500), st.floats(0, 500), st.floats(0, 1), st.floats(0, 40), st.floats(0, 40))
def test_no_gap_over_a_baseline_above_the_ceiling_beats_an_honest_win(
    baseline: float, treatment: float, accuracy: float, fair: float, better: float
) -> None:
    def value(of_baseline: float, of_treatment: float, accurate: float) -> float:
        report = {"archetype/test_worst_loss": of_baseline, "archetype/validation_accuracy": accurate}
        return valued(
            Objective(metric="gap/test_worst_loss"), report | {"gap/test_worst_loss": of_baseline - of_treatment}
        )

    found = value(baseline, treatment, accuracy)
    if baseline > 40 or accuracy < 0.5:
        assert found < 0
        assert found < value(fair, min(fair, better), 0.5)
    else:
        assert found == baseline - treatment


def test_the_ceiling_is_of_the_loss_whose_gap_is_searched() -> None:
    report = {"gap/test_accuracy": 0.1, "gap/test_worst_loss": 90.0, "gap/cumulative_compute": 1e9}
    report |= {"archetype/test_worst_loss": 130.0, "archetype/validation_accuracy": 0.9}
    report |= {"archetype/cumulative_compute": 2e9, "filtered/test_worst_loss": 40.0}
    several = Objective(
        metric=("gap/test_accuracy", "gap/test_worst_loss", "gap/cumulative_compute", "filtered/test_worst_loss")
    )
    assert several.values(report, "archetype") == [0.1, -90.0, 1e9, 40.0]
    assert Objective.model_validate(several.model_dump(mode="json")) == several


@pytest.mark.parametrize(
    ("metric", "ceiling", "message"),
    [
        ("gap/test_worst_loss", {"worst_loss": 0}, "greater than 0"),
        ("gap/test_worst_loss", {"worst_loss": math.inf}, "finite"),
        ("gap/test_worst_loss", {"test_worst_loss": 50}, "Extra inputs"),
        ("gap/test_worst_loss", {"mean_loss": 2}, "mean_loss is set to 2.0, and no gap of that loss is searched"),
        (
            "filtered/test_worst_loss",
            {"worst_loss": 50},
            r"searched \(metric: filtered/test_worst_loss\); leave it out",
        ),
    ],
)
def test_a_ceiling_of_nothing_or_of_what_is_not_searched_is_refused(
    metric: str, ceiling: dict[str, float], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Objective(metric=metric, baseline_ceiling=ceiling)


def test_a_baseline_has_learned_at_half_where_nobody_says_otherwise() -> None:
    low, high = ({"gap/validation_accuracy": 0.4, "archetype/validation_accuracy": a} for a in (0.49, 0.5))
    assert valued(Objective(), low) == pytest.approx(-0.01)
    assert valued(Objective(), high) == 0.4
    assert valued(Objective(baseline_floor=0), low) == 0.4


def test_a_gap_over_a_baseline_that_diverged_is_no_number() -> None:
    report = {"gap/train_mean_loss": 0.4, "archetype/validation_accuracy": math.nan}
    assert math.isnan(valued(Objective(metric="gap/train_mean_loss"), report))


def test_the_floor_is_of_gaps_alone() -> None:
    objective = Objective(metric="filtered/test_accuracy", baseline_floor=0.9)
    assert valued(objective, {"filtered/test_accuracy": 0.7, "archetype/train_accuracy": 0.1}) == 0.7


def test_an_objective_whose_metric_is_missing_or_nan_is_nan() -> None:
    objective = Objective(baseline_floor=0.5)
    assert math.isnan(valued(objective, {"archetype/train_accuracy": 0.9}))
    for accuracy in (0.1, 0.9):
        report = {"gap/validation_accuracy": math.nan, "archetype/validation_accuracy": accuracy}
        assert math.isnan(valued(objective, report))


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (DeadRun, {"epochs": 0}, "greater than 0"),
        (DeadRun, {"margin": 1.5}, "less than or equal to 1"),
        (Recovery, {"checkpoint_seconds": -1}, "greater than or equal to 0"),
        (Recovery, {"checkpoints": 0}, "greater than or equal to 1"),
        (Recovery, {"max_failures": -1}, "greater than or equal to 0"),
        (Recovery, {"hang_seconds": 0}, "greater than 0"),
        (Recovery, {"hang_second": 1}, "Extra inputs"),
        (Runtime, {"memory_gib": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(model: type[Frozen], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model.model_validate(values)


def test_nothing_is_given_up_as_dead_and_no_memory_is_bounded_where_nobody_says_so() -> None:
    assert DeadRun().epochs is None
    assert Runtime().memory_gib is None


@pytest.mark.parametrize(
    ("train", "epochs", "due"),
    [
        (1, 4, [0, 1, 2, 3, 4]),
        (2, 5, [0, 2, 4, 5]),
        (3, 6, [0, 3, 6]),
        (9, 4, [0, 4]),
        ("running", 4, [0]),
    ],
)
def test_the_training_set_is_measured_first_every_so_often_and_last(train: Any, epochs: int, due: list[int]) -> None:
    config = TrialConfig.from_dotted({"evaluate.train": train, "epochs": epochs})
    assert [epoch for epoch in range(epochs + 1) if config.evaluate.due(epoch, epochs)] == due
    assert config.evaluate.every == (1 if train == "running" else train)
    assert config.to_dotted()["evaluate.train"] == train


@pytest.mark.parametrize(
    ("dotted", "message"),
    [
        ({"evaluate.train": 0}, "greater than 0"),
        ({"evaluate.train": "never"}, "'running'"),
        ({"evaluate.train": 1.5}, "valid integer"),
        ({"evaluate.test": 2}, "evaluate.test"),
        ({"precision": "fp16"}, "'fp32', 'tf32' or 'bf16'"),
    ],
)
def test_measuring_or_computing_otherwise_is_refused(dotted: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialConfig.from_dotted(dotted)


def test_a_key_that_a_record_leaves_out_has_no_value_there() -> None:
    """What is left out at its default cannot be searched with that value: the record would not hold it."""
    kinds = [EvaluationConfig, MethodConfig, TrialConfig, *get_args(get_args(ScheduleConfig)[0])]
    for kind in kinds:
        for name, field in kind.model_fields.items():
            assert field.exclude_if is None or field.default is None, f"{kind.__name__}.{name}"
