import math
from collections.abc import Sequence

import pandas as pd
import pytest

from study.confirm import NothingToConfirm, chosen, confirmation, described, provenance, winners
from study.experiment import from_document
from study.history import History, Past, Report
from study.queue import Planned
from tests.study.conftest import SMALL

EXPERIMENT = from_document("small", SMALL)


def history(*comparisons: tuple[float, int, str, float]) -> History:
    """Comparisons as learning rate, seed, status and last objective."""
    pasts, reports = [], []
    for number, (rate, seed, status, objective) in enumerate(comparisons):
        planned = Planned(number, {"optimizer.lr": rate, "seed": seed})
        pasts.append(Past(planned.trial_id, number, status, planned.config, 0.0, 1.0, 3))
        reports += [Report(planned.trial_id, epoch, (objective if epoch == 3 else 9.0,), 0.0) for epoch in (1, 2, 3)]
    return History(tuple(pasts), tuple(reports))


def best_of(*comparisons: tuple[float, int, str, float], top: int = 9) -> list[tuple[float, float]]:
    found = winners(history(*comparisons), EXPERIMENT, top)
    return [(winner.config["optimizer.lr"], pytest.approx(winner.searched)) for winner in found]


def test_the_best_come_first_by_what_they_ended_with() -> None:
    assert best_of((0.1, 0, "finished", 0.01), (0.2, 0, "finished", 0.03), (0.3, 0, "finished", 0.02), top=2) == [
        (0.2, 0.03),
        (0.3, 0.02),
    ]


@pytest.mark.parametrize("status", ["stopped", "failed", "diverged", "running", "interrupted"])
def test_a_seed_on_which_none_finished_rules_a_configuration_out(status: str) -> None:
    assert best_of((0.1, 0, "finished", 0.9), (0.1, 1, status, 0.9), (0.2, 0, "finished", 0.1)) == [(0.2, 0.1)]


@pytest.mark.parametrize("order", [1, -1])
def test_a_repeat_that_was_stopped_takes_nothing_from_the_one_that_finished(order: int) -> None:
    repeats = [(0.1, 0, "finished", 0.5), (0.1, 0, "stopped", 0.2)][::order]
    assert best_of(*repeats, (0.1, 1, "finished", 0.3), (0.2, 0, "finished", 0.1)) == [(0.1, 0.4), (0.2, 0.1)]
    (best, _) = winners(history(*repeats, (0.2, 0, "finished", 0.1)), EXPERIMENT, 2)
    assert len(best.trials) == 1


def test_a_repeat_that_finished_too_counts_once() -> None:
    assert best_of((0.1, 0, "finished", 0.5), (0.1, 0, "finished", 0.5), (0.1, 1, "finished", 0.2)) == [(0.1, 0.35)]


def test_nothing_that_finished_with_a_number_is_nothing_to_confirm() -> None:
    with pytest.raises(NothingToConfirm, match="has finished"):
        winners(history((0.1, 0, "stopped", 0.5), (0.2, 0, "finished", math.nan)), EXPERIMENT, 5)


# ------------------------------------------------------------------------------------------------- each arm at its best


def pairs(*accuracies: tuple[float, float], sizes: Sequence[int] = ()) -> pd.DataFrame:
    """What the comparisons of :func:`history` with learning rates 0.1, 0.2 and so on reach: baseline and treatment."""
    past = history(*((round(0.1 * (n + 1), 1), 0, "finished", 0.0) for n in range(len(accuracies)))).comparisons
    columns: dict[str, object] = {
        "trial_id": [one.trial_id for one in past],
        "number": range(len(past)),
        "optimizer.lr": [one.config["optimizer.lr"] for one in past],
        "batch_size": list(sizes) or 64,
        "outcome": "measured",
        "baseline": "archetype",
        "treatment": "filtered",
    }
    for place, side in enumerate(("baseline", "treatment")):
        values = [of[place] for of in accuracies]
        columns |= {f"{side}/{split}_accuracy": values for split in ("train", "validation", "test")}
        columns[f"{side}/epoch"] = 3
    return pd.DataFrame(columns)


def finished(*objectives: float) -> History:
    return history(*((round(0.1 * (n + 1), 1), 0, "finished", one) for n, one in enumerate(objectives)))


def roles(found: History, frame: pd.DataFrame, top: int = 1) -> list[tuple[float, tuple[str, ...]]]:
    return [(run.config["optimizer.lr"], run.roles) for run in chosen(found, EXPERIMENT, frame, top)]


def test_beside_the_winners_runs_what_is_best_for_either_arm() -> None:
    accuracies = [(0.5, 0.88), (0.9, 0.89), (0.85, 0.895), (0.3, 0.2)]
    assert roles(finished(0.38, -0.01, 0.045, -0.1), pairs(*accuracies)) == [
        (0.1, ("winner",)),
        (0.2, ("best baseline",)),
        (0.3, ("best treatment",)),
    ]
    assert roles(finished(0.38, -0.01, 0.045, -0.1), pairs(*accuracies), top=2) == [
        (0.1, ("winner",)),
        (0.3, ("winner", "best treatment")),
        (0.2, ("best baseline",)),
    ]


def test_what_is_best_for_an_arm_runs_once() -> None:
    assert roles(finished(0.05, -0.1), pairs((0.9, 0.95), (0.8, 0.7))) == [
        (0.1, ("winner", "best baseline", "best treatment"))
    ]
    assert roles(finished(0.3, 0.05), pairs((0.5, 0.8), (0.9, 0.95))) == [
        (0.1, ("winner",)),
        (0.2, ("best baseline", "best treatment")),
    ]


def test_each_arm_is_at_its_best_within_the_problem_of_a_winner() -> None:
    accuracies = [(0.5, 0.8), (0.6, 0.7), (0.95, 0.95), (0.9, 0.96)]
    frame = pairs(*accuracies, sizes=[32, 32, 64, 64])
    assert roles(finished(0.3, 0.1, 0.0, 0.06), frame) == [
        (0.1, ("winner", "best treatment")),
        (0.2, ("best baseline",)),  # of batch size 32; those of 64 are another problem
    ]
    assert [rate for rate, _ in roles(finished(0.3, 0.1, 0.0, 0.31), frame)] == [0.4, 0.3]


def test_what_did_not_finish_on_each_seed_is_best_for_no_arm() -> None:
    past = history((0.1, 0, "finished", 0.3), (0.2, 0, "finished", 0.1), (0.2, 1, "stopped", 0.1))
    frame = pairs((0.5, 0.8), (0.9, 0.9))
    assert roles(past, frame) == [(0.1, ("winner", "best baseline", "best treatment"))]


def test_the_confirmation_runs_all_of_them_on_the_same_fresh_seeds_and_says_why() -> None:
    past = finished(0.38, -0.01, 0.045)
    runs = chosen(past, EXPERIMENT, pairs((0.5, 0.88), (0.9, 0.89), (0.85, 0.895)), 1)
    experiment = confirmation(EXPERIMENT, past, runs, 5)
    assert [point["optimizer.lr"] for point in experiment.configurations or ()] == [0.1, 0.2, 0.3]
    assert experiment.trials == 15
    assert experiment.trial["seed"] == 1
    assert described(runs, 5) == (
        "It runs the search's best configuration on 5 fresh seeds, and with 10 further comparisons the best "
        "configuration of each arm in their problems: a win counts against the best baseline."
    )
    assert described(runs[:1], 5).endswith(
        "on 5 fresh seeds; the best configuration of each arm in their problems is among them."
    )
    noted = provenance("small-1", EXPERIMENT, runs)["configurations"]
    assert [one["roles"] for one in noted.values()] == [["winner"], ["best baseline"], ["best treatment"]]
