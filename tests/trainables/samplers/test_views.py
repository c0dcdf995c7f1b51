from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from trainables.samplers import ProbeResult, Views, wrong

CPU = torch.device("cpu")


@given(st.integers(0, 40), st.integers(1, 15))
def test_pieces_join_to_the_whole(size: int, piece: int) -> None:
    views = Views(torch.arange(size) * 3, torch.arange(size) % 4)
    pieces = list(views.split(piece))
    assert [len(p) for p in pieces] == [min(piece, size - start) for start in range(0, size, piece)]
    joined = sum(pieces, Views.none(CPU))
    assert torch.equal(joined.index, views.index)
    assert torch.equal(joined.epoch, views.epoch)


def test_a_mask_and_a_slice_choose_index_and_epoch_alike() -> None:
    views = Views(torch.tensor([5, 6, 7]), torch.tensor([1, 2, 3]))
    masked, sliced = views[torch.tensor([True, False, True])], views[1:]
    assert (masked.index.tolist(), masked.epoch.tolist()) == ([5, 7], [1, 3])
    assert (sliced.index.tolist(), sliced.epoch.tolist()) == ([6, 7], [2, 3])


def test_an_index_without_an_epoch_is_refused() -> None:
    with pytest.raises(TypeCheckError):
        Views(torch.tensor([1, 2]), torch.tensor([1]))


@given(st.lists(st.tuples(st.lists(st.integers(-5, 5), min_size=3, max_size=3, unique=True), st.integers(0, 2))))
def test_the_hard_filter_keeps_what_the_model_gets_wrong(samples: list[tuple[list[int], int]]) -> None:
    logits = torch.tensor([scores for scores, _ in samples], dtype=torch.float32).view(-1, 3)
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    kept = wrong(ProbeResult(logits, labels))
    assert kept.tolist() == [max(scores) != scores[label] for scores, label in samples]
