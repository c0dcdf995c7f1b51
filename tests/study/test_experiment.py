import contextlib
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from optuna import Trial, create_study
from optuna.samplers import RandomSampler

from search_spaces import domains
from search_spaces.convert import suggest
from search_spaces.domains import Parameter
from study.experiment import ExperimentError, built_in, from_document, load
from study.preflight import runtime
from tests.study.lab import laboratory
from trainables import documents
from trainables.comparison import prepare
from trainables.config import TrialConfig

HEAD = {
    "about": {"title": "t", "question": "q"},
    "search": {"trials": 2},
    "space": {"seed": {"integer": [0, 9]}},
}


def errors(document: dict[str, Any]) -> list[str]:
    with pytest.raises(ExperimentError) as raised:
        from_document("x", document)
    return raised.value.errors


@pytest.mark.parametrize("name", built_in())
def test_every_built_in_experiment_is_valid_and_says_what_it_asks(name: str) -> None:
    about = load(name).about
    assert all((about.title, about.question, about.section, about.time, about.result))
    assert about.command.startswith(f"filter-study run {name}")


@pytest.mark.parametrize("name", built_in())
def test_an_experiment_that_is_shown_reads_back_as_the_same(name: str, tmp_path: Path) -> None:
    experiment = load(name)
    file = tmp_path / f"{name}.yaml"
    file.write_text(experiment.to_yaml())
    assert load(str(file)) == experiment


@pytest.mark.slow
@pytest.mark.parametrize("name", built_in())
def test_the_smoke_form_of_every_built_in_experiment_trains_on_what_comes_with_the_program(name: str) -> None:
    experiment = load(name, smoke=True)
    corners = experiment.corners()
    for corner in (corners[0], corners[-1]):
        comparison = prepare(TrialConfig.from_dotted(corner), runtime(experiment, "cpu"))
        before, after = comparison.step(), comparison.step()
        assert {row["arm"] for row in after} == set(comparison.config.arms)
        for row in after:  # a method's work before its first update can take a whole share of the budget
            assert row["cumulative_samples_trained"] > 0 or row["auxiliary_compute"] > 0, row["arm"]
        assert [row["epoch"] for row in (*before, *after)] == [0] * len(before) + [1] * len(after)


def test_a_smoke_form_is_set_before_the_command_line() -> None:
    experiment = load("controls_and_peers", ["epochs=7"], smoke=True)
    assert experiment.trial["epochs"] == 7
    assert experiment.trial["dataset.samples_per_class"] == 40
    assert "seed" not in experiment.space


def test_an_experiment_without_a_smoke_form_says_so(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("about: {title: t, question: q}\nsearch: {trials: 4}\n")
    with pytest.raises(ExperimentError, match="has no section smoke"):
        load(str(file), smoke=True)


def test_the_cost_counts_the_epochs_of_every_arm_of_every_comparison() -> None:
    experiment = load("mnist_epochwise")
    assert experiment.cost == 3 * 300 * 4
    assert load("quickstart").cost == 16 * 8 * 3


def test_the_quickstart_compares_the_archetype_with_batchwise_filtering_at_least_16_times() -> None:
    experiment = load("quickstart")
    arms = TrialConfig.from_dotted(experiment.trial).arms
    of_arms = {name: arm.granularity for name, arm in arms.items()}
    assert of_arms == {"archetype": "none", "filtered": "batch", "random": "batch"}
    assert arms["random"].follows == "filtered"
    assert experiment.trials >= 16
    assert (experiment.search.name, experiment.scheduler.name) == ("optuna", "asha")


def test_mnist_fcnet_holds_the_settings_of_appendix_ii() -> None:
    experiment = load("mnist_fcnet")
    configs = [TrialConfig.from_dotted(corner) for corner in experiment.corners()]
    assert [config.model.name for config in configs] == ["FCNet100", "FCNet1000", "FCNet3000"]
    for config in configs:
        assert config.dataset.name == "mnist"
        assert (config.batch_size, config.epochs, config.augmentation) == (256, 500, "none")
        assert config.optimizer.model_dump() == {
            "name": "SGD", "lr": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0005,
        }  # fmt: skip
        assert config.schedule.model_dump() == {"name": "exponential", "gamma": 0.995, "clock": "epochs"}


def test_all_errors_are_reported_at_once_with_path_value_and_what_is_allowed() -> None:
    found = errors(
        {
            "about": {"title": "t"},
            "dataset": {"nme": "mnist5k"},
            "optimizer": {"name": "SDG", "lr": 0.1},
            "model": {"name": "VGG"},
            "epochs": 0,
            "space": {"batch_size": {"choice": [16, 0]}, "seed": {"integer": [5, 2]}, "include": ["optimiser"]},
            "search": {"trials": "many"},
            "schedulr": {},
        }
    )
    expected = [
        "about.question: is missing",
        "dataset.nme: unknown key; did you mean 'name'?",
        "optimizer.name: 'SDG': must be one of 'SGD', 'Adam', 'AdamW'",
        "model.name: 'VGG': must be LeNet",
        "epochs: 0: input should be greater than 0",
        "batch_size: 0: input should be greater than 0",
        "space.seed: integer needs a lower and a higher bound; it has 5 and 2",
        "space.include: 'optimiser' is not one of optimizer",
        "search.trials: 'many': input should be a valid integer",
        "schedulr: unknown key; did you mean 'scheduler'?",
    ]
    for line in expected:
        assert any(error.startswith(line) for error in found), (line, found)
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"optimizer": {"name": "Adam", "momentum": 0.5}},
            "optimizer.momentum: unknown key of Adam; known here: amsgrad, lr, name, weight_decay",
        ),
        (
            {"schedule": {"gama": 0.5, "name": "multistep"}},
            "schedule.gama: unknown key; did you mean 'gamma'",
        ),
        ({"schedule": {"gamma": 0.5}}, "schedule.gamma: unknown key of none; known here: name"),
        (
            {"arms": {"filtered": {"granularty": "epoch"}}},
            "arms.filtered.granularty: unknown key; did you mean 'granul",
        ),
        ({"space": {"seed": {"chioce": [1]}}}, "space.seed.chioce: unknown key; did you mean 'choice'?"),
        ({"space": {"seed": {"choice": [[1]]}}}, "space.seed.choice: [[1]]: choice must be a list of numbers"),
        (
            {"search": {"trials": 2, "sampler": "bayes"}},
            "search.sampler: 'bayes': input should be 'tpe', 'gp', 'cmaes', 'nsgaii' or 'random'",
        ),
        ({"space": {"optimizer.lr": {"uniform": [-1, 1]}}}, "optimizer.lr: -1.0: input should be greater than 0"),
        ({"space": {"seed": {"choice": [1]}, "include": "method"}, "search": {"name": "grid", "trials": 3}}, "grid"),
        ({"space": {"optimizer.lr": {"uniform": [0.1, 1]}}, "search": {"name": "grid"}}, "give optimizer.lr as choice"),
        ({"search": {}}, "search: trials is missing"),
        ({"objective": {"metric": "gap/steps"}}, "objective.metric: 'gap/steps': must be gap/METRIC or ARM/METRIC"),
        ({"objective": {"metric": "other/test_accuracy"}}, "'other' is no arm of this experiment"),
        ({"dataset": {"validation_fraction": 0}}, "objective.metric: 'gap/validation_accuracy' needs a validation set"),
        ({"space": {"include": ["sgd", "optimizer"]}}, "space: searched twice: optimizer.lr"),
        ({"space": {"optimizer.momentum": {"choice": [0.5], "when": {"optimizer.nme": "SGD"}}}}, "conditional on"),
        ({"space": [1]}, "space: must map keys to parameters"),
        ({"optimizer": 3}, "optimizer: 3"),
        ({"scheduler": {"name": "asha", "grace_period": 301}}, "grace_period: 301 is more than the 300 epochs"),
        ({"space": {"include": 5}}, "space.include: 5 is not one of optimizer"),
        ({"space": {"include": [["sgd"]]}}, "space.include: ['sgd'] is not one of"),
        ({"space": {5: {"choice": [1]}}}, "space.5: a key must be the dotted name"),
        ({"search": {"trials": 2, "seed": 2**32}}, "search.seed: 4294967296: input should be less than 4294967296"),
        ({"space": {}}, "space: nothing is searched, so every comparison would be the same"),
        ({"space": {"seed": {"integer": [0, 10**8]}}, "search": {"name": "grid"}}, "more than 100,000 points by seed"),
        ({"optimizer": {"lr": 0.2}, "optimizer.lr": 0.1}, "set twice, as a section's key and by its dotted name"),
        ({"arms": {"filtered": {"granularity": "none", "raw_batch_size": 8}}}, "arms.filtered: raw_batch_size means"),
    ],
)
def test_a_mistake_is_named(document: dict[str, Any], message: str) -> None:
    assert any(message in error for error in errors({**HEAD, **document}))


RATE = {"optimizer.lr": {"loguniform": [0.01, 0.1]}}
TWO = {"metric": ["gap/test_accuracy", "filtered/cumulative_compute"]}


def optuna(sampler: str = "tpe", **more: Any) -> dict[str, Any]:
    return {"search": {"trials": 9, "sampler": sampler, **more}, "space": RATE}


def own_searches(sampler: str = "tpe", **more: Any) -> dict[str, Any]:
    return optuna(sampler, **{"each": "arm", "trials": 8, **more})


CLASHES = [
    (
        {**optuna("cmaes"), "space": {**RATE, "batch_size": {"choice": [8, 16]}}},
        "search.sampler: cmaes searches numbers that always exist, and batch_size is a choice or conditional; use tpe",
    ),
    (
        {**optuna("cmaes"), "space": {**RATE, "optimizer.momentum": {"uniform": [0, 0.9], "when": {"seed": 0}}}},
        "search.sampler: cmaes searches numbers that always exist, and optimizer.momentum is a choice or conditional; "
        "use tpe",
    ),
    (
        {**optuna("cmaes"), "objective": TWO},
        "search.sampler: cmaes has one objective; use nsgaii or tpe for several",
    ),
    *(
        (
            {**optuna(sampler), "scheduler": {"name": scheduler}},
            f"search.sampler: {sampler} learns from complete comparisons alone, and scheduler.name {scheduler} stops "
            "most of them; use tpe, or scheduler.name none",
        )
        for sampler in ("gp", "cmaes", "nsgaii")
        for scheduler in ("asha", "hyperband", "median")
    ),
    (
        {**optuna(), "objective": TWO, "scheduler": {"name": "asha", "metric": "objective"}},
        "scheduler.metric: objective: asha needs one number, and there are several objectives; set it, for instance to "
        "better/validation_accuracy",
    ),
    (
        {**optuna(), "scheduler": {"name": "asha", "metric": "nobody/test_accuracy"}},
        "scheduler.metric: 'nobody' is no arm of this experiment; set it to better/METRIC, gap/METRIC or to a metric "
        "of archetype, filtered",
    ),
    (
        {**optuna(), "evaluate": {"train": 3}, "scheduler": {"name": "asha", "metric": "filtered/train_accuracy"}},
        "scheduler.metric: 'filtered/train_accuracy' is to be known after every epoch, and evaluate.train is 3",
    ),
    (
        {**optuna(), "evaluate": {"train": "running"}, "objective": {"metric": "gap/train_mean_loss"}},
        "objective.metric: 'gap/train_mean_loss' is to be known after every epoch, and evaluate.train is running",
    ),
    (
        {
            **optuna(),
            "dataset": {"validation_fraction": 0},
            "evaluate": {"train": 3},
            "objective": {"metric": "gap/test_accuracy"},
        },
        "objective.baseline_floor: 0.5 is asked of training accuracy where dataset.validation_fraction is 0",
    ),
    (
        {**optuna(), "scheduler": {"metric": "gap/steps"}},
        "scheduler.metric: 'gap/steps': must be gap/METRIC or ARM/METRIC with one of the metrics train_accuracy",
    ),
    (
        {
            **optuna(),
            "dataset": {"validation_fraction": 0},
            "objective": {"metric": "gap/test_accuracy"},
            "scheduler": {"name": "asha", "metric": "filtered/validation_accuracy"},
        },
        "scheduler.metric: 'filtered/validation_accuracy' needs a validation set, and dataset.validation_fraction is 0",
    ),
    (
        {**optuna(), "epochs": 26, "scheduler": {"name": "hyperband", "brackets": 4}},
        "scheduler.brackets: 4: the last bracket would start at epoch 27 of 26; have fewer, or a smaller grace_period "
        "or reduction_factor, or use asha",
    ),
    (
        {**optuna(), "epochs": 20, "scheduler": {"name": "median", "grace_period": 21}},
        "scheduler.grace_period: 21 is more than the 20 epochs of a comparison; lower it, or set scheduler.name to",
    ),
    (
        {**optuna(), "epochs": 20, "dead_run": {"epochs": 21}},
        "dead_run.epochs: 21 is more than the 20 epochs there are",
    ),
    ({"seeds": 2}, "seeds: 2: seed is searched too; leave out one of them"),
    (
        {"seeds": 2, "search": {"name": "points", "points": [{"seed": 1}]}, "space": {}},
        "seeds: 2: seed is searched too; leave out one of them",
    ),
    ({"seeds": 0}, "seeds: 0: input should be greater than 0"),
    (optuna(points=[{"optimizer.lr": 0.5}]), "search.points: optimizer.lr: 0.5 is not in the space"),
    (optuna(points=[{"optimizer.lr": "1/2"}]), "optimizer.lr: '1/2': input should be a valid number"),
    (
        {"search": {"name": "points", "points": [{"batch_size": 8}, {}, {"batch_size": "8"}]}, "space": {}},
        "search.points: number 3 is the same comparison as number 1; leave one out",
    ),
    (
        {**optuna("gp"), "space": {"seed": {"integer": [0, 2**31]}}},
        "space.seed: integer: [0, 2147483648]: search.sampler gp lists every number between the bounds",
    ),
    ({"wandb": {"project": 2024}}, "wandb.project: 2024: input should be a valid string; put it in quotes"),
    ({"seeds": True}, "seeds: 'true': input should be a valid integer"),
    (
        optuna(points=[{"optimizer.lr": 0.05}, {"batch_size": 8}]),
        "search.points: batch_size is not searched; leave it out, or use search.name points",
    ),
    (optuna(points=[{"optimizer.lrr": 0.5}]), "optimizer.lrr: unknown key; did you mean 'lr'?"),
    (
        {"search": {"name": "points", "points": [{"epochs": 0}, {"batch_size": 0}]}},
        "batch_size: 0: input should be greater than 0",
    ),
    (
        {"search": {"name": "random", "trials": 3, "points": [{"optimizer.nesterov": True, "optimizer.momentum": 0}]}},
        "optimizer: nesterov needs a momentum above 0",
    ),
    (
        optuna(points=[{"optimizer": {"lr": 0.1}}]),
        "search.points: [{'optimizer': {'lr': 0.1}}]: must be a list of points",
    ),
    (optuna(points={"optimizer.lr": 0.1}), "search.points: must be a list of points such as {optimizer.lr: 0.1, batch"),
    (
        {"space": {"optimizer.lr": [0.1, 0.2]}},
        "space.optimizer.lr: [0.1, 0.2]: a parameter is a section such as {choice:",
    ),
    ({"arms": {"mine": None}}, "arms.mine: None: must be a section with keys of its own; {} has all defaults"),
    ({"dataset": "mnist"}, "dataset: 'mnist': must be a section with keys of its own"),
    ({"batch_size": {"choice": [8]}}, "batch_size: {'choice': [8]}: input should be a valid integer"),
    (
        {"search": {"name": "grid", "points": [{"seed": 1}]}},
        "search: a grid has its own points; leave points out, or use search.name points",
    ),
    (
        {"search": {"name": "points"}, "space": {}},
        "search: search.name points needs points: a list of the keys to set in each comparison",
    ),
    (
        {"search": {"name": "points", "points": [{"seed": 1}], "trials": 3}},
        "search: search.name points runs every point; leave trials out, or use search.name random",
    ),
    (
        {"search": {"name": "random"}},
        "search: trials is missing: say how many configurations search.name random may try",
    ),
    ({"objective": {"metric": []}}, "objective.metric"),
    (
        {"objective": {"metric": ["gap/test_accuracy", "gap/test_accuracy"]}},
        "objective.metric: ['gap/test_accuracy', 'gap/test_accuracy']: names a metric twice: gap/test_accuracy",
    ),
    (
        {"objective": {"metric": ["gap/test_accuracy", "gap/steps"]}},
        "objective.metric: ['gap/test_accuracy', 'gap/steps']: 'gap/steps': must be gap/METRIC or ARM/METRIC",
    ),
    ({"recovery": {"checkpoints": 0}}, "recovery.checkpoints: 0: input should be greater than or equal to 1"),
    ({"recovery": {"max_failure": 0}}, "recovery.max_failure: unknown key; did you mean 'max_failures'?"),
    ({"resources": {"memory_gib": 0}}, "resources.memory_gib: 0: input should be greater than 0"),
    ({"dead_run": {"epochs": 0}}, "dead_run.epochs: 0: input should be greater than 0"),
    (optuna(each="arms"), "search.each: 'arms': input should be 'comparison' or 'arm'"),
    (own_searches(trials=9), "search.trials: 9: with search.each arm baseline and treatment propose in turn, as many"),
    (own_searches("cmaes"), "search.each: arm: search.sampler cmaes learns only from its own proposals"),
    (own_searches("random"), "search.each: arm: search.sampler random does not learn from what it has tried"),
    (own_searches(name="random"), "search.each: arm: search.name random does not learn from what it has tried"),
    (
        {**own_searches(), "objective": {"metric": "gap/test_accuracy"}},
        "objective.metric: gap/test_accuracy: with search.each arm each arm would be tuned on the test set",
    ),
    ({**own_searches(), "objective": TWO}, "objective.metric: gap/test_accuracy, filtered/cumulative_compute: with"),
    *(
        (
            {**own_searches(), "objective": {"metric": metric}},
            f"objective.metric: {metric}: with search.each arm each arm is tuned by its own METRIC of gap/METRIC",
        )
        for metric in ("filtered/validation_accuracy", "gap/cumulative_compute")
    ),
    *(
        (
            {**own_searches(), "scheduler": {"name": "asha", "metric": metric}},
            f"scheduler.metric: {metric}: does not look at both arms alike",
        )
        for metric in ("objective", "gap/validation_accuracy", "archetype/validation_accuracy")
    ),
    (
        {**own_searches(), "space": {**RATE, "baseline": {"choice": ["archetype", "random"]}}, "arms": {"random": {}}},
        "space.baseline: with search.each arm the arm that is tuned is the same in all comparisons; set it once",
    ),
]


@pytest.mark.parametrize(("document", "message"), CLASHES)
def test_what_does_not_go_together_is_refused_with_what_to_do(document: dict[str, Any], message: str) -> None:
    found = errors({**HEAD, **document})
    assert any(error.startswith(message) for error in found), found


def test_what_does_not_go_together_is_reported_at_once() -> None:
    found = errors(
        {
            **HEAD,
            "epochs": 5,
            "seeds": 3,
            "dataset": {"validation_fraction": 0},
            "space": {"seed": {"integer": [0, 9]}, "batch_size": {"choice": [8, 16]}},
            "search": {"trials": 5, "sampler": "cmaes", "points": [{"batch_size": 4}, {"epochs": 3}]},
            "objective": {"metric": ["gap/validation_accuracy", "nobody/test_accuracy"]},
            "scheduler": {"name": "hyperband", "metric": "objective", "grace_period": 6},
            "dead_run": {"epochs": 7},
        }
    )
    beginnings = {error.partition(":")[0] for error in found}
    assert beginnings == {
        *("objective.metric", "scheduler.metric", "search.points", "search.sampler"),
        *("scheduler.grace_period", "scheduler.brackets", "dead_run.epochs", "seeds"),
    }
    assert len(found) == 12


@pytest.mark.parametrize(
    "document",
    [
        {**optuna("cmaes"), "search": {"trials": 9, "sampler": "cmaes"}},
        {**optuna("gp"), "objective": TWO},
        {**optuna("nsgaii"), "objective": TWO},
        {**optuna("nsgaii"), "space": {**RATE, "batch_size": {"choice": [8, 16]}}},
        {**optuna(), "objective": TWO, "scheduler": {"name": "asha", "metric": "filtered/test_accuracy"}},
        {**optuna(), "epochs": 27, "scheduler": {"name": "hyperband", "brackets": 4}},
        {**optuna(), "epochs": 20, "dead_run": {"epochs": 20}},
        {**optuna(), "seeds": 3},
        own_searches(),
        own_searches("gp"),
        own_searches("nsgaii"),
        {**own_searches(), "scheduler": {"name": "asha", "metric": "better/validation_mean_loss"}},
        {**own_searches(), "objective": {"metric": "gap/validation_worst_loss"}, "scheduler": {"name": "median"}},
        {"seeds": 3, "search": {"name": "points", "points": [{"batch_size": 8}]}, "space": {}},
    ],
)
def test_what_goes_together_is_accepted(document: dict[str, Any]) -> None:
    assert from_document("x", {**HEAD, **document}).trials > 0


def test_what_cannot_be_tuned_arm_by_arm_is_reported_at_once() -> None:
    document = {
        **own_searches("cmaes", trials=9),
        "objective": {"metric": "filtered/validation_accuracy"},
        "scheduler": {"name": "asha", "metric": "objective"},
    }
    beginnings = {error.partition(":")[0] for error in errors({**HEAD, **document})}
    assert {"search.each", "search.trials", "objective.metric", "scheduler.metric"} <= beginnings


def test_one_search_tunes_the_comparison_unless_each_arm_is_to_have_its_own() -> None:
    one = from_document("x", {**HEAD, **optuna()})
    assert (one.search.each, one.each, one.proposed_by(0)) == ("comparison", {}, None)
    document = {**HEAD, **own_searches(), "objective": {"metric": "gap/validation_mean_loss"}, "seeds": 2}
    two = from_document("x", document)
    assert two.each == {"archetype/validation_mean_loss": "min", "filtered/validation_mean_loss": "min"}
    assert two.modes == ("max",)  # of the gap, by which comparisons are shown and confirmed
    sides = [two.proposed_by(number) for number in range(6)]
    assert sides == ["baseline", "baseline", "treatment", "treatment", "baseline", "baseline"]
    assert from_document("x", documents.parse(two.to_yaml())).each == two.each
    assert two.alone().each == {}


EVERYTHING: dict[str, Any] = {
    "about": {"title": "t", "question": "q", "section": "3", "command": "c", "time": "1 min", "result": "r"},
    "dataset": {"samples_per_class": 40, "validation_fraction": 0.2},
    "optimizer": {"name": "SGD", "lr": 0.05},
    "epochs": 27,
    "arms": {"filtered": {"raw_batch_size": 64}, "epochwise": {}},
    "space": {
        "include": ["schedule"],
        "optimizer.lr": {"loguniform": [0.01, 0.1]},
        "optimizer.momentum": {"uniform": [0, 0.9], "when": {"optimizer.name": "SGD"}},
        "batch_size": {"integer": [8, 64]},
    },
    "search": {
        "sampler": "tpe",
        "trials": 30,
        "seed": 7,
        "points": [
            {"optimizer.lr": 0.02, "batch_size": 16, "schedule.name": "none"},
            {"schedule.name": "exponential", "schedule.gamma": 0.9, "batch_size": 8},
        ],
    },
    "objective": {"metric": ["gap/test_accuracy", "filtered/cumulative_compute"], "baseline_floor": 0.6},
    "seeds": 3,
    "scheduler": {"name": "hyperband", "metric": "filtered/train_accuracy", "brackets": 4},
    "dead_run": {"epochs": 3, "margin": 0.05},
    "resources": {"cpu": 2, "memory_gib": 1.5},
    "recovery": {"checkpoint_seconds": 0, "checkpoints": 3, "max_failures": 1, "hang_seconds": 60},
    "wandb": {"mode": "disabled", "project": "mine"},
    "tensorboard": True,
    "data_dir": "elsewhere",
    "storage": "memory://study",
    "trace": True,
    "smoke": {"search.trials": 2, "epochs": 27},
}


def test_an_experiment_with_everything_in_it_reads_back_as_the_same(tmp_path: Path) -> None:
    experiment = from_document("all", EVERYTHING)
    file = tmp_path / "all.yaml"
    file.write_text(experiment.to_yaml())
    again = load(str(file))
    assert again == experiment
    assert again.to_yaml() == experiment.to_yaml()
    assert set(EVERYTHING) <= set(yaml.safe_load(file.read_text()))
    assert load(str(file), smoke=True).trials == 2 * 3
    assert again.points == experiment.points
    assert (again.trials, again.cost, again.longest) == (90, 90 * 27 * 3, 27)
    assert again.scheduled == ("filtered/train_accuracy", "max")


def test_a_point_is_completed_by_what_the_file_sets() -> None:
    first, second = from_document("all", EVERYTHING).points
    shared = {
        "dataset.samples_per_class": 40,
        "epochs": 27,
        "optimizer.name": "SGD",
        "arms.filtered.raw_batch_size": 64,
    }
    assert (shared | {"optimizer.lr": 0.02, "batch_size": 16, "schedule.name": "none"}).items() <= first.items()
    assert (shared | {"optimizer.lr": 0.05, "batch_size": 8, "schedule.gamma": 0.9}).items() <= second.items()
    assert "schedule.gamma" not in first
    assert "schedule.every" not in second


@pytest.mark.parametrize(
    ("sections", "looked_at"),
    [
        ({}, ("better/validation_accuracy", "max")),
        ({"objective": {"metric": "filtered/test_mean_loss"}}, ("better/validation_mean_loss", "min")),
        ({"objective": {"metric": "gap/test_worst_loss"}}, ("better/validation_worst_loss", "min")),
        ({"objective": {"metric": "gap/cumulative_train_seconds"}}, ("better/validation_accuracy", "max")),
        ({"objective": {"metric": "gap/train_seconds"}}, ("better/validation_accuracy", "max")),
        (
            {"objective": {"metric": ["gap/cumulative_compute", "gap/test_q90_loss"]}},
            ("better/validation_q90_loss", "min"),
        ),
        (
            {"objective": {"metric": "gap/test_accuracy"}, "dataset": {"validation_fraction": 0}},
            ("better/train_accuracy", "max"),
        ),
    ],
)
@pytest.mark.parametrize("rule", ["asha", "hyperband", "median"])
def test_a_rule_looks_at_the_better_arm_where_nothing_else_is_said(
    rule: str, sections: dict[str, Any], looked_at: tuple[str, str]
) -> None:
    document = {**HEAD, **optuna(), "scheduler": {"name": rule, "brackets": 2}, **sections}
    assert from_document("x", document).scheduled == looked_at


def test_a_rule_looks_at_what_it_is_told_to() -> None:
    def looked_at(**scheduler: Any) -> tuple[str, str]:
        return from_document("x", {**HEAD, **optuna(), "scheduler": {"name": "asha", **scheduler}}).scheduled

    assert looked_at(metric="filtered/test_mean_loss") == ("filtered/test_mean_loss", "min")
    assert looked_at(metric="objective") == ("objective", "max")
    assert looked_at(metric=None) == ("objective", "max")  # so the file of a study of an earlier version has it


def test_an_experiment_of_an_earlier_version_reads_back_with_what_its_rule_looked_at(tmp_path: Path) -> None:
    new = from_document("x", {**HEAD, **optuna(), "scheduler": {"name": "asha"}})
    file = tmp_path / "old.yaml"
    file.write_text(new.to_yaml().replace("metric: better/validation_accuracy", "metric: null"))
    old = load(str(file))
    assert old.scheduled == ("objective", "max")
    file.write_text(old.to_yaml())
    assert load(str(file)).scheduled == ("objective", "max")


def test_measuring_the_training_set_seldom_is_no_error_for_a_default_that_nobody_looks_at(tmp_path: Path) -> None:
    seldom = {
        "dataset": {"validation_fraction": 0},
        "evaluate": {"train": 5},
        "objective": {"metric": "gap/test_accuracy", "baseline_floor": 0},
    }
    document = {**HEAD, **optuna(), **seldom}
    file = tmp_path / "x.yaml"
    file.write_text(from_document("x", document).to_yaml())
    assert load(str(file)).scheduler.name == "none"
    found = errors({**document, "scheduler": {"name": "asha"}})
    assert any("'better/train_accuracy' is to be known after every epoch" in line for line in found)


def test_the_better_arm_is_nothing_to_search_for() -> None:
    (line,) = errors({**HEAD, **optuna(), "objective": {"metric": "better/test_accuracy"}})
    assert line.startswith(
        "objective.metric: 'better/test_accuracy': better/test_accuracy says how good the better arm is"
    )
    assert "scheduler.metric alone" in line


@pytest.mark.parametrize(
    ("document", "configurations", "trials", "cost"),
    [
        ({"search": {"name": "grid"}}, 10, 10, 10 * 20 * 2),
        ({"search": {"name": "random", "trials": 4}}, 4, 4, 4 * 20 * 2),
        ({"search": {"name": "random", "trials": 4}, "space": RATE, "seeds": 3}, 4, 12, 12 * 20 * 2),
        ({"search": {"name": "grid"}, "space": {"epochs": {"choice": [5, 10]}}, "seeds": 2}, 2, 4, 2 * (5 + 10) * 2),
        ({"search": {"trials": 4}, "space": {"epochs": {"choice": [5, 10]}}}, None, 4, 4 * 10 * 2),
        (
            {"search": {"name": "points", "points": [{"epochs": 5}, {}, {"batch_size": 8}]}, "space": {}, "seeds": 2},
            *(3, 6, 2 * (5 + 20 + 20) * 2),
        ),
        (
            {"search": {"name": "points", "points": [{}, {"arms.epochwise.granularity": "epoch"}]}, "space": {}},
            *(2, 2, 20 * 2 + 20 * 3),
        ),
        ({"search": {"name": "random", "trials": 2, "points": [{"epochs": 30}, {"epochs": 29}, {}]}}, 2, 2, 2 * 30 * 2),
        ({"search": {"trials": 4, "points": [{"seed": 3}]}, "epochs": 7}, None, 4, 4 * 7 * 2),
    ],
)
def test_comparisons_and_their_cost_are_counted_before_anything_runs(
    document: dict[str, Any], configurations: int | None, trials: int, cost: int
) -> None:
    experiment = from_document("x", {**HEAD, "epochs": 20, **document})
    listed = experiment.configurations
    assert (None if listed is None else len(listed)) == configurations
    assert (experiment.trials, experiment.cost) == (trials, cost)


def test_points_stand_before_the_draws_of_a_random_search() -> None:
    points = [{"optimizer.lr": 0.5}, {"optimizer.lr": 0.07, "batch_size": 8}]
    document = {**HEAD, "space": RATE, "batch_size": 16}
    plain = from_document("x", document | {"search": {"name": "random", "trials": 5}})
    pointed = from_document("x", document | {"search": {"name": "random", "trials": 5, "points": points}})
    rates = [(c["optimizer.lr"], c["batch_size"]) for c in pointed.configurations or ()]
    assert rates[:2] == [(0.5, 16), (0.07, 8)]
    assert rates[2:] == [(c["optimizer.lr"], c["batch_size"]) for c in plain.configurations or ()][:3]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_first_draws_of_a_random_search_are_the_same_however_many_there_are(
    one: int, other: int, seed: int
) -> None:
    space = {"include": "optimizer", "epochs": {"integer": [3, 9]}}
    few, many = (
        from_document("x", {**HEAD, "space": space, "search": {"name": "random", "trials": trials, "seed": seed}})
        for trials in sorted((one, other))
    )
    assert (many.configurations or [])[: few.trials] == few.configurations
    assert many.trials == max(one, other)


def test_alone_an_experiment_is_the_one_comparison_that_its_file_sets() -> None:
    alone = from_document("all", EVERYTHING).alone()
    assert (alone.trials, alone.scheduler.name, alone.space) == (1, "none", {})
    assert alone.configurations == [alone.trial]
    assert from_document("alone", yaml.safe_load(alone.to_yaml())).configurations == [alone.trial]


def test_a_value_is_set_from_the_command_line_under_its_dotted_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("about: {title: t, question: q}\nspace: {include: [sgd]}\nsearch: {trials: 4}\n")
    experiment = load(str(file), ["optimizer.lr=1e-2", "search.trials=7", "space.seed={choice: [1, 2]}"])
    assert experiment.name == "mine"
    assert experiment.trial["optimizer.lr"] == 0.01
    assert experiment.trials == 7
    assert set(experiment.space) == {"optimizer.momentum", "optimizer.weight_decay", "seed"}
    assert experiment.space["seed"] == Parameter(choice=(1, 2))


def test_setting_a_section_or_another_kind_takes_what_belonged_to_the_old_one_with_it() -> None:
    adam = load("quickstart", ["optimizer.name=Adam"])
    assert "optimizer.momentum" not in adam.fixed
    assert {values["optimizer.name"] for values in adam.corners()} == {"Adam"}
    whole = load("quickstart", ["optimizer={name: SGD, lr: 0.3}"])
    assert not any(key.startswith("optimizer.") for key in whole.space)
    assert {values["optimizer.lr"] for values in whole.corners()} == {0.3}


def test_a_method_of_ones_own_gives_way_to_a_built_in_one_and_the_other_way_round(tmp_path: Path) -> None:
    laboratory(tmp_path / "lab", "lab_set")
    own = "lab_set.methods:Forgotten"
    head = "about: {title: t, question: q}\nsearch: {trials: 1}\ntreatment: mine\ncode: lab\n"
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"{head}arms: {{archetype: {{}}, mine: {{granularity: batch, selector: {{use: '{own}', keep: 0.5}}}}}}\n"
    )
    keys = load(str(file)).trial
    assert keys["arms.mine.selector.keep"] == 0.5
    built_in = load(str(file), ["arms.mine.selector.name=top_k", "arms.mine.selector.k=5"]).trial
    assert {key: value for key, value in built_in.items() if "mine.selector" in key} == {
        "arms.mine.selector.name": "top_k",
        "arms.mine.selector.k": 5,
    }
    file.write_text(f"{head}arms: {{archetype: {{}}, mine: {{filter: none, selector: {{name: top_k, k: 5}}}}}}\n")
    back = load(str(file), [f"arms.mine.selector.use={own}", "arms.mine.selector.keep=1"]).trial
    assert {key: value for key, value in back.items() if "mine.selector" in key} == {
        "arms.mine.selector.use": own,
        "arms.mine.selector.keep": 1.0,
    }


def test_a_conditional_key_that_is_set_stays_conditional() -> None:
    experiment = load("quickstart", ["optimizer.momentum=0.5"])
    momenta = {(values["optimizer.name"], values.get("optimizer.momentum")) for values in experiment.corners()}
    assert momenta == {("SGD", 0.5), ("Adam", None)}


def test_command_line_mistakes_join_the_others() -> None:
    with pytest.raises(ExperimentError) as raised:
        load("quickstart", ["optimizer.lr", "dataset.name.x=1", "epochs=-1"])
    first, second, third = raised.value.errors
    assert first.startswith("--set optimizer.lr: must be key=value")
    assert second == "--set dataset.name.x=1: dataset.name is a value, not a section"
    assert third.startswith("epochs: -1")
    assert str(raised.value).startswith("quickstart: 3 errors\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3\nepochs: 4\n", "line 2: set twice: epochs"),
        ("epochs: [3\n", "line 2"),
        ("- 1\n", "must be a YAML mapping"),
        ("a: &a {b: *a}\n", "sections with named keys|recurs"),
        ("seed: " + "9" * 5000 + "\n", "line 1: 9+ is no whole number that can be read"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ExperimentError, match=message):
        load(str(file))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ExperimentError, match="did you mean 'quickstart'"):
        load("quikstart")


def test_numbers_may_be_written_with_an_exponent(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("about: {title: t, question: q}\noptimizer: {lr: 5e-4}\nsearch: {trials: 1}\n")
    assert load(str(file)).trial["optimizer.lr"] == 5e-4


def test_a_key_that_is_set_and_searched_is_not_shared() -> None:
    document = {**HEAD, "batch_size": 8, "space": {"batch_size": {"choice": [16, 32]}}}
    experiment = from_document("x", document)
    assert "batch_size" not in experiment.fixed
    assert experiment.trial["batch_size"] == 8


LOOSE: dict[str, Any] = {
    "batch_size": "8",
    "dataset": {"classes": 10.0},
    "optimizer": {"lr": 1, "nesterov": "yes"},
    "space": {
        "batch_size": {"choice": ["16", 32.0], "when": {"dataset.classes": "10", "optimizer.nesterov": 1}},
        "optimizer.lr": {"choice": ["0.5", 1], "when": {"batch_size": [16.0]}},
    },
    "search": {"name": "random", "trials": 9, "points": [{"batch_size": "16", "optimizer.lr": 1}]},
}
STRICT: dict[str, Any] = {
    "batch_size": 8,
    "dataset": {"classes": 10},
    "optimizer": {"lr": 1.0, "nesterov": True},
    "space": {
        "batch_size": {"choice": [16, 32], "when": {"dataset.classes": 10, "optimizer.nesterov": True}},
        "optimizer.lr": {"choice": [0.5, 1.0], "when": {"batch_size": 16}},
    },
    "search": {"name": "random", "trials": 9, "points": [{"batch_size": 16, "optimizer.lr": 1.0}]},
}


def test_a_value_is_what_a_configuration_holds_however_it_is_written() -> None:
    loose, strict = (from_document("x", {**HEAD, **document}) for document in (LOOSE, STRICT))
    assert repr(loose) == repr(strict)
    assert repr(loose.configurations) == repr(strict.configurations)
    assert {values["batch_size"] for values in loose.configurations or ()} == {16, 32}
    for values in loose.configurations or ():
        held = TrialConfig.from_dotted(values).to_dotted()
        assert {key: repr(value) for key, value in values.items()} == {key: repr(held[key]) for key in values}


def test_a_default_that_a_condition_looks_at_is_that_of_the_files_own_settings() -> None:
    document = {
        **HEAD,
        "optimizer": {"name": "Adam"},
        "dataset": {"name": "cifar10"},
        "space": {
            "batch_size": {"choice": [8, 16], "when": {"optimizer.lr": 0.001}},
            "epochs": {"choice": [1, 2], "when": {"augmentation": "none"}},
        },
        "search": {"name": "grid"},
    }
    configs = [TrialConfig.from_dotted(values) for values in from_document("x", document).configurations or ()]
    assert [(config.batch_size, config.epochs) for config in configs] == [(8, 300), (16, 300)]
    assert {(config.optimizer.lr, config.augmentation) for config in configs} == {(0.001, "thesis")}


UNFIT = [
    (
        {"batch_size": {"uniform": [16, 64]}},
        {},
        "space.batch_size: uniform draws fractions, and batch_size takes whole",
    ),
    ({"optimizer.lr": {"uniform": [0, 1]}}, {}, "optimizer.lr: 0.0: input should be greater than 0"),
    (
        {"optimizer.momentum": {"uniform": [0, 0.9]}, "optimizer.nesterov": {"choice": [False, True]}},
        {},
        "optimizer: nesterov needs a momentum above 0; the search can propose optimizer.momentum 0.0, "
        "optimizer.nesterov True: leave out a value, or give a key a condition (when)",
    ),
    (
        {"arms.filtered.selector.k": {"integer": [2, 10]}},
        {"arms": {"filtered": {"selector": "q_split", "k": 4}}},
        "arms.filtered.selector: k must be a multiple of buckets: 3 samples are not 2 equal parts; the search can "
        "propose arms.filtered.selector.k 3",
    ),
    (
        {"arms.filtered.selector.k": {"integer": [2, 1000]}},
        {"arms": {"filtered": {"selector": "q_split", "k": 4}}},
        "arms.filtered.selector: k must be a multiple of buckets",
    ),
    (
        {"dataset.name": {"choice": ["mnist5k", "cifar10"]}, "augmentation": {"choice": ["none", "standard"]}},
        {},
        "experiment: augmentation 'standard' is for colour pictures",
    ),
    (
        {
            "arms.filtered.selector.name": {"choice": ["all", "top_q"]},
            "arms.filtered.filter.name": {"choice": ["none", "hard"]},
            "optimizer.lr": {"loguniform": [0.01, 0.1]},
            "batch_size": {"choice": [8, 16, 32, 64]},
            "seed": {"integer": [0, 9]},
        },
        {},
        "arms.filtered: with neither filter nor selector nothing is selected",
    ),
    ({"augmentation": {"choice": [None, "none"]}}, {}, "space.augmentation: None is held as 'none'; say what is held"),
    (
        {"dataset.name": {"choice": ["mnist5k", "cifar10"]}, "seed": {"choice": [1], "when": {"augmentation": "none"}}},
        {},
        "space: a condition looks at augmentation, whose default differs between configurations; set augmentation",
    ),
]


@pytest.mark.parametrize("search", [{"name": "random", "trials": 3}, {"trials": 3}])
@pytest.mark.parametrize(("space", "settings", "message"), UNFIT)
def test_a_space_with_a_value_that_cannot_be_is_refused(
    space: dict[str, Any], settings: dict[str, Any], message: str, search: dict[str, Any]
) -> None:
    found = errors({**HEAD, **settings, "space": space, "search": search})
    assert any(error.startswith(message) for error in found), found


@pytest.mark.parametrize("search", [{"name": "grid"}, {"name": "random", "trials": 2000}])
def test_a_search_that_lists_its_configurations_is_checked_whole(search: dict[str, Any]) -> None:
    """One in 1,200 combinations cannot be, which the sample that a space is judged by does not have."""
    space = {
        "arms.filtered.selector.k": {"choice": [*range(60, 12000, 60), 12]},
        "arms.filtered.selector.buckets": {"choice": [2, 3, 4, 5, 6, 12]},
        "seed": {"choice": [0, 1]},
    }
    document = {**HEAD, "arms": {"filtered": {"selector": "q_split", "k": 60}}, "space": space}
    (error,) = errors({**document, "search": search})
    assert error.startswith("arms.filtered.selector: k must be a multiple of buckets: 12 samples are not 5 equal parts")


def test_a_study_that_has_begun_goes_on_with_what_a_check_would_refuse_today() -> None:
    points = [{"arms.filtered.selector.k": 4}, {"arms.filtered.selector.k": 4}]
    document = {
        **HEAD,
        "arms": {"filtered": {"selector": "q_split", "k": 4}},
        "space": {"arms.filtered.selector.k": {"integer": [2, 10]}},
        "search": {"name": "random", "trials": 3, "points": points},
    }
    assert errors(document)[0].startswith("arms.filtered.selector: k must be a multiple of buckets")
    assert errors({**document, "space": RATE})[0].startswith("search.points: number 2 is the same comparison")
    assert from_document("x", document, begun=True).trials == 3


NUMBERS = st.sampled_from([0, 1e-3, 0.1, "0.1", 0.5, 0.9, 1, 2, 3, 4.0, "4", 6, 8, 10, 12, 100])
WORDS = {
    "optimizer.name": ["SGD", "Adam", "AdamW"],
    "optimizer.nesterov": [True, False, "yes", 0],
    "dataset.name": ["mnist5k", "cifar10"],
    "augmentation": ["none", "standard", None],
    "arms.filtered.selector.name": ["all", "top_q", "q_split"],
    "arms.filtered.filter.name": ["none", "hard", "soft"],
    "arms.filtered.granularity": ["epoch", "batch", "epoch+batch"],
}
NUMERIC = [
    "batch_size",
    "optimizer.lr",
    "optimizer.momentum",
    "arms.filtered.selector.k",
    "arms.filtered.selector.buckets",
    "epochs",
]


@st.composite
def spaces_of_real_keys(draw: st.DrawFn) -> dict[str, Any]:
    keys = draw(st.lists(st.sampled_from([*WORDS, *NUMERIC]), min_size=1, max_size=4, unique=True))
    space: dict[str, Any] = {}
    for key in keys:
        values = st.sampled_from(WORDS[key]) if key in WORDS else NUMBERS
        kind = "choice" if key in WORDS else draw(st.sampled_from(["choice", "uniform", "loguniform", "integer"]))
        size = (1, 3) if kind == "choice" else (2, 2)
        stated = draw(st.lists(values, min_size=size[0], max_size=size[1], unique_by=str))
        space[key] = {kind: stated if kind == "choice" else sorted(stated, key=float)}
        earlier = [other for other in space if other in WORDS and other != key]
        if earlier and draw(st.booleans()):
            other = draw(st.sampled_from(earlier))
            space[key]["when"] = {other: draw(st.sampled_from(WORDS[other]))}
    return space


@given(spaces_of_real_keys(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_whatever_is_drawn_from_a_space_that_is_accepted_is_valid_and_held_as_it_is(
    space: dict[str, Any], seed: int
) -> None:
    for arms in ({}, {"arms": {"filtered": {"selector": "q_split", "k": 4}}}):
        with contextlib.suppress(ExperimentError):
            experiment = from_document("x", {**HEAD, **arms, "space": space})
            break
    else:
        reject()
    rng = Random(seed)
    drawn = [domains.sample(experiment.space, experiment.fixed, rng) for _ in range(12)]
    drawn += [suggest(ask, experiment.space, experiment.fixed) for ask in _asked(seed, 4)]
    for values in drawn[:4]:
        near = {key: experiment.space[key].near(values[key], rng) for key in values.keys() & experiment.space.keys()}
        drawn += [values | {key: value} for key, value in near.items() if not _looked_at_by(experiment.space, key)]
    with contextlib.suppress(domains.SpaceError):
        drawn += domains.grid(experiment.space, experiment.fixed)[:12]
    for values in drawn:
        held = TrialConfig.from_dotted(values).to_dotted()
        searched = values.keys() & experiment.space.keys()
        assert {key: repr(values[key]) for key in searched} == {key: repr(held[key]) for key in searched}
        assert all(experiment.space[key].contains(held[key]) for key in searched)


def _asked(seed: int, count: int) -> list[Trial]:
    study = create_study(sampler=RandomSampler(seed=seed))
    return [study.ask() for _ in range(count)]


def _looked_at_by(space: Mapping[str, Parameter], key: str) -> bool:
    return any(key in parameter.when for parameter in space.values())


def test_a_file_may_share_what_its_sections_have_in_common(tmp_path: Path) -> None:
    file = tmp_path / "shared.yaml"
    file.write_text(
        "about: {title: t, question: q}\n"
        "arms:\n"
        "  filtered: &ours {granularity: batch, raw_batch_size: 64}\n"
        "  mine: {<<: *ours, filter: soft}\n"
        "search: {trials: 1}\n"
    )
    arms = TrialConfig.from_dotted(load(str(file)).trial).arms
    assert (arms["mine"].raw_batch_size, arms["mine"].filter.name) == (64, "soft")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=010", "--set seed=010: 010 begins with a zero; write 10, or 0o10 for an octal number"),
        ("seed=1:30", "seed: '1:30': input should be a valid integer"),
        ("seed=", "--set seed=: has no value; write seed=null for none, seed=\"''\" for an empty text"),
        ("seed=true", "seed: 'true': input should be a valid integer"),
        ("seed={a: 1, a: 2}", "--set seed={a: 1, a: 2}: set twice: a"),
        ("storage=2024", "storage: 2024: input should be a valid string; put it in quotes"),
    ],
)
def test_a_value_that_the_command_line_cannot_mean_is_refused(override: str, message: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        load("mnist_fcnet", [override])
    (error,) = raised.value.errors
    assert error.startswith(message)


def test_a_key_is_set_once_on_the_command_line() -> None:
    with pytest.raises(ExperimentError, match="--set epochs=4: epochs is set twice; leave one out"):
        load("mnist_fcnet", ["epochs=3", "epochs=4"])
    assert load("mnist_fcnet", ["epochs=0x10"]).trial["epochs"] == 16


def test_the_command_line_sets_what_a_file_names_by_its_dotted_key(tmp_path: Path) -> None:
    file = tmp_path / "dotted.yaml"
    file.write_text("about: {title: t, question: q}\noptimizer.lr: 0.1\nsearch: {trials: 1}\n")
    assert load(str(file), ["optimizer.lr=0.2"]).trial == {"optimizer.lr": 0.2}
    assert load(str(file), ["optimizer.name=Adam"]).trial == {"optimizer.lr": 0.1, "optimizer.name": "Adam"}
