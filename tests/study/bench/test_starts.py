import json

import pytest

from study.bench import engine, starts


def test_each_part_is_a_figure_over_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def command(module: str, process: str) -> str:
        asked.append((module, process))
        return "said by a library\n" + json.dumps({f"{process} a": 1.0 * len(asked), f"{process} b": 0.5})

    monkeypatch.setattr(starts, "command", command)
    found = list(starts.figures(rounds=3))
    assert asked == [("study.bench.starts", process) for process in ("driver", "worker") for _ in range(3)]
    assert [(figure.name, figure.value) for figure in found] == [
        ("paid once: driver a", 2.0),
        ("paid once: driver b", 0.5),
        ("paid once: worker a", 5.0),
        ("paid once: worker b", 0.5),
    ]
    assert {(figure.suite, figure.unit, figure.rounds) for figure in found} == {(engine.SUITE, "s", 3)}


@pytest.mark.slow
def test_driver_and_worker_are_timed_in_processes_of_their_own() -> None:
    found = {figure.name.removeprefix("paid once: "): figure.value for figure in starts.figures(rounds=1)}
    assert list(found) == [
        "the driver's imports",
        "Ray's start",
        "Ray's end",
        "a worker's imports",
        "a worker's first comparison, beyond the next",
    ]
    assert all(seconds > 0.05 for seconds in found.values()), found
