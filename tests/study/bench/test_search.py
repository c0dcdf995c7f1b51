import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.load import load
from study import folder, runner
from study.bench import replay as replays
from study.bench.replay import Curve, Moment, Table, label, replay
from study.bench.search import (
    NEVER,
    confirmations,
    confirmed,
    experiment,
    figures,
    near,
    ranked,
    read,
    standing,
    suite,
    train,
)
from study.display import NoDisplay
from study.experiment import Experiment, Scheduler, Search, from_document
from tests.study.conftest import SMALL
from trainables.comparison import prepare, report
from trainables.config import Runtime, TrialConfig

OBJECTIVE = "gap/validation_accuracy"
RATES = (0.01, 0.02, 0.05, 0.1)
HALVING = Scheduler(name="asha", grace_period=1, reduction_factor=2)


def searching(scheduler: Scheduler | None = None, epochs: int = 4, **choices: Sequence[Any]) -> Experiment:
    """A grid over learning rates, or whatever choices are given."""
    space = {key.replace("__", "."): {"choice": list(values)} for key, values in choices.items()}
    document = {
        **SMALL,
        "dataset": {"samples_per_class": 30, "validation_fraction": 0.2},
        "epochs": epochs,
        "space": space or {"optimizer.lr": {"choice": list(RATES)}},
        "scheduler": (scheduler or Scheduler()).model_dump(),
    }
    return from_document("bench", document)


def curve(*gaps: float, status: str = "finished", baseline: float = 0.9) -> Curve:
    return Curve(status, {OBJECTIVE: [*map(float, gaps)], "archetype/validation_accuracy": [baseline] * len(gaps)})


def labels(grid: Experiment) -> list[str]:
    return [label(config) for config in grid.configurations or ()]


def table(grid: Experiment, *curves: Curve, seeds: Sequence[int] = (0,)) -> Table:
    """Of every configuration of the grid a curve, the same on all seeds."""
    return {(name, seed): one for name, one in zip(labels(grid), curves, strict=True) for seed in seeds}


def smooth(quality: float, epochs: int) -> Curve:
    """A comparison that approaches its quality."""
    return curve(*(quality * (1 - 0.5**epoch) for epoch in range(1, epochs + 1)))


def planted(epochs: int = 9) -> tuple[Experiment, Table, dict[str, float]]:
    """A grid of 36 configurations with one best, the same on every seed; the table, and every quality."""
    grid = searching(
        Scheduler(name="asha", grace_period=1, reduction_factor=3),
        epochs,
        optimizer__lr=[round(0.01 * 1.5**place, 4) for place in range(6)],
        optimizer__momentum=[place / 10 for place in range(6)],
    )
    qualities = {}
    for config in grid.configurations or ():
        far = (
            abs(math.log(config["optimizer.lr"] / 0.0338) / math.log(1.5))
            + abs(config["optimizer.momentum"] - 0.3) * 10
        )
        qualities[label(config)] = 0.1 - 0.02 * far
    curves = [smooth(quality, epochs) for quality in qualities.values()]
    return grid, table(grid, *curves, seeds=range(2)), qualities


# ---------------------------------------------------------------------------------------------------------- the epochs


def test_every_epoch_of_either_worker_is_counted_and_the_best_finished_one_stands() -> None:
    grid = searching()
    trained = table(grid, *(curve(0, 0, 0, last) for last in (0.1, 0.2, -0.1, 0.3)))
    a, b, _, d = labels(grid)
    assert replay(grid, trained, 0, 100) == [
        Moment(7, (a,)),  # both workers have come to epoch 4, the first just before
        Moment(8, (b,)),
        Moment(15, (b,)),
        Moment(16, (d,)),
    ]
    assert [moment.best for moment in replay(grid, trained, 0, 100, top=2)] == [(a,), (b, a), (b, a), (d, b)]


def test_one_worker_trains_one_after_the_other() -> None:
    grid = searching()
    moments = replay(grid, table(grid, *[curve(0, 0, 0, 0)] * 4), 0, 100, workers=1)
    assert [moment.spent for moment in moments] == [4, 8, 12, 16]


def test_a_stopped_comparison_costs_what_it_has_trained_and_is_no_answer() -> None:
    grid = searching(HALVING)
    best, others = (
        curve(0.5, 0.5, 0.5, 0.5),
        [curve(0.4, 0.9, 0.9, 0.9), curve(0.3, 1, 1, 1), curve(0.6, 0.6, 0.6, 0.6)],
    )
    a, _, _, d = labels(grid)
    moments = replay(grid, table(grid, best, *others), 0, 100, workers=1)
    assert moments == [
        Moment(4, (a,)),
        Moment(5, (a,)),  # worse than the first after its first epoch
        Moment(6, (a,)),
        Moment(10, (d,)),
    ]


def test_a_search_ends_where_its_budget_does() -> None:
    grid = searching()
    trained = table(grid, *[curve(0, 0, 0, 0)] * 4)
    assert [moment.spent for moment in replay(grid, trained, 0, 14)] == [7, 8]
    assert [moment.spent for moment in replay(grid, trained, 0, 15)] == [7, 8, 15]


def test_a_comparison_that_diverges_ends_there_and_is_no_answer() -> None:
    grid = searching()
    ok, broken = curve(0, 0, 0, 0.1), curve(0.9, 0.9, status="diverged")
    a, *_ = labels(grid)
    moments = replay(grid, table(grid, ok, broken, broken, broken), 0, 100, workers=1)
    assert moments == [Moment(4, (a,)), Moment(6, (a,)), Moment(8, (a,)), Moment(10, (a,))]


def test_a_win_over_a_baseline_that_has_not_learned_is_not_what_a_search_picks() -> None:
    grid = searching()
    unlearned = curve(0, 0, 0, 0.8, baseline=0.1)
    trained = table(grid, unlearned, curve(0, 0, 0, 0.1), unlearned, unlearned, seeds=(0, 1))
    _, b, *_ = labels(grid)
    assert replay(grid, trained, 0, 100)[-1].best == (b,)
    gaps = confirmed(grid, trained, labels(grid), 0, (0, 1))
    assert max(gaps, key=lambda name: gaps[name]) == b


class Listening:
    """Proposes rates, and notes after how many others had ended each was asked for."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.ended = 0
        self.asked: list[int] = []

    def ask(self) -> dict[str, Any] | None:
        if not self.left:
            return None
        self.left -= 1
        self.asked.append(self.ended)
        return dict((searching().configurations or [])[self.left % 4])

    def tell(self, place: int, outcomes: Sequence[Any]) -> None:
        self.ended += 1

    def recall(self, config: Mapping[str, Any], outcomes: Any) -> None:
        raise AssertionError


def test_one_configuration_is_asked_for_ahead_as_under_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = Listening(6)
    monkeypatch.setattr(replays, "_proposer", lambda _: listening)
    grid = searching()
    moments = replay(grid, table(grid, *[curve(0, 0, 0, 0)] * 4), 0, 100)
    assert len(moments) == 6  # two of them for the second time, and trained again
    assert moments[-1].spent == 24
    assert listening.asked == [0, 0, 0, 2, 2, 4]  # one waits for a worker, another only when it has reported


def test_stopping_saves_epochs() -> None:
    grid, trained, _ = planted()
    few = grid.model_copy(update={"search": Search(name="random", trials=40)})
    stopping = replay(few, trained, 0, 10_000)
    patient = replay(few.model_copy(update={"scheduler": Scheduler()}), trained, 0, 10_000)
    assert len(stopping) == len(patient) == 40
    assert patient[-1].spent == 40 * 9
    assert stopping[-1].spent < 0.6 * patient[-1].spent


# ---------------------------------------------------------------------------------------------------------- the answer


def test_a_gap_is_confirmed_on_the_seeds_that_the_search_has_not_seen() -> None:
    grid = searching(optimizer__lr=RATES[:2])
    a, b = labels(grid)
    ends = {(a, 0): 0.9, (a, 1): 0.1, (a, 2): 0.3, (b, 0): -0.5, (b, 1): 0.4, (b, 2): 0.2}
    trained = {key: curve(0, 0, 0, end) for key, end in ends.items()}
    assert confirmed(grid, trained, (a, b), 0, range(3)) == pytest.approx({a: 0.2, b: 0.3})
    assert confirmed(grid, trained, (a, b), 1, range(3)) == pytest.approx({a: 0.6, b: -0.15})
    assert ranked(grid, trained, (a, b), 0) == [a, b]
    assert ranked(grid, trained, (a, b), 1) == [b, a]
    trained[b, 2] = curve(0.9, status="diverged")
    assert confirmed(grid, trained, (a, b), 0, range(3)) == pytest.approx({a: 0.2, b: -1})
    assert ranked(grid, trained, (a, b), 2) == [a]


def test_a_search_is_near_from_where_it_stays_so() -> None:
    gaps = {"a": 0.01, "b": 0.02, "c": 0.03}
    moments = [Moment(5, ()), Moment(9, ("c",)), Moment(12, ("a",)), Moment(20, ("b",)), Moment(22, ("c",))]
    assert near(moments, gaps, 0.03) == 22
    assert near(moments, gaps, 0.02) == 20
    assert near(moments, gaps, 0.01) == 9
    assert near(moments, gaps, 0.04) is None
    assert near(moments[:3], gaps, 0.02) is None  # it was, and is no more
    assert near([], gaps, 0.0) is None
    assert near([Moment(7, ("a", "c"))], gaps, 0.03) == 7  # one of what is confirmed suffices


def test_what_a_search_answers_after_so_many_epochs() -> None:
    moments = [Moment(5, ()), Moment(9, ("c",)), Moment(12, ("a",))]
    assert [standing(moments, spent) for spent in (4, 8, 9, 11, 12, 99)] == [(), (), ("c",), ("c",), ("a",), ("a",)]


def test_searches_find_a_planted_best_and_those_that_stop_find_it_sooner() -> None:
    grid, trained, qualities = planted()
    ours, short, chance, _, patient, _ = figures(grid, trained, range(2), 3, 1)
    assert ours.name.endswith("ASHA + Optuna")
    assert (ours.unit, ours.bound, ours.limit, ours.rounds) == ("×", "at most", 0.25, 6)
    assert 0 < ours.value <= 0.5
    assert ours.value < patient.value
    assert chance.value < patient.value
    assert 0 <= short.value <= 3.0
    assert "with the 27 epochs at most that confirm the best 1 and each arm's best in their problems" in ours.beside
    assert "grid 36 × 9 = 324 epochs, best +9.98 pp; 6 of 6" in ours.beside
    assert max(qualities.values()) == pytest.approx(0.1, abs=1e-4)
    assert (chance.limit, chance.bound, patient.met) == (None, None, None)


def test_a_search_that_is_misled_by_its_seed_never_gets_there_and_counts_as_more_than_the_grid() -> None:
    grid = searching()
    good, bad = curve(0, 0, 0, 0.5), curve(0, 0, 0, 0.0)
    trained = {**table(grid, good, good, bad, bad), **table(grid, bad, bad, good, good, seeds=(1,))}
    misled, *_ = figures(grid, trained, range(2), 2, 1)
    assert misled.value == misled.low == misled.high == NEVER > 1
    assert misled.met is False
    assert "0 of 4 searches get there" in misled.beside
    (both, *_) = figures(grid, trained, range(2), 2, 4)  # confirmed, the others tell
    assert both.value < NEVER


@pytest.mark.parametrize(("seeds", "searches"), [(1, 1), (2, 0)])
def test_too_few_seeds_or_searches_are_refused(seeds: int, searches: int) -> None:
    with pytest.raises(ValueError, match=f"{seeds} seeds and {searches} searches"):
        next(suite(seeds=seeds, searches=searches))


# ------------------------------------------------------------------------------------------------------------ training


def test_the_grid_is_that_of_the_description() -> None:
    grid = experiment()
    configs = grid.configurations or []
    assert len(configs) == len({label(config) for config in configs}) == 96
    assert grid.longest == 16
    assert grid.scheduled == ("filtered/validation_accuracy", "max")


def test_the_same_configuration_has_one_label_for_all_seeds() -> None:
    config = {"optimizer.lr": 0.05, "seed": 3}
    assert label(config) == label({"optimizer.lr": 0.05}) == label(TrialConfig.from_dotted(config).to_dotted())
    assert label(config) != label({"optimizer.lr": 0.06})


@pytest.mark.slow
def test_a_small_grid_is_trained_once_and_searched_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "grid.jsonl"
    grid = searching(HALVING, epochs=2, optimizer__lr=RATES[:2])
    found = list(suite(file, grid, seeds=2, searches=1))
    assert [figure.unit for figure in found] == ["×", "pp"] * 3
    assert "grid 2 × 2 = 4 epochs" in found[0].beside
    assert "search: 4 of 4 comparisons trained" in capsys.readouterr().err
    before = file.read_text()
    assert list(suite(file, grid, seeds=2, searches=1)) == found
    assert file.read_text() == before  # nothing was trained again
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:3]))
    train(grid, range(2), file)
    assert sorted(file.read_text().splitlines()) == sorted(before.splitlines())
    for (name, seed), kept in read(file).items():
        config = next(c for c in grid.configurations or () if label(c) == name)
        trial = TrialConfig.from_dotted({**config, "seed": seed})
        comparison = prepare(trial, Runtime(device="cpu", threads=1))
        comparison.step()
        for epoch in (1, 2):
            told = report(comparison.step(), trial.baseline, trial.treatment)
            assert kept.at(epoch)[OBJECTIVE] == told[OBJECTIVE]
            assert grid.objective.values(kept.at(epoch), trial.baseline) == grid.objective.values(told, trial.baseline)


@pytest.mark.slow
@pytest.mark.xdist_group("runner")
def test_a_replay_asks_trains_and_stops_as_the_engine_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "available_cpus", lambda: 1)
    grid = searching(HALVING, epochs=4, optimizer__lr=(0.001, *RATES), batch_size=(8, 32))
    trained = train(grid, (0,), tmp_path / "grid.jsonl")
    search = grid.model_copy(update={"search": Search(name="optuna", trials=8)})
    folder.create(tmp_path / "study", search)
    runner.run(search, tmp_path / "study", NoDisplay())
    study = load(tmp_path / "study")
    spent = study.epochs[study.epochs["arm"] == "filtered"].groupby("trial_id")["epoch"].max()
    in_turn = [int(spent[trial_id]) for trial_id in study.trials.sort_values("number")["trial_id"]]
    moments = replay(search, trained, 0, 10_000, workers=1)
    told = [later.spent - earlier.spent for earlier, later in zip([Moment(0, ()), *moments], moments, strict=False)]
    assert told == in_turn
    assert len(set(told)) > 1  # some were stopped


@pytest.mark.parametrize(("top", "sizes", "runs"), [(5, [32, 64, 128, 256], 13), (5, [32], 7), (1, [32, 64], 3)])
def test_a_confirmation_costs_the_best_and_two_more_in_each_of_their_problems(
    top: int, sizes: list[int], runs: int
) -> None:
    assert confirmations(searching(optimizer__lr=[0.01, 0.1], batch_size=sizes), top) == runs
