import math

import pytest

from study.confirm import NothingToConfirm, winners
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


def chosen(*comparisons: tuple[float, int, str, float], top: int = 9) -> list[tuple[float, float]]:
    found = winners(history(*comparisons), EXPERIMENT, top)
    return [(winner.config["optimizer.lr"], pytest.approx(winner.searched)) for winner in found]


def test_the_best_come_first_by_what_they_ended_with() -> None:
    assert chosen((0.1, 0, "finished", 0.01), (0.2, 0, "finished", 0.03), (0.3, 0, "finished", 0.02), top=2) == [
        (0.2, 0.03),
        (0.3, 0.02),
    ]


@pytest.mark.parametrize("status", ["stopped", "failed", "diverged", "running", "interrupted"])
def test_a_seed_on_which_none_finished_rules_a_configuration_out(status: str) -> None:
    assert chosen((0.1, 0, "finished", 0.9), (0.1, 1, status, 0.9), (0.2, 0, "finished", 0.1)) == [(0.2, 0.1)]


@pytest.mark.parametrize("order", [1, -1])
def test_a_repeat_that_was_stopped_takes_nothing_from_the_one_that_finished(order: int) -> None:
    repeats = [(0.1, 0, "finished", 0.5), (0.1, 0, "stopped", 0.2)][::order]
    assert chosen(*repeats, (0.1, 1, "finished", 0.3), (0.2, 0, "finished", 0.1)) == [(0.1, 0.4), (0.2, 0.1)]
    (best, _) = winners(history(*repeats, (0.2, 0, "finished", 0.1)), EXPERIMENT, 2)
    assert len(best.trials) == 1


def test_a_repeat_that_finished_too_counts_once() -> None:
    assert chosen((0.1, 0, "finished", 0.5), (0.1, 0, "finished", 0.5), (0.1, 1, "finished", 0.2)) == [(0.1, 0.35)]


def test_nothing_that_finished_with_a_number_is_nothing_to_confirm() -> None:
    with pytest.raises(NothingToConfirm, match="has finished"):
        winners(history((0.1, 0, "stopped", 0.5), (0.2, 0, "finished", math.nan)), EXPERIMENT, 5)
