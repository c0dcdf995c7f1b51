"""The samplers against the thesis's algorithms, transcribed over Python lists (``thesis.py``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import thesis
from drawing import methods
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from simulation import CASES, SEED, Case, TableNet, simulate
from thesis import Run, transcription

from trainables.config import MethodConfig

WHOLE = {"granularity": "epoch", "batch": "unstable"}
MIXED = ("wrong", "right", "wronger", "barely right", "wrong, loss infinite", "right by a tie", "wrong by a tie")
NAMED = {
    "nothing accepted": (Case(20, 4, 3, ("right",)), 6, 4),
    "everything accepted, batches divide": (Case(20, 4, 3, ("wrong",)), 4, 4),
    "everything accepted, overflow at every batch": (Case(20, 4, 3, ("wrong", "wronger")), 6, 6),
    "everything accepted, raw batches smaller": (Case(20, 6, 3, ("wrong",)), 4, 2),
    "half-filled at the end of an epoch": (Case(10, 7, 4, ("wrong", "right")), 5, 8),
    "one sample accepted in many": (Case(50, 3, 4, ("wrong", *["right"] * 16)), 8, 2),
    "last raw batch partial": (Case(11, 4, 4, ("wrong", "wronger", "right")), 5, 2),
    "a single raw batch": (Case(9, 4, 3, ("wrong", "wrongest", "right")), 25, 6),
    "batches of one": (Case(9, 1, 2, ("wrong", "right")), 3, 2),
    "fewer than k candidates": (Case(30, 4, 3, ("wrong", *["right"] * 9)), 12, 20),
    "ties in loss": (Case(30, 5, 3, ("wrong",)), 9, 4),
    "marginal samples past the selector": (Case(30, 5, 3, ("barely right", "wrong", "right by a tie")), 9, 2),
    "empty buckets": (Case(12, 4, 3, ("right, loss 0", "wrongest", "right, loss 0")), 7, 8),
    "all losses 0": (Case(12, 4, 3, ("right, loss 0",)), 7, 4),
    "losses infinite": (Case(20, 4, 3, ("wrong, loss infinite", "wrong", "wronger")), 7, 4),
    "losses not numbers": (Case(20, 4, 3, ("wrong, loss not a number", "right, loss not a number", "wrong")), 7, 4),
    "no finite loss": (Case(20, 4, 3, ("wrong, loss not a number", "wrong, loss infinite")), 7, 4),
    "everything at once": (Case(50, 6, 4, MIXED), 11, 4),
}
"""(case, raw batch size, k)."""

Algorithm = tuple[Callable[[int, int], dict[str, Any]], Callable[[Run, TableNet, int], Any]]
ALGORITHMS: dict[str, Algorithm] = {
    "1": (lambda raw, k: {"granularity": "none"}, lambda run, net, k: thesis.algorithm_1(run, net)),
    "2 with 3": (
        lambda raw, k: WHOLE | {"filter": "none", "selector": "top_k", "k": k},
        lambda run, net, k: thesis.algorithm_2(run, net, thesis.algorithm_3(k)),
    ),
    "2 with 4": (
        lambda raw, k: WHOLE | {"filter": "none", "selector": "q_split", "k": k, "power": 3},
        lambda run, net, k: thesis.algorithm_2(run, net, thesis.algorithm_4(k, 2, 3)),
    ),
    "2 with 5": (
        lambda raw, k: WHOLE | {"selector": "top_k", "k": k},
        lambda run, net, k: thesis.algorithm_2(run, net, thesis.algorithm_5(k)),
    ),
    "2 with 6": (
        lambda raw, k: WHOLE | {"filter": "soft", "margin": 0.2, "selector": "top_k", "k": k},
        lambda run, net, k: thesis.algorithm_2(run, net, thesis.algorithm_6(k, 0.2)),
    ),
    "8 with 7": (lambda raw, k: {"granularity": "epoch"}, lambda run, net, k: thesis.algorithm_8(run, net)),
    "9": (
        lambda raw, k: {"granularity": "batch", "batch": "unstable", "raw_batch_size": raw},
        lambda run, net, k: thesis.algorithm_9(run, net),
    ),
    "10": (
        lambda raw, k: {"granularity": "batch", "raw_batch_size": raw},
        lambda run, net, k: thesis.algorithm_10(run, net),
    ),
    "8 and 10": (
        lambda raw, k: {"granularity": "epoch+batch", "raw_batch_size": raw},
        lambda run, net, k: thesis.algorithm_10(run, net, first=thesis.algorithm_7),
    ),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_batches_are_those_of_the_thesiss_algorithm(algorithm: str) -> None:
    configured, transcribed = ALGORITHMS[algorithm]

    @given(CASES, st.integers(1, 25), st.integers(1, 10).map(lambda half: 2 * half))
    @settings(max_examples=15)
    def agrees(case: Case, raw: int, k: int) -> None:
        net = TableNet(case)
        agree(case, MethodConfig(**configured(raw, k)), net, transcribed(case.run(raw), net, k))

    for named in NAMED.values():
        agrees = example(*named)(agrees)
    agrees()


@given(CASES, methods(peers=False))
@settings(max_examples=80)
def test_batches_are_those_of_the_algorithms_put_together_in_any_way(case: Case, method: MethodConfig) -> None:
    assume(method.selector.name != "loss_weighted")
    net = TableNet(case)
    run = case.run(None if method.raw_batch_size == "adaptive" else method.raw_batch_size)
    agree(case, method, net, transcription(method, run, net))


def agree(case: Case, method: MethodConfig, net: TableNet, oracle: Any) -> None:
    simulation = simulate(case, method)
    for epoch in range(1, case.epochs + 1):
        net.trained.clear()
        next(oracle)
        assert simulation.epoch(epoch) == net.trained


def test_the_oracles_and_the_sampler_draw_from_the_same_streams() -> None:
    case = NAMED["everything at once"][0]
    assert case.sampler(MethodConfig()).seed == case.run().seed == SEED


def test_the_named_cases_are_what_their_names_say() -> None:
    def run(name: str, **method: Any) -> list[dict[str, int]]:
        case, raw, k = NAMED[name]
        values = {"raw_batch_size": raw} | {key: k if value == "k" else value for key, value in method.items()}
        simulation = simulate(case, MethodConfig(**values))
        left = []
        for epoch in range(1, case.epochs + 1):
            simulation.epoch(epoch)
            left.append(vars(simulation.sampler.counts) | {"held": len(simulation.sampler.held)})
        return left

    assert all(counts["steps"] == 0 for counts in run("nothing accepted"))
    assert all(counts["samples_overflowed"] > 0 for counts in run("everything accepted, overflow at every batch"))
    assert sum(counts["held"] > 0 for counts in run("half-filled at the end of an epoch")) > 1
    assert all(
        counts["samples_kept"] < 20
        for counts in run("fewer than k candidates", granularity="epoch", selector="top_k", k="k")
    )
    q_split = {"granularity": "epoch", "filter": "none", "selector": "q_split", "k": "k"}
    assert all(counts["samples_kept"] < 8 for counts in run("empty buckets", **q_split, buckets=4))
    soft = {"granularity": "epoch", "filter": "soft", "selector": "top_k", "k": "k"}
    assert all(counts["samples_kept"] > 2 for counts in run("marginal samples past the selector", **soft))


@pytest.mark.parametrize("granularity", ["batch", "epoch+batch"])
def test_a_half_filled_batch_is_completed_by_the_next_epoch_with_the_old_pictures(granularity: str) -> None:
    case = Case(samples=5, batch_size=8, epochs=2, table=("wrong",))
    simulation = simulate(case, MethodConfig(granularity=granularity, raw_batch_size=5))
    run = case.run()
    assert simulation.epoch(1) == []
    assert len(simulation.sampler.held) == 5
    (batch,) = simulation.epoch(2)
    assert batch == run.shuffled(1) + run.shuffled(2)[:3]
    assert simulation.sampler.counts.samples_overflowed == 2


@pytest.mark.parametrize("overflow", ["discard", "carry"])
def test_overflow_is_discarded_or_carried_over(overflow: str) -> None:
    case = Case(samples=6, batch_size=4, epochs=2, table=("wrong",))
    simulation = simulate(case, MethodConfig(raw_batch_size=6, overflow=overflow))
    one, two = case.run().shuffled(1), case.run().shuffled(2)
    if overflow == "discard":
        assert (simulation.epoch(1), simulation.epoch(2)) == ([one[:4]], [two[:4]])
        assert simulation.sampler.counts.samples_overflowed == 2
    else:
        assert (simulation.epoch(1), simulation.epoch(2)) == ([one[:4]], [one[4:] + two[:2], two[2:]])
        assert simulation.sampler.counts.samples_overflowed == 0
    assert len(simulation.sampler.held) == 0


def test_gradient_descent_is_the_archetype_with_one_batch_and_the_stochastic_one_with_batches_of_one() -> None:
    whole, single = Case(9, 9, 2, ("right",)), Case(9, 1, 2, ("right",))
    plain = MethodConfig(granularity="none")
    everyone = MethodConfig(**WHOLE, filter="none", selector="top_q", q=0)  # Alg. 2: "In BGD, Select returns S"
    at_once, selected, one_by_one = simulate(whole, plain), simulate(single, everyone), simulate(single, plain)
    for epoch in (1, 2):
        shuffled = whole.run().shuffled(epoch)
        assert at_once.epoch(epoch) == [shuffled]
        assert selected.epoch(epoch) == [shuffled]
        assert one_by_one.epoch(epoch) == [[sample] for sample in shuffled]
