import json
from collections.abc import Callable
from itertools import count

import pytest
import torch

from study import bench
from study.bench import Block, Figure

MACHINE = {
    "processor": "Some CPU",
    "cores": 2,
    "threads": 2,
    "memory_gib": 8.0,
    "gpus": [],
    "versions": {"python": "3.11", "torch": "2"},
}


def figure(value: float, bound: str | None, limit: float | None) -> Figure:
    return Figure("loop", "epoch / floor", value, "×", "10 bare steps", bound, limit, 1.0, 1.2, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "bound", "limit", "met"),
    [
        (1.05, "at most", 1.05, True),
        (1.06, "at most", 1.05, False),
        (3.0, "at least", 3.0, True),
        (2.9, "at least", 3.0, False),
        (2.9, None, None, None),
    ],
)
def test_a_limit_is_met_or_missed(value: float, bound: str | None, limit: float | None, met: bool | None) -> None:
    assert figure(value, bound, limit).met is met


def test_blocks_run_in_turn_each_after_what_comes_before_it_and_warm_up_is_not_counted() -> None:
    happened: list[str] = []
    clock = count()

    def seconds(run: Callable[[], object]) -> float:
        run()
        return float(next(clock))

    blocks = {
        "a": Block(lambda: happened.append("a"), lambda: happened.append("before a")),
        "b": Block(lambda: happened.append("b")),
    }
    taken = bench.in_turn(blocks, seconds, rounds=2, warm_up=1)
    assert happened == ["before a", "a", "b"] * 3
    assert taken == {"a": [2.0, 4.0], "b": [3.0, 5.0]}


def test_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds is 0"):
        bench.in_turn({}, bench.wall_seconds, rounds=0)


def test_a_ratio_is_of_medians_and_its_quartiles_are_of_pairs() -> None:
    found = bench.ratio("loop", "epoch / floor", [2.0, 30.0, 4.0], [1.0, 2.0, 4.0], "", "at most", 2.0)
    assert found.value == 4.0 / 2.0
    assert (found.low, found.high) == (1.5, 8.5)  # of 1, 2 and 15
    assert (found.rounds, found.met) == (3, True)


def test_an_amount_measured_once_has_itself_for_quartiles() -> None:
    found = bench.amount("analysis", "seconds", [3.0], "s", "")
    assert (found.value, found.low, found.high, found.met) == (3.0, 3.0, 3.0, None)


def test_json_has_every_figure_unrounded_and_the_machine() -> None:
    told = json.loads(bench.written([figure(1.23456789, "at most", 1.3)], MACHINE, "json"))
    assert told["machine"] == MACHINE
    assert told["figures"] == [
        {
            "suite": "loop",
            "name": "epoch / floor",
            "value": 1.23456789,
            "unit": "×",
            "beside": "10 bare steps",
            "bound": "at most",
            "limit": 1.3,
            "low": 1.0,
            "high": 1.2,
            "rounds": 3,
            "met": True,
        }
    ]


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_a_table_says_what_is_met_and_what_missed(form: bench.Form) -> None:
    figures = [figure(1.25, "at most", 1.3), figure(1.35, "at most", 1.3), figure(2.0, None, None)]
    text = bench.written(figures, MACHINE, form)
    assert text.startswith("Some CPU, 2 cores, 2 threads, 8.0 GiB, no GPU; Python 3.11, torch 2\n\n")
    rows = [line for line in text.splitlines() if "epoch / floor" in line]
    assert ["met" in row for row in rows] == [True, False, False]
    assert ["missed" in row for row in rows] == [False, True, False]
    assert ["≤ 1.3" in row for row in rows] == [True, True, False]


def test_the_machine_is_told_as_in_a_manifest() -> None:
    machine = bench.machine()
    assert machine["threads"] == torch.get_num_threads()
    assert machine["versions"]["torch"] == torch.__version__.partition("+")[0] or machine["versions"]["torch"]
    assert {"processor", "cores", "memory_gib", "gpus", "git", "created"} <= machine.keys()
    json.dumps(machine)


def test_the_wall_clock_is_for_the_cpu() -> None:
    assert bench.stopwatch(torch.device("cpu")) is bench.wall_seconds


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cuda_is_timed_by_events_of_the_device() -> None:
    a = torch.randn(4096, 4096, device="cuda")
    seconds = bench.stopwatch(torch.device("cuda"))
    assert seconds(lambda: [a @ a for _ in range(20)]) > seconds(lambda: a + 1) > 0
