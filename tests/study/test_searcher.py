import math
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces.domains import space
from study.experiment import Search
from study.searcher import OptunaSearcher, create_study

SPACE = space(optimizer__lr={"loguniform": [1e-3, 1.0]})
SHARED = {"runtime": {"threads": 1}, "objective": {}}


@pytest.fixture
def searcher() -> OptunaSearcher:
    return OptunaSearcher(create_study(Search(trials=9), "max"), SPACE, {"epochs": 3}, SHARED)


def result(epoch: int, objective: float, status: str = "running") -> dict[str, Any]:
    return {"epoch": epoch, "objective": objective, "status": status}


def told(searcher: OptunaSearcher) -> list[tuple[TrialState, float | None, dict[int, float]]]:
    return [(t.state, t.value, t.intermediate_values) for t in searcher.study.get_trials()]


def test_a_suggestion_is_a_whole_configuration_for_the_trainable(searcher: OptunaSearcher) -> None:
    suggestion = searcher.suggest("a")
    assert suggestion["trial"]["epochs"] == 3
    assert 1e-3 <= suggestion["trial"]["optimizer.lr"] <= 1
    assert {key: suggestion[key] for key in SHARED} == SHARED


def test_a_finished_trial_is_told_with_its_last_value(searcher: OptunaSearcher) -> None:
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, 0.1))
    searcher.on_trial_result("a", result(2, 0.2))
    searcher.on_trial_complete("a", result(3, 0.3, "finished"))
    assert told(searcher) == [(TrialState.COMPLETE, 0.3, {1: 0.1, 2: 0.2})]


def test_a_trial_that_the_scheduler_stops_is_told_as_pruned_with_every_value(searcher: OptunaSearcher) -> None:
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, 0.1))
    searcher.on_trial_complete("a", result(2, -0.2))
    assert told(searcher) == [(TrialState.PRUNED, -0.2, {1: 0.1, 2: -0.2})]


@pytest.mark.parametrize("last", [result(2, math.nan, "diverged"), result(2, math.inf, "finished"), None])
def test_a_trial_without_a_finite_value_is_told_as_failed(searcher: OptunaSearcher, last: Any) -> None:
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, math.nan))
    searcher.on_trial_complete("a", last)
    assert told(searcher) == [(TrialState.FAIL, None, {})]


def test_a_trial_that_raises_is_told_as_failed_even_after_good_values(searcher: OptunaSearcher) -> None:
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, 0.5))
    searcher.on_trial_complete("a", None, error=True)
    searcher.on_trial_complete("a", None, error=True)
    assert told(searcher) == [(TrialState.FAIL, None, {1: 0.5})]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_searches_the_same(sampler: Any) -> None:
    def trace(seed: int) -> list[float]:
        search = OptunaSearcher(create_study(Search(trials=1, sampler=sampler, seed=seed), "max"), SPACE, {}, {})
        rates = []
        for number in range(15):
            rates.append(search.suggest(str(number))["trial"]["optimizer.lr"])
            search.on_trial_complete(str(number), result(1, -abs(math.log10(rates[-1]) + 1), "finished"))
        return rates

    assert trace(0) == trace(0) != trace(1)


def test_the_search_finds_the_optimum_in_the_direction_asked_for() -> None:
    for mode, target in (("max", 1e-2), ("min", 1e-2)):
        search = OptunaSearcher(create_study(Search(trials=1, seed=1), mode), SPACE, {}, {})
        for number in range(60):
            rate = search.suggest(str(number))["trial"]["optimizer.lr"]
            distance = abs(math.log10(rate / target))
            search.on_trial_complete(str(number), result(1, -distance if mode == "max" else distance, "finished"))
        assert abs(math.log10(search.study.best_params["optimizer.lr"] / target)) < 0.1


def test_optuna_is_quiet_about_what_users_cannot_change(searcher: OptunaSearcher) -> None:
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
