from random import Random
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import tune
from ray.tune.search.variant_generator import generate_variants

from search_spaces import spaces
from search_spaces.convert import DefineByRun
from search_spaces.domains import Space, sample, space
from search_spaces.tune_domains import ABSENT, domains

EVERY_KIND = space(
    optimizer__name={"choice": ["SGD", "Adam"]},
    optimizer__lr={"loguniform": [1e-3, 0.1]},
    optimizer__momentum={"uniform": [0.0, 0.9], "when": {"optimizer.name": "SGD"}},
    optimizer__nesterov={"choice": [False, True], "when": {"optimizer.name": "SGD"}},
    batch_size={"integer": [8, 16]},
)


def resolved(param_space: dict[str, Any], seed: int) -> dict[str, Any]:
    """What Tune draws."""
    np.random.seed(seed)
    ((_, config),) = generate_variants(param_space, random_state=np.random.RandomState(seed))
    return config


def suits(values: dict[str, Any], of: Space) -> None:
    present = {key: value for key, value in values.items() if value != ABSENT}
    for key, parameter in of.items():
        assert parameter.active(present) == (key in present), key
        assert key not in present or parameter.contains(present[key]), (key, present[key])


@given(st.integers(0, 2**31))
def test_tune_draws_what_our_engine_can_draw(seed: int) -> None:
    suits(resolved(domains(EVERY_KIND, {"epochs": 3}), seed), EVERY_KIND)


@pytest.mark.parametrize("name", spaces.BY_NAME)
def test_every_space_by_name_is_one_of_tune_s(name: str) -> None:
    of = spaces.BY_NAME[name]
    for seed in range(20):
        suits(sample(of, {}, Random(seed)), of)
        suits(resolved(domains(of, {}), seed), of)


def test_fixed_values_stand_beside_the_domains() -> None:
    made = domains(EVERY_KIND, {"epochs": 3, "optimizer.lr": 0.5})
    assert made["epochs"] == 3
    assert isinstance(made["optimizer.lr"], tune.search.sample.Float)
    assert isinstance(made["optimizer.momentum"], tune.search.sample.Function)


def test_a_number_that_its_key_holds_as_a_fraction_is_one() -> None:
    of = space(optimizer__weight_decay={"integer": [1, 3]})
    drawn = resolved(domains(of, {}), 0)["optimizer.weight_decay"]
    assert of["optimizer.weight_decay"].contains(drawn), drawn


def test_a_function_of_a_trial_returns_the_whole_configuration() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    propose = DefineByRun(EVERY_KIND, {"epochs": 3})
    for _ in range(10):
        trial = study.ask()
        config = propose(trial)
        assert config == {"epochs": 3, **trial.params}
        suits(config, EVERY_KIND)
