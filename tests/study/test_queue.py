from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Experiment as TuneExperiment
from ray.tune.experiment import Trial

from search_spaces.domains import space
from study.experiment import Search
from study.history import UNFINISHED, History, Past, Report, retrying
from study.queue import Planned, Queue
from study.searcher import Asked, InTurn, Listed, Outcome, Proposer, create_study
from trainables.config import TrialConfig
from trainables.records import STATUSES
from trainables.tune import ComparisonTrainable

IMPOSSIBLE = {"optimizer.nesterov": True, "optimizer.momentum": 0.0}


class Proposed:
    """Proposes a list, and remembers what it was told."""

    def __init__(self, *configs: Mapping[str, Any]) -> None:
        self._listed = Listed(configs)
        self.told: list[tuple[int, Sequence[Outcome]]] = []
        self.recalled: list[tuple[Mapping[str, Any], Sequence[Outcome] | None]] = []

    def ask(self) -> dict[str, Any] | None:
        return self._listed.ask()

    def tell(self, place: int, outcomes: Sequence[Outcome]) -> None:
        self.told.append((place, outcomes))

    def recall(self, config: Mapping[str, Any], outcomes: Sequence[Outcome] | None) -> None:
        self._listed.recall(config, outcomes)
        self.recalled.append((config, outcomes))


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> TuneExperiment:
    """What all trials share, as Tune hands it over."""
    return TuneExperiment(
        "study",
        ComparisonTrainable,
        storage_path=str(tmp_path_factory.mktemp("tune")),
        resources_per_trial=tune.PlacementGroupFactory([{"CPU": 1}]),
        trial_dirname_creator=lambda trial: trial.trial_id,
    )


MakeQueue = Callable[..., Queue]


@pytest.fixture(scope="module")
def queue(specification: TuneExperiment) -> MakeQueue:
    """Makes a queue whose trials have their number and configuration; what is rejected goes to ``rejected``."""

    def make(
        proposer: Proposer,
        seeds: int = 1,
        history: History | None = None,
        rejected: list[tuple[Planned, str]] | None = None,
        slots: int = 1000,
    ) -> Queue:
        made = Queue(
            proposer,
            seeds,
            history or History(),
            lambda planned: {"number": planned.number, "trial": dict(planned.config), "planned": planned},
            lambda planned, reason: (rejected if rejected is not None else []).append((planned, reason)),
            slots,
        )
        made.add_configurations([specification])
        return made

    return make


def trials(queue: Queue) -> Iterator[Trial]:
    while (trial := queue.next_trial()) is not None:
        yield trial


def result(epoch: int, *objectives: float, status: str = "running") -> dict[str, Any]:
    return {"epoch": epoch, "objectives": list(objectives), "status": status}


# ----------------------------------------------------------------------------------------------------------- ids, seeds


def test_every_configuration_runs_on_every_seed_under_numbers_and_ids_of_its_own(queue: MakeQueue) -> None:
    handed = list(trials(queue(Proposed({"epochs": 3, "seed": 5}, {"epochs": 4}), seeds=3)))
    assert [trial.config["number"] for trial in handed] == [0, 1, 2, 3, 4, 5]
    assert [trial.config["trial"]["seed"] for trial in handed] == [5, 6, 7, 0, 1, 2]
    assert [trial.config["trial"]["epochs"] for trial in handed] == [3, 3, 3, 4, 4, 4]
    assert [trial.trial_id[:5] for trial in handed] == ["0000-", "0001-", "0002-", "0003-", "0004-", "0005-"]
    assert [trial.trial_id[5:] for trial in handed[:3]] == [handed[0].config["planned"].configuration] * 3
    assert handed[0].trial_id[5:] != handed[3].trial_id[5:]
    assert all(trial.trial_id == trial.config["planned"].trial_id for trial in handed)


def test_a_comparison_gets_its_whole_configuration(queue: MakeQueue) -> None:
    (trial,) = trials(queue(Proposed({"epochs": 3, "optimizer.lr": 0.5})))
    assert trial.config["trial"] == TrialConfig.from_dotted({"epochs": 3, "optimizer.lr": 0.5}).to_dotted()


def test_an_id_is_of_the_number_and_of_all_keys_but_the_seed() -> None:
    planned = Planned(7, {"seed": 1, "epochs": 3, "optimizer.lr": 0.1})
    assert Planned(7, {"optimizer.lr": 0.1, "epochs": 3, "seed": 2}).trial_id == planned.trial_id
    assert Planned(8, planned.config).configuration == planned.configuration
    assert Planned(7, {**planned.config, "epochs": 4}).configuration != planned.configuration
    assert Planned(12345, planned.config).trial_id == f"12345-{planned.configuration}"


def test_the_queue_is_finished_when_nothing_is_left_and_not_before(queue: MakeQueue) -> None:
    made = queue(Proposed({}, {"epochs": 5}))
    assert len([made.next_trial(), made.next_trial()]) == 2
    assert not made.is_finished()
    assert made.next_trial() is None
    assert made.is_finished()
    assert made.__getstate__() == {}


def test_workers_start_together_and_then_one_comparison_is_kept_ahead(queue: MakeQueue) -> None:
    made = queue(Proposed(*({"epochs": number} for number in range(3, 10))), slots=2)
    first, second = trials(made)
    made.on_trial_result(first.trial_id, result(0, 0.1))
    assert list(trials(made)) == []  # the other worker has yet to start
    made.on_trial_result(second.trial_id, result(0, 0.1))
    (third,) = trials(made)
    made.on_trial_complete(first.trial_id, result(3, 0.2, status="finished"))
    assert list(trials(made)) == []  # the third takes the worker of the first
    made.on_trial_complete(second.trial_id, error=True)
    (fourth,) = trials(made)  # for now two workers have nothing that has begun
    made.on_trial_result(third.trial_id, result(0, 0.1))
    made.on_trial_result(fourth.trial_id, result(0, 0.1))
    assert len(list(trials(made))) == 1
    assert not made.is_finished()


# -------------------------------------------------------------------------------------------------------------- telling


def test_a_configuration_is_told_once_when_the_last_of_its_seeds_has_ended(queue: MakeQueue) -> None:
    proposer = Proposed({}, {"epochs": 5})
    made = queue(proposer, seeds=2)
    first, second, other, never = (trial.trial_id for trial in trials(made))
    made.on_trial_result(second, result(1, 0.1, 7.0))
    made.on_trial_complete(second, result(2, 0.2, 8.0, status="finished"))
    made.on_trial_complete(other, result(1, 0.3, 9.0))
    assert proposer.told == []
    made.on_trial_result(first, result(1, 0.5, 6.0))
    made.on_trial_complete(first, result(2, float("inf"), 5.0, status="diverged"))
    ((place, outcomes),) = proposer.told
    assert place == 0
    assert [(o.trial_id, o.status) for o in outcomes] == [(first, "diverged"), (second, "finished")]
    assert [dict(o.curve) for o in outcomes] == [{1: [0.5, 6.0], 2: [float("inf"), 5.0]}, {1: [0.1, 7.0], 2: [0.2, 8]}]
    assert all(o.ended >= o.started > 0 for o in outcomes)
    made.on_trial_complete(never, None)  # it never started: the study has ended before
    assert len(proposer.told) == 1


@pytest.mark.parametrize(
    ("last", "error", "status"),
    [
        (result(3, 0.5, status="finished"), False, "finished"),
        (result(3, 0.5, status="running"), False, "stopped"),  # by the scheduler
        (result(3, 0.5, status="stopped"), False, "stopped"),  # for it is dead
        (result(3, 0.5, status="diverged"), False, "diverged"),
        (result(0, float("nan"), status="failed"), False, "failed"),
        (None, True, "failed"),
        (result(3, 0.5, status="running"), True, "failed"),
    ],
)
def test_how_a_comparison_ended_is_told(
    queue: MakeQueue, last: dict[str, Any] | None, error: bool, status: str
) -> None:
    proposer = Proposed({})
    made = queue(proposer)
    (trial,) = trials(made)
    made.on_trial_result(trial.trial_id, result(2, 0.25))
    made.on_trial_complete(trial.trial_id, last, error)
    ((_, (outcome,)),) = proposer.told
    assert outcome.status == status
    assert outcome.curve[2] == [0.25]
    assert max(outcome.curve) == (last["epoch"] if last and last["epoch"] else 2)


def test_a_configuration_that_cannot_be_is_rejected_on_every_seed_and_told_as_failed(queue: MakeQueue) -> None:
    proposer = Proposed({"epochs": 3}, IMPOSSIBLE, {"epochs": 4})
    rejected: list[tuple[Planned, str]] = []
    made = queue(proposer, 2, rejected=rejected)
    assert [trial.config["number"] for trial in trials(made)] == [0, 1, 4, 5]
    assert [planned.number for planned, _ in rejected] == [2, 3]
    assert [planned.config for planned, _ in rejected] == [{**IMPOSSIBLE, "seed": 0}, {**IMPOSSIBLE, "seed": 1}]
    assert all("nesterov needs a momentum above 0" in reason for _, reason in rejected)
    ((place, outcomes),) = proposer.told
    assert place == 1
    assert [(outcome.status, outcome.curve) for outcome in outcomes] == [("failed", {})] * 2
    assert [outcome.trial_id for outcome in outcomes] == [planned.trial_id for planned, _ in rejected]


# ------------------------------------------------------------------------------------------------------------ recalling


def past(number: int, status: str, config: Mapping[str, Any], epoch: int = 2) -> Past:
    planned = Planned(number, TrialConfig.from_dotted(config).to_dotted())
    ended = None if status in UNFINISHED else 200.0 + number
    return Past(planned.trial_id, number, status, planned.config, 100.0 + number, ended, epoch)


def reports(*comparisons: Past) -> tuple[Report, ...]:
    """Each reported its number and the epoch, as a decimal, after epochs 1 to 3."""
    return tuple(Report(p.trial_id, epoch, (p.number + epoch / 10,), 0.0) for p in comparisons for epoch in (1, 2, 3))


def test_a_comparison_whose_settings_have_changed_goes_on_under_the_id_that_it_had(queue: MakeQueue) -> None:
    begun = past(0, "interrupted", {"epochs": 3, "optimizer.lr": 0.1})
    changed = Past(begun.trial_id, 0, begun.status, {**begun.config, "optimizer.lr": 0.2}, 100.0, None, 2)
    (goes_on,) = trials(queue(Proposed({"epochs": 3, "optimizer.lr": 0.1}), history=History((changed,))))
    assert goes_on.trial_id == begun.trial_id
    assert goes_on.config["trial"]["optimizer.lr"] == 0.2


def test_what_has_ended_is_recalled_and_what_has_not_goes_on_under_its_id(queue: MakeQueue) -> None:
    ended, broken = past(0, "stopped", {"epochs": 3}, epoch=3), past(1, "interrupted", {"epochs": 4, "seed": 9})
    proposer = Proposed({"epochs": 3}, {"epochs": 4}, {"epochs": 5})
    made = queue(proposer, history=History((ended, broken), reports(ended, broken)))
    (config, outcomes), (other, none) = proposer.recalled
    assert (config, other, none) == (ended.config, broken.config, None)
    assert outcomes == [Outcome(ended.trial_id, "stopped", {1: (0.1,), 2: (0.2,), 3: (0.3,)}, 100.0, 200.0)]
    goes_on, new = trials(made)
    assert (goes_on.trial_id, goes_on.config["trial"]) == (broken.trial_id, dict(broken.config))
    assert new.config["number"] == 2
    made.on_trial_complete(goes_on.trial_id, result(3, 0.7, status="finished"))
    ((place, (outcome,)),) = proposer.told
    assert (place, outcome.started) == (1, 101.0)
    assert outcome.curve == {1: (1.1,), 2: (1.2,), 3: [0.7]}


def test_what_was_reported_after_the_epoch_from_which_it_goes_on_is_not_told(queue: MakeQueue) -> None:
    broken = past(0, "interrupted", {"epochs": 4}, epoch=2)
    proposer = Proposed({"epochs": 4})
    made = queue(proposer, history=History((broken,), reports(broken)))
    (trial,) = trials(made)
    made.on_trial_complete(trial.trial_id, None, error=True)
    ((_, (outcome,)),) = proposer.told
    assert outcome.curve == {1: (0.1,), 2: (0.2,)}


def test_seeds_that_an_earlier_run_has_ended_are_told_with_those_of_this_run(queue: MakeQueue) -> None:
    done = past(1, "finished", {"epochs": 3, "seed": 5})
    proposer = Proposed({"epochs": 3, "seed": 4})
    made = queue(proposer, 3, History((done,), reports(done)))
    first, last = trials(made)
    assert [trial.config["trial"]["seed"] for trial in (first, last)] == [4, 6]
    assert [trial.config["number"] for trial in (first, last)] == [0, 2]
    assert {trial.trial_id[5:] for trial in (first, last)} == {done.trial_id[5:]}
    for trial in (last, first):
        made.on_trial_complete(trial.trial_id, result(3, 0.7, status="finished"))
    ((place, outcomes),) = proposer.told
    assert place == 0
    assert [outcome.trial_id for outcome in outcomes] == [first.trial_id, done.trial_id, last.trial_id]


def test_what_was_rejected_is_not_tried_again(queue: MakeQueue) -> None:
    rejected = Planned(0, {**IMPOSSIBLE, "seed": 0})
    proposer = Proposed(IMPOSSIBLE, {"epochs": 4})
    history = History((Past(rejected.trial_id, 0, "failed", rejected.config, 100.0, 100.0, -1),))
    again: list[tuple[Planned, str]] = []
    (trial,) = trials(queue(proposer, 1, history, again))
    assert (trial.config["number"], again, proposer.told) == (1, [], [])
    ((config, outcomes),) = proposer.recalled
    assert config == rejected.config
    assert outcomes == [Outcome(rejected.trial_id, "failed", {}, 100.0, 100.0)]


def test_what_has_failed_goes_on_where_that_is_asked_for(queue: MakeQueue) -> None:
    failed, done = past(0, "failed", {"epochs": 3}), past(1, "finished", {"epochs": 4}, epoch=4)
    history = retrying(History((failed, done), reports(failed)))
    (trial,) = trials(queue(Proposed({"epochs": 3}, {"epochs": 4}), history=history))
    assert trial.trial_id == failed.trial_id


def test_what_was_rejected_is_rejected_again_where_what_has_failed_is_to_go_on(queue: MakeQueue) -> None:
    rejected = Planned(0, {**IMPOSSIBLE, "seed": 0})
    history = retrying(History((Past(rejected.trial_id, 0, "failed", rejected.config, 100.0, 100.0, -1),)))
    proposer = Proposed(IMPOSSIBLE)
    again: list[tuple[Planned, str]] = []
    assert list(trials(queue(proposer, 1, history, again))) == []
    assert [planned.trial_id for planned, _ in again] == [rejected.trial_id]
    ((_, (outcome,)),) = proposer.told
    assert (outcome.trial_id, outcome.status) == (rejected.trial_id, "failed")


def test_a_rejected_configuration_of_which_a_crash_left_one_seed_is_rejected_on_the_others(queue: MakeQueue) -> None:
    half = Planned(0, {**IMPOSSIBLE, "seed": 0})
    proposer = Proposed(IMPOSSIBLE)
    again: list[tuple[Planned, str]] = []
    made = queue(proposer, 2, History((Past(half.trial_id, 0, "failed", half.config, 1.0, 1.0, -1),)), again)
    assert list(trials(made)) == []
    assert [planned.number for planned, _ in again] == [1]
    assert [place for place, _ in proposer.told] == [0]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_was_recorded_every_comparison_runs_once_and_every_configuration_is_told_once(
    queue: MakeQueue, data: st.DataObject
) -> None:
    seeds = data.draw(st.integers(1, 3))
    configs = [{"epochs": epochs} for epochs in range(1, data.draw(st.integers(0, 5)) + 1)]
    total = len(configs) * seeds
    recorded = data.draw(st.lists(st.none() | st.sampled_from(sorted(STATUSES)), min_size=total, max_size=total))
    comparisons = [
        past(number, status, {**configs[number // seeds], "seed": number % seeds})
        for number, status in enumerate(recorded)
        if status is not None
    ]
    proposer = Proposed(*configs)
    made = queue(proposer, seeds, History(tuple(comparisons), reports(*comparisons)))
    handed = list(trials(made))
    ended = [p.number for p in comparisons if not p.unfinished]
    assert sorted(ended + [trial.config["number"] for trial in handed]) == list(range(total))
    known = {p.number: p.trial_id for p in comparisons}
    for trial in handed:
        number = trial.config["number"]
        assert trial.trial_id == known.get(number, trial.trial_id)
        assert trial.config["trial"]["seed"] == number % seeds
        assert trial.config["trial"]["epochs"] == configs[number // seeds]["epochs"]
        made.on_trial_complete(trial.trial_id, result(4, 0.5, status="finished"))
    complete = [config["epochs"] - 1 for config, outcomes in proposer.recalled if outcomes is not None]
    assert sorted(complete + [place for place, _ in proposer.told]) == list(range(len(configs)))
    everything = [o for _, outcomes in (*proposer.recalled, *proposer.told) for o in outcomes or ()]
    assert len({outcome.trial_id for outcome in everything}) == len(everything) == total


SPACE = space(optimizer__lr={"loguniform": [0.01, 0.1]}, epochs={"integer": [2, 9]})


def broken_off(data: st.DataObject, asked: Queue, most: int) -> tuple[Past, ...]:
    """What is recorded of a study that broke off after at most so many comparisons; of some, nothing is."""
    started = data.draw(st.integers(0, most))
    first = [trial for trial, _ in zip(trials(asked), range(started), strict=False)]
    recorded = data.draw(st.lists(st.none() | st.sampled_from(sorted(STATUSES)), min_size=started, max_size=started))
    return tuple(
        past(trial.config["number"], status, trial.config["trial"])
        for trial, status in zip(first, recorded, strict=True)
        if status is not None
    )


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_search_that_broke_off_anywhere_goes_on_and_hears_of_every_configuration(
    queue: MakeQueue, data: st.DataObject
) -> None:
    seeds, wanted = data.draw(st.integers(1, 2)), 6
    points = [{"optimizer.lr": 0.05, "epochs": 4}]

    def asked(after: int) -> Asked:
        return Asked(create_study(Search(trials=wanted), ["max"], after), SPACE, {"batch_size": 8}, wanted, points)

    comparisons = broken_off(data, queue(asked(0), seeds), wanted * seeds)
    proposer = asked(len(comparisons) // seeds)
    made = queue(proposer, seeds, History(comparisons, reports(*comparisons)))
    configs = {p.number: p.config for p in comparisons}
    for trial in trials(made):
        configs[trial.config["number"]] = trial.config["trial"]
        made.on_trial_complete(trial.trial_id, result(4, 0.5, status="finished"))
    assert sorted(configs) == list(range(wanted * seeds))
    heard = proposer.study.get_trials()
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL) for trial in heard)
    assert [trial.params for trial in heard for _ in range(seeds)] == [
        {key: configs[number][key] for key in SPACE} for number in sorted(configs)
    ]
    assert heard[0].params == points[0]


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_two_searches_in_turn_that_broke_off_anywhere_go_on_and_both_hear_of_every_configuration(
    queue: MakeQueue, data: st.DataObject
) -> None:
    seeds, wanted = data.draw(st.integers(1, 2)), 6

    def made(after: int) -> InTurn:
        searches = [create_study(Search(trials=wanted), ["max"], after + side * 1000) for side in range(2)]
        return InTurn([Asked(study, SPACE, {"batch_size": 8}, wanted) for study in searches])

    comparisons = broken_off(data, queue(made(0), seeds), wanted * seeds)
    proposer = made(len(comparisons) // seeds)
    numbers = [replace(report, objectives=(0.0, report.epoch, -report.epoch)) for report in reports(*comparisons)]
    going_on = queue(proposer, seeds, History(comparisons, tuple(numbers)))
    configs = {p.number: p.config for p in comparisons}
    for trial in trials(going_on):
        configs[trial.config["number"]] = trial.config["trial"]
        going_on.on_trial_complete(trial.trial_id, result(4, 0.5, 4, -4, status="finished"))
    assert sorted(configs) == list(range(wanted * seeds))
    finished = {p.number for p in comparisons if p.status in ("failed", "diverged", "stopped")}
    for side, search in enumerate(proposer.searches):
        heard = search.study.get_trials()
        assert all(trial.state.is_finished() for trial in heard)
        whole = [configs[number] for number in sorted(configs)][::seeds]
        expected = sorted([config["optimizer.lr"], config["epochs"]] for config in whole)
        assert sorted([trial.params["optimizer.lr"], trial.params["epochs"]] for trial in heard) == expected
        complete = [trial.value for trial in heard if trial.state == TrialState.COMPLETE]
        assert all((value or 0) * (1 - 2 * side) > 0 for value in complete)
        assert len(complete) >= wanted - len(finished)
