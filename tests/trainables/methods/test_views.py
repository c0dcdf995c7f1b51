from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from trainables.methods import Views

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


def test_positions_choose_in_their_order() -> None:
    views = Views(torch.tensor([5, 6, 7]), torch.tensor([1, 2, 3]))[torch.tensor([2, 0])]
    assert (views.index.tolist(), views.epoch.tolist()) == ([7, 5], [3, 1])


def test_views_survive_as_tensors() -> None:
    views = Views(torch.tensor([5, 6, 7]), torch.tensor([1, 2, 3]))[1:]
    restored = Views.from_state_dict(views.state_dict(), CPU)
    assert torch.equal(restored.index, views.index)
    assert torch.equal(restored.epoch, views.epoch)


def test_positions_choose_index_and_epoch_in_their_order() -> None:
    views = Views(torch.tensor([5, 6, 7]), torch.tensor([1, 2, 3]))
    chosen = views[torch.tensor([2, 0, 2])]
    assert (chosen.index.tolist(), chosen.epoch.tolist()) == ([7, 5, 7], [3, 1, 3])


def test_the_state_of_a_slice_holds_no_more_than_the_slice() -> None:
    state = Views.of(torch.arange(1000), 1)[990:].state_dict()
    assert [tensor.untyped_storage().nbytes() for tensor in state.values()] == [80, 80]
