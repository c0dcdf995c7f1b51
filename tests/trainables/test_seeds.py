from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from trainables.seeds import derive, generator, permutation

SEEDS = st.integers(0, 2**63 - 1)
PARTS = st.one_of(st.integers(0, 10**6), st.text("abcdefghij-_ ", min_size=1))
NAMES = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: tuple(map(str, parts)))


def test_derived_seeds_never_change() -> None:
    assert derive(0, "weights") == 4283426181684004966
    assert derive(0, "order", 1) == 2961819992523135983
    assert derive(7, "augmentation") == 478652391635435375


def test_drawn_streams_never_change() -> None:
    assert permutation(8, 0, "order", 1).tolist() == [1, 5, 7, 2, 6, 3, 0, 4]
    drawn = torch.rand(3, generator=generator(3, "weights"))
    assert drawn.tolist() == [0.10622382164001465, 0.1742064356803894, 0.8259513974189758]


@given(SEEDS, NAMES)
def test_a_stream_is_the_same_on_each_call_and_fits_in_63_bits(seed: int, name: tuple[str, ...]) -> None:
    value = derive(seed, *name)
    assert value == derive(seed, *name)
    assert 0 <= value < 2**63


@given(SEEDS, SEEDS, NAMES, NAMES)
def test_different_seeds_or_names_give_different_streams(
    seed: int, other_seed: int, name: tuple[str, ...], other_name: tuple[str, ...]
) -> None:
    same = (seed, name) == (other_seed, other_name)
    assert (derive(seed, *name) == derive(other_seed, *other_name)) is same


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    weights, order = generator(5, "weights"), generator(5, "order")
    first = torch.rand(4, generator=weights), torch.rand(4, generator=order)
    order = generator(5, "order")
    torch.rand(1000)
    torch.rand(17, generator=generator(5, "selection"))
    again_order = torch.rand(4, generator=order)
    again_weights = torch.rand(4, generator=generator(5, "weights"))
    assert torch.equal(first[0], again_weights)
    assert torch.equal(first[1], again_order)
    assert not torch.equal(first[0], first[1])


def test_streams_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    permutation(100, 1, "order", 2)
    torch.rand(5, generator=generator(1, "weights"))
    assert torch.equal(before, torch.get_rng_state())


@given(st.integers(0, 300), SEEDS)
def test_a_permutation_holds_every_index_once(size: int, seed: int) -> None:
    drawn = permutation(size, seed, "order", 1)
    assert drawn.dtype == torch.int64
    assert sorted(drawn.tolist()) == list(range(size))


def test_epochs_have_unlike_orders() -> None:
    orders = {tuple(permutation(50, 0, "order", epoch).tolist()) for epoch in range(1, 21)}
    assert len(orders) == 20
