from pathlib import Path
from typing import Any

import pytest

from search_spaces.domains import Parameter
from study.experiment import ExperimentError, built_in, from_document, load
from study.preflight import runtime
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
        assert all(row["cumulative_samples_trained"] > 0 for row in after)
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
    assert load("quickstart").cost == 20 * 10 * 2


def test_the_quickstart_compares_the_archetype_with_batchwise_filtering_at_least_16_times() -> None:
    experiment = load("quickstart")
    arms = TrialConfig.from_dotted(experiment.trial).arms
    assert {name: arm.granularity for name, arm in arms.items()} == {"archetype": "none", "filtered": "batch"}
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
        assert config.schedule.model_dump() == {"name": "exponential", "gamma": 0.995}


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
        ({"search": {"trials": 2, "sampler": "gp"}}, "search.sampler: 'gp': input should be 'tpe' or 'random'"),
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
        ("epochs: 3\nepochs: 4\n", "line 1: set twice: epochs"),
        ("epochs: [3\n", "line 2"),
        ("- 1\n", "must be a YAML mapping"),
        ("a: &a {b: *a}\n", "sections with named keys|recurs"),
        ("seed: " + "9" * 5000 + "\n", "is not YAML that can be read"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ExperimentError, match=message):
        load(str(file))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ExperimentError, match="did you mean quickstart"):
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
