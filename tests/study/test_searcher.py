import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search_spaces.domains import Space, sample, space
from study.experiment import Search, from_document
from study.searcher import (
    JOURNAL,
    WARM,
    Asked,
    InTurn,
    Listed,
    Outcome,
    create_study,
    open_journal,
    propose,
    verdict,
)
from tests.study.conftest import SMALL
from trainables.config import Mode, TrialConfig

NUMBERS = space(optimizer__lr={"loguniform": [1e-3, 0.3]}, optimizer__momentum={"uniform": [0.1, 0.9]})
MIXED = space(
    optimizer__name={"choice": ["SGD", "Adam"]},
    optimizer__lr={"loguniform": [1e-3, 0.3]},
    optimizer__momentum={"uniform": [0.1, 0.9], "when": {"optimizer.name": "SGD"}},
    epochs={"integer": [2, 5]},
)
SPACES = {"tpe": MIXED, "gp": MIXED, "cmaes": NUMBERS, "nsgaii": MIXED, "random": MIXED}
FAST = ["tpe", "cmaes", "nsgaii", "random"]
FIXED = {"dataset.samples_per_class": 30, "optimizer.name": "SGD"}


def asked(
    sampler: Any = "tpe",
    searched: Space = NUMBERS,
    modes: Sequence[Mode] = ("max",),
    trials: int = 100,
    seed: int = 0,
    points: Sequence[Mapping[str, Any]] = (),
    journal: optuna.Study | None = None,
    after: int = 0,
) -> Asked:
    study = create_study(Search(trials=trials, sampler=sampler, seed=seed), modes, after)
    fixed = {key: value for key, value in FIXED.items() if key not in searched}
    return Asked(study, searched, fixed, trials, points, journal)


def outcome(status: str, *curve: float | Sequence[float], start: int = 1, name: str = "a") -> Outcome:
    """A comparison that reported ``curve``, its first value after the epoch ``start``."""
    rows = [[value] if isinstance(value, int | float) else list(value) for value in curve]
    return Outcome(name, status, dict(enumerate(rows, start)), 100.0, 200.0)


def quality(config: Mapping[str, Any]) -> float:
    """Best, at 0, with a learning rate of 0.02 and a momentum of 0.5; Adam (without momentum) is far from it."""
    return -(math.log10(config["optimizer.lr"] / 0.02) ** 2) - (config.get("optimizer.momentum", 2.0) - 0.5) ** 2


def search(proposer: Asked, trials: int, judge: Callable[[Mapping[str, Any]], float | Sequence[float]]) -> list[Any]:
    """Ask and tell, one after the other; what was proposed."""
    configs: list[Any] = []
    for place in range(trials):
        configs.append(proposer.ask())
        proposer.tell(place, [outcome("finished", judge(configs[-1]))])
    return configs


# ------------------------------------------------------------------------------------------------------------- lists


def test_a_list_is_proposed_in_order_once_and_goes_on_after_what_was_proposed_before() -> None:
    configs = [{"seed": seed} for seed in range(4)]
    listed = Listed(configs)
    listed.recall(configs[0], None)
    listed.recall(configs[1], [outcome("finished", 1.0)])
    listed.tell(0, [outcome("failed")])
    assert [listed.ask() for _ in range(4)] == [{"seed": 2}, {"seed": 3}, None, None]
    assert configs[2] is not listed.ask()


# --------------------------------------------------------------------------------------------------------- searching


def learned(sampler: str, searched: Space, trials: int, startup: int = 10) -> None:
    """The median of the last third is better than that of the first guesses and than what chance finds."""
    for seed in range(3):
        found = [quality(config) for config in search(asked(sampler, searched, seed=seed), trials, quality)]
        chance = [quality(sample(searched, {}, Random(number))) for number in range(200)]
        late = sorted(found[-trials // 3 :])
        typical = late[len(late) // 2]
        assert typical > sorted(found[:startup])[startup // 2]
        assert typical > sorted(chance)[120]
        assert max(found) >= max(found[:startup])
        assert max(found) > -0.03


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("cmaes", marks=pytest.mark.slow), "nsgaii"])
def test_a_sampler_learns_from_what_it_is_told(sampler: str) -> None:
    learned(sampler, NUMBERS, 60, startup=3 if sampler == "cmaes" else 10)  # CMA-ES guesses at random but once


@pytest.mark.slow
def test_gaussian_processes_learn_from_what_they_are_told() -> None:
    learned("gp", NUMBERS, 18)


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_a_conditional_space_is_searched_and_its_better_branch_found(sampler: str) -> None:
    configs = search(asked(sampler, MIXED), 60, quality)
    assert all(("optimizer.momentum" in config) == (config["optimizer.name"] == "SGD") for config in configs)
    assert {config["optimizer.name"] for config in configs[:10]} == {"SGD", "Adam"}
    assert sum(config["optimizer.name"] == "SGD" for config in configs[-20:]) >= 12
    assert all(TrialConfig.from_dotted(config) for config in configs)


@pytest.mark.parametrize("sampler", FAST)
def test_every_proposal_is_in_the_space_and_has_what_is_fixed(sampler: str) -> None:
    for config in search(asked(sampler, SPACES[sampler]), 15, lambda config: config["optimizer.lr"]):
        assert config["dataset.samples_per_class"] == 30
        assert all(SPACES[sampler][key].contains(config[key]) for key in config.keys() & SPACES[sampler].keys())


@pytest.mark.parametrize("sampler", FAST)
def test_the_same_seed_searches_the_same(sampler: str) -> None:
    first, again, other = (search(asked(sampler, seed=seed), 15, quality) for seed in (0, 0, 1))
    assert first == again
    assert all(ours != theirs for ours, theirs in zip(first[1:], other[1:], strict=True))


def test_a_search_that_goes_on_does_not_draw_the_same_again() -> None:
    first = search(asked("random"), 5, quality)
    assert search(asked("random", after=5), 5, quality) != first


def test_the_largest_seed_can_go_on() -> None:
    assert asked("random", seed=2**32 - 1, after=7).ask() is not None


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_search_goes_in_the_direction_asked_for(mode: Mode) -> None:
    sign = 1 if mode == "max" else -1
    found = search(asked(modes=[mode], seed=1), 50, lambda config: sign * quality(config))
    assert sorted(map(quality, found[-15:]))[7] > -0.1


def test_no_more_is_proposed_than_asked_for() -> None:
    proposer = asked(trials=3)
    search(proposer, 3, quality)
    assert proposer.ask() is None
    assert len(proposer.study.get_trials()) == 3


def test_points_come_first_and_what_they_leave_open_is_the_samplers() -> None:
    points = [
        {"optimizer.name": "Adam", "optimizer.lr": 0.01, "epochs": 3},
        {"optimizer.name": "SGD", "optimizer.lr": 0.2, "optimizer.momentum": 0.25},
        {"optimizer.name": "SGD"},
    ]
    configs = search(asked(searched=MIXED, points=points), 6, quality)
    for point, config in zip(points, configs, strict=False):
        assert point.items() <= config.items()
    assert "optimizer.momentum" not in configs[0]
    assert all(MIXED["epochs"].contains(config["epochs"]) for config in configs)
    assert len({config["optimizer.lr"] for config in configs}) == 6


# ------------------------------------------------------------------------------------------------------ honest telling

NAN = math.nan
VERDICTS = [
    ([outcome("finished", 0.1, 0.2, 0.3)], TrialState.COMPLETE, [0.3], {1: 0.1, 2: 0.2, 3: 0.3}),
    ([outcome("stopped", 0.1, -0.2)], TrialState.PRUNED, [-0.2], {1: 0.1, 2: -0.2}),
    ([outcome("stopped", NAN, -0.2)], TrialState.PRUNED, [-0.2], {2: -0.2}),
    ([outcome("diverged", 0.1, NAN)], TrialState.FAIL, [], {1: 0.1}),
    ([outcome("diverged", 0.1, 0.2)], TrialState.FAIL, [], {1: 0.1, 2: 0.2}),
    ([outcome("failed", 0.5)], TrialState.FAIL, [], {1: 0.5}),
    ([outcome("failed")], TrialState.FAIL, [], {}),
    ([outcome("stopped")], TrialState.FAIL, [], {}),
    ([outcome("finished", 0.1, NAN)], TrialState.FAIL, [], {1: 0.1}),
    ([outcome("finished", 0.1, math.inf)], TrialState.FAIL, [], {1: 0.1}),
    ([outcome("stopped", 0.1, NAN)], TrialState.FAIL, [], {1: 0.1}),
    ([outcome("finished", 0.0, 0.5), outcome("finished", 0.5, 1.0)], TrialState.COMPLETE, [0.75], {1: 0.25, 2: 0.75}),
    ([outcome("finished", 0.0, 0.5), outcome("stopped", 0.5)], TrialState.PRUNED, [0.25], {1: 0.25}),
    ([outcome("finished", 0.0, 0.5), outcome("failed", 0.5)], TrialState.FAIL, [], {1: 0.25}),
    ([outcome("finished", 0.0, 0.5), outcome("failed")], TrialState.FAIL, [], {}),
    ([outcome("finished", 0.0, 0.5), outcome("finished", 0.5, NAN)], TrialState.FAIL, [], {1: 0.25}),
]


@pytest.mark.parametrize(("outcomes", "state", "values", "curve"), VERDICTS)
def test_what_became_of_a_configuration_is_told_as_it_was(
    outcomes: list[Outcome], state: TrialState, values: list[float], curve: dict[int, float]
) -> None:
    proposer = asked()
    config = proposer.ask()
    proposer.tell(0, outcomes)
    (trial,) = proposer.study.get_trials()
    assert (trial.state, trial.values or [], trial.intermediate_values) == (state, values, curve)
    assert config is not None
    assert trial.params == {key: config[key] for key in NUMBERS}


def test_what_is_told_out_of_order_is_told_of_the_right_one() -> None:
    proposer = asked()
    configs = [proposer.ask() for _ in range(4)]
    for place in (2, 0, 3):
        proposer.tell(place, [outcome("finished", float(place))])
    trials = proposer.study.get_trials()
    assert [trial.value for trial in trials] == [0.0, None, 2.0, 3.0]
    assert [trial.params["optimizer.lr"] for trial in trials] == [
        config["optimizer.lr"] for config in configs if config
    ]
    assert [trial.state.is_finished() for trial in trials] == [True, False, True, True]


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
def test_several_objectives_are_traded_off_though_comparisons_are_stopped_and_fail(sampler: str) -> None:
    proposer = asked(sampler, modes=("max", "min"), trials=80)
    for place in range(80):
        config = proposer.ask()
        assert config is not None
        values = [quality(config), config["optimizer.momentum"]]
        status = ("finished", "finished", "finished", "stopped", "failed")[place % 5]
        proposer.tell(place, [outcome(status, values)])
    trials = proposer.study.get_trials()
    counts = {state: sum(trial.state == state for trial in trials) for state in TrialState}
    assert (counts[TrialState.COMPLETE], counts[TrialState.PRUNED], counts[TrialState.FAIL]) == (48, 16, 16)
    assert all(trial.intermediate_values == {} for trial in trials)
    best = [trial.values for trial in proposer.study.best_trials]
    assert all(earlier[0] <= later[0] for earlier, later in itertools.pairwise(sorted(best, key=lambda row: row[1])))
    assert min(row[1] for row in best) < 0.2  # one end of the front
    assert max(row[0] for row in best) > -0.05  # and the other


def test_several_objectives_are_told_as_means_over_the_seeds() -> None:
    proposer = asked("nsgaii", modes=("max", "min"))
    proposer.ask()
    proposer.tell(0, [outcome("finished", [0.0, 4.0]), outcome("finished", [1.0, 2.0])])
    assert proposer.study.get_trials()[0].values == [0.5, 3.0]
    assert verdict([outcome("finished", [0.0, 1.0]), outcome("finished", [1.0, NAN])])[0] == TrialState.FAIL


# ------------------------------------------------------------------------------------------------------------ recalling

FINITE = st.floats(-10, 10)
VALUE = FINITE | st.sampled_from([NAN, math.inf])


@st.composite
def lives(draw: st.DrawFn, objectives: int = 1) -> list[list[Outcome] | None]:
    """How each of some configurations went on its seeds; None for those that are still training."""
    seeds = draw(st.integers(1, 2))
    row = st.lists(VALUE, min_size=objectives, max_size=objectives)
    one = st.builds(
        lambda status, curve: outcome(status, *curve),
        st.sampled_from(["finished", "stopped", "diverged", "failed"]),
        st.lists(row, max_size=3),
    )
    return draw(st.lists(st.none() | st.lists(one, min_size=seeds, max_size=seeds), max_size=14))


def told(study: optuna.Study) -> list[Any]:
    return [(t.state, t.values, t.params, t.distributions, t.intermediate_values) for t in study.get_trials()]


def recalled(proposer: Asked, configs: Sequence[Any], life: Sequence[Sequence[Outcome] | None]) -> Asked:
    """``proposer`` after it was told of what an earlier run has recorded."""
    for config, outcomes in zip(configs, life, strict=True):
        proposer.recall(json.loads(json.dumps(TrialConfig.from_dotted(config).to_dotted())), outcomes)
    return proposer


@pytest.mark.parametrize(("sampler", "objectives"), [*((name, 1) for name in FAST), ("tpe", 2), ("nsgaii", 2)])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_study_that_is_recalled_is_the_one_that_lived_through_it_and_goes_on(
    sampler: str, objectives: int, data: st.DataObject
) -> None:
    life = data.draw(lives(objectives))
    modes: list[Mode] = ["max", "min"][:objectives]  # type: ignore[assignment]
    lived = asked(sampler, SPACES[sampler], modes)
    configs = [lived.ask() for _ in life]
    for place in data.draw(st.permutations(range(len(life)))):
        if (outcomes := life[place]) is not None:
            lived.tell(place, outcomes)
    again = recalled(asked(sampler, SPACES[sampler], modes, after=len(life)), configs, life)
    assert told(again.study) == told(lived.study)
    for place, outcomes in enumerate(life):
        if outcomes is None:
            again.tell(place, [outcome("finished", [0.5] * objectives)])
    for place in range(len(life), len(life) + 3):
        config = again.ask()
        assert config is not None
        assert TrialConfig.from_dotted(config)
        again.tell(place, [outcome("finished", [0.1] * objectives)])
    assert all(trial.state.is_finished() for trial in again.study.get_trials())


@pytest.mark.slow
def test_gaussian_processes_go_on_after_they_are_recalled() -> None:
    lived = asked("gp", MIXED)
    configs = search(lived, 11, quality)
    life = [[outcome("finished", quality(config))] for config in configs]
    again = recalled(asked("gp", MIXED, after=11), configs, life)
    assert told(again.study) == told(lived.study)
    assert again.ask() not in [None, *configs]


def test_what_still_trains_is_recalled_with_its_configuration_and_told_once() -> None:
    config = {"optimizer.lr": 0.0123, "optimizer.momentum": 0.5}
    proposer = recalled(asked(trials=2), [config], [None])
    (trial,) = proposer.study.get_trials()
    assert (trial.state, trial.params) == (TrialState.RUNNING, config)
    proposer.tell(0, [outcome("finished", 0.5)])
    assert proposer.study.best_value == 0.5
    assert proposer.ask() is not None
    assert proposer.ask() is None


def test_points_that_were_tried_are_not_tried_again() -> None:
    points = [{"optimizer.lr": rate, "optimizer.momentum": 0.5} for rate in (0.01, 0.02, 0.03)]
    proposer = recalled(asked(points=points), points[:1], [[outcome("finished", 0.5)]])
    assert [(proposer.ask() or {})["optimizer.lr"] for _ in range(2)] == [0.02, 0.03]


def test_trials_of_the_search_that_were_recalled_count() -> None:
    configs = search(asked(), 4, quality)
    proposer = recalled(asked(trials=5), configs, [[outcome("finished", 0.5)]] * 4)
    assert proposer.ask() is not None
    assert proposer.ask() is None


@pytest.mark.parametrize("complete", [1, WARM - 1, WARM, 30])
def test_cma_es_starts_from_what_is_recalled_where_that_is_enough(complete: int) -> None:
    rng = Random(1)
    far, near = ({"optimizer.lr": rate, "optimizer.momentum": 0.85} for rate in (0.002, 0.25))
    configs = [near | {"optimizer.lr": 0.25 + rng.uniform(-0.02, 0.02)} for _ in range(complete)] + [far] * 3
    life = [[outcome("finished", 1.0 if config["optimizer.lr"] > 0.2 else 0.0)] for config in configs[:complete]]
    life += [[outcome("failed")]] * 3
    proposer = recalled(asked("cmaes", after=len(configs)), configs, life)
    rates = []
    for place in range(len(configs), len(configs) + 5):
        rates.append((proposer.ask() or {})["optimizer.lr"])
        proposer.tell(place, [outcome("finished", 0.0)])
    typical = math.exp(sum(map(math.log, rates)) / 5)
    assert typical > 0.1 if complete >= WARM else typical < 0.06  # on its own it starts from 0.017


def test_cma_es_that_starts_from_the_same_draws_by_its_seed() -> None:
    configs = search(asked("random"), 12, quality)
    life = [[outcome("finished", quality(config))] for config in configs]
    first, again, other = (recalled(asked("cmaes", seed=seed, after=12), configs, life).ask() for seed in (0, 0, 1))
    assert first == again != other


def test_nsga_ii_counts_generations_by_what_was_completed() -> None:
    def generations(proposer: Asked) -> list[int]:
        complete = [t for t in proposer.study.get_trials() if t.state == TrialState.COMPLETE]
        return [trial.system_attrs["NSGAIISampler:generation"] for trial in complete]

    lived = asked("nsgaii", trials=20)  # four in a generation
    configs, life = [], []
    for place in range(14):
        configs.append(lived.ask())
        life.append([outcome("failed" if place % 3 == 1 else "finished", quality(configs[-1] or {}))])
        lived.tell(place, life[-1])
    assert generations(lived) == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    again = recalled(asked("nsgaii", trials=20, after=14), configs, life)
    assert generations(again) == generations(lived)
    again.ask()
    again.tell(14, [outcome("finished", 0.0)])
    assert generations(again)[-1] == 2


# ------------------------------------------------------------------------------------------------ each arm on its own


def in_turn(
    sampler: str = "tpe",
    trials: int = 100,
    seed: int = 0,
    metric: str = "gap/validation_accuracy",
    after: int = 0,
    journals: Sequence[optuna.Study] | None = None,
    points: Sequence[Mapping[str, Any]] = (),
) -> InTurn:
    document = {
        **SMALL,
        "space": {key: parameter.model_dump(exclude_defaults=True) for key, parameter in NUMBERS.items()},
        "search": {"trials": trials, "sampler": sampler, "seed": seed, "each": "arm", "points": list(points)},
        "objective": {"metric": metric},
        "dataset": {"samples_per_class": 30, "validation_fraction": 0.2},
    }
    made = propose(from_document("x", document), after, journals)
    assert isinstance(made, InTurn)
    return made


def away(config: Mapping[str, Any], rate: float, momentum: float) -> float:
    return math.log10(config["optimizer.lr"] / rate) ** 2 + (config["optimizer.momentum"] - momentum) ** 2


def sides(config: Mapping[str, Any]) -> list[float]:
    """What a comparison reports whose baseline is best with a small learning rate, and its treatment with a large."""
    baseline, treatment = -away(config, 0.003, 0.8), -away(config, 0.15, 0.2)
    return [treatment - baseline, baseline, treatment]


def alternate(proposer: InTurn, trials: int) -> list[Any]:
    configs: list[Any] = []
    for place in range(trials):
        configs.append(proposer.ask())
        proposer.tell(place, [outcome("finished", sides(configs[-1]))])
    return configs


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", pytest.param("gp", marks=pytest.mark.slow)])
def test_each_arm_is_tuned_by_its_own_search_and_both_know_every_comparison(sampler: str) -> None:
    trials = 24 if sampler == "gp" else 80
    proposer = in_turn(sampler, trials)
    configs = alternate(proposer, trials)
    assert proposer.ask() is None
    of_baseline, of_treatment = configs[0::2][-trials // 6 :], configs[1::2][-trials // 6 :]

    def typical(found: Sequence[Any], side: int) -> float:
        return sorted(sides(config)[side] for config in found)[len(found) // 2]

    assert typical(of_baseline, 1) > typical(of_treatment, 1) + 0.3
    assert typical(of_treatment, 2) > typical(of_baseline, 2) + 0.3
    for side, search in enumerate(proposer.searches):
        heard = search.study.get_trials()
        assert len(heard) == trials
        assert sorted(trial.value for trial in heard) == sorted(sides(config)[1 + side] for config in configs)
        assert search.study.best_value > -0.1


def test_a_smaller_loss_is_better_for_each_arm_though_a_larger_gap_is() -> None:
    proposer = in_turn(metric="gap/validation_mean_loss", trials=40)
    for place in range(40):
        config = proposer.ask()
        assert config is not None
        proposer.tell(place, [outcome("finished", [-value for value in sides(config)])])
    assert all(search.study.best_value < 0.1 for search in proposer.searches)


def test_the_two_searches_draw_other_numbers_and_the_same_again_with_the_same_seed() -> None:
    first, again, other = (alternate(in_turn(seed=seed), 12) for seed in (0, 0, 1))
    assert first == again
    assert all(ours != theirs for ours, theirs in zip(first, other, strict=True))
    assert len({config["optimizer.lr"] for config in first}) == 12


def test_points_to_start_from_are_tried_once_in_turn() -> None:
    points = [{"optimizer.lr": rate, "optimizer.momentum": 0.5} for rate in (0.01, 0.02, 0.03)]
    configs = alternate(in_turn(points=points), 6)
    assert [config["optimizer.lr"] for config in configs[:3]] == [0.01, 0.02, 0.03]
    assert len({config["optimizer.lr"] for config in configs}) == 6


def test_where_one_arm_diverges_its_own_search_hears_of_a_failure_and_the_other_how_far_its_arm_came() -> None:
    proposer = in_turn()
    proposer.ask()
    proposer.tell(0, [outcome("diverged", [0.1, 0.3, 0.4], [NAN, NAN, 0.5])])
    (baseline,), (treatment,) = (search.study.get_trials() for search in proposer.searches)
    assert (baseline.state, baseline.intermediate_values) == (TrialState.FAIL, {1: 0.3})
    assert (treatment.state, treatment.value) == (TrialState.PRUNED, 0.5)
    assert treatment.intermediate_values == {1: 0.4, 2: 0.5}
    proposer.ask()
    proposer.tell(1, [outcome("failed", [NAN, NAN, NAN])])
    assert all(search.study.get_trials()[1].state == TrialState.FAIL for search in proposer.searches)
    proposer.ask()
    proposer.tell(2, [outcome("stopped", [0.1, 0.3, 0.4])])
    assert [search.study.get_trials()[2].value for search in proposer.searches] == [0.3, 0.4]


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_both_searches_that_are_recalled_are_those_that_lived_through_it_and_go_on(
    sampler: str, data: st.DataObject
) -> None:
    life = data.draw(lives(3))
    lived = in_turn(sampler)
    configs = [lived.ask() for _ in life]
    for place in data.draw(st.permutations(range(len(life)))):
        if (outcomes := life[place]) is not None:
            lived.tell(place, outcomes)
    again = in_turn(sampler, after=len(life))
    for config, outcomes in zip(configs, life, strict=True):
        again.recall(json.loads(json.dumps(TrialConfig.from_dotted(config or {}).to_dotted())), outcomes)
    for ours, theirs in zip(again.searches, lived.searches, strict=True):
        assert sorted(map(repr, told(ours.study))) == sorted(map(repr, told(theirs.study)))
    for place, outcomes in enumerate(life):
        if outcomes is None:
            again.tell(place, [outcome("finished", [0.0, 0.5, 0.5])])
    for place in range(len(life), len(life) + 3):
        config = again.ask()
        assert config is not None
        again.tell(place, [outcome("finished", [0.0, 0.1, 0.1])])
    for search in again.searches:
        assert len(search.study.get_trials()) == len(life) + 3
        assert all(trial.state.is_finished() for trial in search.study.get_trials())


def test_a_journal_has_both_searches_and_can_be_opened_at_any_time(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    names = "digits: archetype/validation_accuracy", "digits: filtered/validation_accuracy"
    for _ in range(2):  # it is written anew
        journals = [open_journal(path, name, ["max"], fresh=not side) for side, name in enumerate(names)]
        proposer = in_turn(journals=journals)
        configs = alternate(proposer, 4)
    storage = JournalStorage(JournalFileBackend(str(path)))
    assert sorted(optuna.get_all_study_names(storage)) == sorted(names)
    for side, name in enumerate(names):
        study = optuna.load_study(study_name=name, storage=storage)
        assert [trial.value for trial in study.get_trials()] == [sides(config)[1 + side] for config in configs]
        assert told(study) == told(proposer.searches[side].study)


# ------------------------------------------------------------------------------------------------------------- journal


def opened(path: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path))))


@pytest.mark.parametrize("sampler", FAST)
def test_the_journal_can_be_opened_while_the_search_goes_on_and_holds_no_samplers_notes(
    tmp_path: Path, sampler: str
) -> None:
    path = tmp_path / JOURNAL
    proposer = asked(sampler, journal=open_journal(path, "digits", ["max"]))
    for place in range(9):
        config = proposer.ask()
        assert config is not None
        seen = [outcome("stopped" if place == 3 else "finished", 0.0, quality(config), name=f"{place:04d}-abc")]
        proposer.tell(place, [outcome("failed")] if place == 4 else seen)
        if place == 6:
            assert len(opened(path).get_trials()) == 7
    study = opened(path)
    assert study.study_name == "digits"
    assert told(study) == told(proposer.study)
    assert study.get_trials()[8].user_attrs == {"trial_id": "0008-abc"}
    assert [trial.datetime_start.timestamp() for trial in study.get_trials()] == [100.0] * 9  # type: ignore[union-attr]
    assert all(trial.system_attrs == {} for trial in study.get_trials())
    notes = [trial.system_attrs for trial in proposer.study.get_trials()]
    assert any(notes) is (sampler in ("cmaes", "nsgaii"))  # there would have been some
    assert b"pickle" not in path.read_bytes()
    assert b"optimizer:" not in path.read_bytes()  # under which CMA-ES keeps a pickle of itself


def test_the_journal_of_a_study_that_goes_on_has_what_was_recalled_once(tmp_path: Path) -> None:
    configs = search(asked(), 3, quality)
    life = [[outcome("finished", 0.1)], None, [outcome("stopped", 0.2, 0.3)]]
    for _ in range(2):
        journal = open_journal(tmp_path / JOURNAL, "digits", ["max"])
        proposer = recalled(asked(journal=journal), configs, life)
        assert [trial.values for trial in opened(tmp_path / JOURNAL).get_trials()] == [[0.1], [0.3]]
    proposer.tell(1, [outcome("finished", 0.5)])
    assert [trial.values for trial in opened(tmp_path / JOURNAL).get_trials()] == [[0.1], [0.3], [0.5]]


def test_whatever_stands_in_the_journals_place_is_replaced_unread(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / JOURNAL, tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    for plant in (
        lambda: path.write_bytes(b"\x80\x04garbage\n"),
        lambda: path.symlink_to(elsewhere),
        lambda: path.with_name(f"{JOURNAL}.lock").symlink_to(path),  # of a process that was killed
    ):
        path.unlink(missing_ok=True)
        plant()
        proposer = asked(journal=open_journal(path, "digits", ["max"]))
        search(proposer, 2, quality)
        assert len(opened(path).get_trials()) == 2
    assert elsewhere.read_text() == "mine"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        lambda path: path.write_bytes(path.read_bytes() + b"{garbage\n"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_no_damage_to_the_journal_ends_the_search(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    proposer = asked(journal=open_journal(tmp_path / JOURNAL, "digits", ["max"]))
    search(proposer, 2, quality)
    damage(tmp_path / JOURNAL)
    for place in (2, 3, 4):
        assert proposer.ask() is not None
        proposer.tell(place, [outcome("finished", 0.5)])
    assert len(proposer.study.get_trials()) == 5


def test_optuna_is_quiet_about_what_users_cannot_change() -> None:
    asked()
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
