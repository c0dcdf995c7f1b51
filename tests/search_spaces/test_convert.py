from random import Random
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.convert import distributions, suggest
from search_spaces.domains import sample, space
from search_spaces.spaces import BY_NAME
from trainables.config import TrialConfig

SPACE = space(
    optimizer__name={"choice": ["SGD", "Adam"]},
    optimizer__lr={"loguniform": [1e-3, 1e-1]},
    optimizer__momentum={"uniform": [0.1, 0.9], "when": {"optimizer.name": "SGD"}},
    epochs={"integer": [2, 5]},
)
EXPECTED = {
    "optimizer.name": CategoricalDistribution(("SGD", "Adam")),
    "optimizer.lr": FloatDistribution(1e-3, 1e-1, log=True),
    "optimizer.momentum": FloatDistribution(0.1, 0.9),
    "epochs": IntDistribution(2, 5),
}


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def test_optuna_is_asked_for_the_dotted_keys_with_the_domains_bounds(study: optuna.Study) -> None:
    found: dict[str, Any] = {}
    for _ in range(30):
        trial = study.ask()
        values = suggest(trial, SPACE, {"seed": 7})
        assert values == {"seed": 7} | trial.params
        assert ("optimizer.momentum" in values) == (values["optimizer.name"] == "SGD")
        found |= trial.distributions
        study.tell(trial, 0.0)
    assert found == EXPECTED


def test_a_configuration_says_what_optuna_would_have_asked_for_it(study: optuna.Study) -> None:
    for _ in range(30):
        trial = study.ask()
        values = suggest(trial, SPACE, {"seed": 7, "batch_size": 8})
        assert distributions(SPACE, {"seed": 7, "batch_size": 8}, values) == trial.distributions


@pytest.mark.parametrize("name", BY_NAME)
@given(seed=st.integers(0, 2**32))
def test_a_whole_configuration_says_so_too_whatever_else_it_holds(name: str, seed: int) -> None:
    looked_at = {"optimizer.name": "SGD", "schedule.name": "none"}
    fixed = {key: value for key, value in looked_at.items() if key not in BY_NAME[name]}
    drawn = sample(BY_NAME[name], fixed, Random(seed))
    whole = TrialConfig.from_dotted(drawn).to_dotted()
    assert distributions(BY_NAME[name], fixed, whole) == distributions(BY_NAME[name], fixed, drawn)
    assert distributions(BY_NAME[name], fixed, whole).keys() == drawn.keys() - fixed.keys()
    assert {key: whole[key] for key in drawn} == drawn


def test_a_value_whose_condition_does_not_hold_is_not_asked_for() -> None:
    values = {"optimizer.name": "Adam", "optimizer.momentum": 0.5, "optimizer.lr": 0.01}
    assert distributions(SPACE, {}, values) == {key: EXPECTED[key] for key in ("optimizer.name", "optimizer.lr")}


def test_a_condition_on_what_is_fixed_is_looked_up_there() -> None:
    only = {"optimizer.momentum": SPACE["optimizer.momentum"]}
    whole = {"optimizer.name": "SGD", "optimizer.momentum": 0.5}
    assert distributions(only, {"optimizer.name": "SGD"}, whole).keys() == {"optimizer.momentum"}
    assert distributions(only, {"optimizer.name": "Adam"}, whole) == {}


def test_whole_numbers_of_a_key_that_takes_fractions_come_back_from_what_a_configuration_holds(
    study: optuna.Study,
) -> None:
    powers = space(arms__mine__selector__power={"integer": [1, 8]})
    asked = study.ask()
    values = suggest(asked, powers, {})
    assert isinstance(values["arms.mine.selector.power"], float)
    expected = {"arms.mine.selector.power": IntDistribution(1, 8)}
    assert distributions(powers, {}, values) == asked.distributions == expected
    study.enqueue_trial(values)
    assert suggest(study.ask(), powers, {}) == values
    study.add_trial(optuna.create_trial(params=values, distributions=asked.distributions, value=0.0))
