from pathlib import Path

import pytest
import yaml

from study import experiment as experiments
from study.bench import engine


def test_the_comparisons_are_as_many_and_as_long_as_asked_and_cost_the_same(tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(yaml.safe_dump(engine.experiment(6, 2)))
    configs = engine.configurations(file)
    assert experiments.load(str(file)).trials == len(configs) == 6
    assert {config["epochs"] for config in configs} == {2}
    assert sorted(config.pop("seed") for config in configs) == list(range(6))
    assert all(config == configs[0] for config in configs)


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)study\.bench\.engine .*missing\.yaml ended with 1:.*missing\.yaml"):
        engine.command("study.bench.engine", str(tmp_path / "missing.yaml"))


@pytest.mark.slow
def test_engine_loop_and_plain_ray_train_the_same_comparisons() -> None:
    overhead, each, rate, room = engine.suite(comparisons=2, plain=2, epochs=1, rounds=1)
    assert (overhead.unit, overhead.bound, overhead.limit, overhead.rounds) == ("×", "at most", 1.3, 1)
    assert (rate.unit, rate.bound, rate.limit) == ("×", "at least", 8.0)
    assert overhead.value > 0
    assert (each.unit, each.limit) == ("×", None)
    assert each.value > 0
    assert rate.value > 0
    assert (room.unit, room.limit) == ("/min", None)
