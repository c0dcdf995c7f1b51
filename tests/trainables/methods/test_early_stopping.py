"""IES against the criterion of its paper."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from drawing import blank
from hypothesis import given
from hypothesis import strategies as st
from peer_helpers import of_loss, probed, remembering, trained, updates_without_waiting, whole
from pydantic import ValidationError

from trainables.contracts import SelectionContract
from trainables.methods import Batching, Memory, ProbeResult, Views
from trainables.methods.build import sampler
from trainables.methods.early_stopping import InstanceEarlyStopping

Table = list[list[float]]
"""The loss of every sample in every pass."""


class TestShortRunContract(SelectionContract):
    selection = InstanceEarlyStopping()


class TestInstanceEarlyStoppingContract(SelectionContract):
    """In a run long enough that samples are left out and probed."""

    selection = InstanceEarlyStopping(threshold=0.4, start=3, window=2)
    epochs = 9

    def test_the_run_leaves_out_some_samples(self) -> None:
        sizes = [sum(len(index) for index, _ in batches) for batches in self._trained().values()]
        assert sizes[:3] == [40, 40, 40]
        assert any(0 < size < 40 for size in sizes[3:])


def simulated(peer: InstanceEarlyStopping, table: Table, epochs: int = 100) -> Iterator[tuple[list[int], list[int]]]:
    """What is looked at and what is trained on, pass by pass, where the losses are those of the table.

    The probe at the beginning of a pass gives the losses of the pass before.
    """
    size = len(table[0])
    memory = remembering(peer, size, epochs=epochs)
    for number, losses in enumerate(table, 1):
        unit = whole(size, number, order=list(reversed(range(size))))
        looked = unit.index[peer.look(unit, memory)].tolist()
        seen = probed([table[number - 2][i] for i in looked]) if looked else None
        chosen = unit.index[peer.choose(unit, seen, memory).positions].tolist()
        if chosen:
            trained(peer, memory, chosen, of_loss([losses[i] for i in chosen]))
        yield looked, chosen


def mastered(history: list[float], window: int, threshold: float) -> bool:
    """The criterion of the paper, after these losses."""
    changes = [abs(history[t] - 2 * history[t - 1] + history[t - 2]) for t in range(2, len(history))]
    return sum(changes[-window:]) / len(changes[-window:]) < threshold


LOSSES = st.sampled_from([0.5, 0.75, 1.0, 1.25, 2.0])  # their second differences are multiples of 1/4


@given(
    st.lists(st.lists(LOSSES, min_size=4, max_size=4), min_size=1, max_size=14), st.integers(1, 4), st.integers(3, 6)
)
def test_what_is_mastered_is_probed_instead_of_trained(table: Table, window: int, start: int) -> None:
    threshold = 0.3
    peer = InstanceEarlyStopping(threshold=threshold, window=window, start=start)
    left_out: list[int] = []
    for number, (looked, chosen) in enumerate(simulated(peer, table), 1):
        assert looked == left_out
        histories = [[losses[i] for losses in table[: number - 1]] for i in range(4)]
        everyone = list(reversed(range(4)))
        left_out = [i for i in everyone if number > start and mastered(histories[i], window, threshold)]
        assert chosen == [i for i in everyone if i not in left_out]


def test_a_loss_that_changes_steadily_is_mastered_and_returns_when_it_jumps() -> None:
    falling = [1.0 - 0.05 * t for t in range(12)]  # sample 0: second differences of 0, until its loss jumps
    jumping = [*falling[:9], 2.0, 2.0, 2.0]
    restless = [1.0 + 0.3 * (-1) ** t for t in range(12)]
    passes = list(simulated(InstanceEarlyStopping(), [list(pair) for pair in zip(jumping, restless, strict=True)]))
    assert [0 in chosen for _, chosen in passes] == [True] * 6 + [False] * 4 + [True] * 2
    assert [looked for looked, _ in passes] == [[]] * 7 + [[0]] * 4 + [[]]
    assert all(1 in chosen for _, chosen in passes)


def test_the_first_verdict_is_over_the_last_three_differences() -> None:
    peer = InstanceEarlyStopping(threshold=0.1)
    late = [9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]  # its one large difference is the first of four
    assert [bool(chosen) for _, chosen in simulated(peer, [[loss] for loss in late])] == [True] * 6 + [False]
    later = [1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0]  # two large ones, of which the second counts
    assert [bool(chosen) for _, chosen in simulated(peer, [[loss] for loss in later])] == [True] * 7


@pytest.mark.parametrize(
    ("start", "epochs", "expected"), [(6, 200, 6), (6, 12, 6), (6, 11, 5), (6, 6, 3), (6, 3, 3), (6, 1, 3), (3, 100, 3)]
)
def test_in_a_short_run_half_of_the_epochs_at_most_leave_out_no_sample(start: int, epochs: int, expected: int) -> None:
    peer = InstanceEarlyStopping(start=start)
    assert remembering(peer, 1, epochs=epochs).start == expected
    left_out = [not chosen for _, chosen in simulated(peer, [[1.0]] * 9, epochs)]
    assert left_out == [number > expected for number in range(1, 10)]


def test_the_change_must_be_below_the_threshold() -> None:
    losses = [0.5, 0.5, 1.0, 1.0]  # the second difference is 1/2, then -1/2
    for threshold, expected in [(0.49, [True, True]), (0.51, [False, False])]:
        peer = InstanceEarlyStopping(threshold=threshold, start=3, window=1)
        table = [[loss] for loss in losses] + [[1.0]]
        assert [bool(chosen) for _, chosen in simulated(peer, table)][3:] == expected


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_sample_whose_loss_was_not_finite_is_not_mastered(odd: float) -> None:
    peer = InstanceEarlyStopping(start=3, window=2)
    memory = remembering(peer, 2, epochs=20)
    for number in range(1, 10):
        chosen = peer.choose(whole(2, number), None, memory).positions.tolist()
        memory.last.copy_(torch.tensor([1.0, odd if number == 4 else 1.0]))
        assert (1 in chosen) == (number <= 8 and number != 4)
        assert (0 in chosen) == (number <= 3)


def test_training_losses_are_remembered_without_label_smoothing() -> None:
    memory = remembering(peer := InstanceEarlyStopping(), 3)
    loss = trained(peer, memory, [2, 0], of_loss([0.25, 1.0]), smoothing=0.1)
    assert memory.last.tolist() == pytest.approx([1.0, 0.0, 0.25])
    assert loss.item() != pytest.approx(0.625)
    assert trained(peer, memory, [2, 0], of_loss([0.25, 1.0])).item() == pytest.approx(0.625)


def test_a_pass_costs_3_by_sample_trained_and_1_by_sample_left_out() -> None:
    """In a real sampler: the first third of the samples are mastered, the others restless."""
    size, epochs = 30, 10
    peer = InstanceEarlyStopping(start=3)
    views: list[list[int]] = []

    def logits(index: torch.Tensor, number: int) -> torch.Tensor:
        return of_loss([1.0 if i < 10 else 1 + 0.5 * (-1) ** number for i in index.tolist()])

    def probe(batch: Views) -> ProbeResult:
        views.append(batch.index.tolist())
        return ProbeResult(logits(batch.index, 0), torch.zeros(len(batch), dtype=torch.int64))

    problem = blank(size, 8, epochs)
    made = sampler(
        peer,
        "epoch",
        Batching(8, 8),
        problem,
        order=lambda number: torch.randperm(size, generator=torch.Generator().manual_seed(number)),
        seed=0,
        device=torch.device("cpu"),
        kept=lambda arm, number: [],
    )
    for epoch in range(1, epochs + 1):
        made.start_epoch(epoch)
        views.clear()
        for batch in made.batches(probe):
            made.loss(batch, logits(batch.index, epoch), torch.zeros(len(batch), dtype=torch.int64))
        out, before = (10 if epoch > 3 else 0), (10 if epoch > 4 else 0)
        assert sorted(i for part in views for i in part) == list(range(before))
        assert made.counts.samples_trained == size - out
        assert made.counts.samples_probed == before
        assert made.counts.samples_rejected == out
        assert made.spent()["compute"] == 3 * (size - out) + before


def test_where_all_are_mastered_no_update_is_made_and_all_are_probed() -> None:
    passes = list(simulated(InstanceEarlyStopping(start=3), [[1.0, 2.0]] * 6))
    assert passes[3:] == [([], []), ([1, 0], []), ([1, 0], [])]


def test_an_update_waits_for_nothing() -> None:
    assert updates_without_waiting(InstanceEarlyStopping())


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"start": 2}, {"window": 0}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        InstanceEarlyStopping(**options)


def test_the_memory_holds_what_a_pass_needs() -> None:
    memory: Memory = remembering(InstanceEarlyStopping(window=4), 7)
    assert memory.losses.shape == (7, 6)
    assert not memory.mastered.any()
