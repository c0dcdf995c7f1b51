from typing import Any

import optuna
import pytest
from ray.tune.search.variant_generator import generate_variants

from search_spaces.convert import suggest, to_tune
from search_spaces.domains import Space, grid, space

SPACE = space(
    optimizer__name={"choice": ["SGD", "Adam"]},
    optimizer__lr={"loguniform": [1e-3, 1e-1]},
    optimizer__momentum={"uniform": [0.1, 0.9], "when": {"optimizer.name": "SGD"}},
    epochs={"integer": [2, 5]},
)


def test_optuna_is_asked_for_the_dotted_keys_with_the_domains_bounds() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions: dict[str, Any] = {}
    for _ in range(30):
        trial = study.ask()
        values = suggest(trial, SPACE, {"seed": 7})
        assert values == {"seed": 7} | trial.params
        assert ("optimizer.momentum" in values) == (values["optimizer.name"] == "SGD")
        distributions |= trial.distributions
        study.tell(trial, 0.0)
    assert distributions == {
        "optimizer.name": optuna.distributions.CategoricalDistribution(("SGD", "Adam")),
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True),
        "optimizer.momentum": optuna.distributions.FloatDistribution(0.1, 0.9),
        "epochs": optuna.distributions.IntDistribution(2, 5),
    }


def configurations(param_space: Any) -> list[dict[str, Any]]:
    """What Tune itself makes of a search space."""
    return [spec["trial"] for _, spec in generate_variants({"trial": param_space})]


@pytest.fixture
def choices() -> Space:
    return space(
        optimizer__name={"choice": ["SGD", "Adam"]},
        optimizer__momentum={"choice": [0.0, 0.9], "when": {"optimizer.name": "SGD"}},
    )


def test_tune_runs_every_point_of_a_grid(choices: Space) -> None:
    assert configurations(to_tune(choices, {"seed": 1})) == grid(choices, {"seed": 1})


def test_tune_runs_as_many_random_draws_as_asked_and_the_same_for_the_same_seed() -> None:
    first, again, other = (configurations(to_tune(SPACE, {}, trials=6, seed=seed)) for seed in (0, 0, 1))
    assert len(first) == 6
    assert first == again != other
