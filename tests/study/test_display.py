import io

from rich.console import Console

from study.display import StudyDisplay


def shown(mode: str, objectives: list[float], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    searched = ["optimizer.lr", "model.name"]
    with StudyDisplay(console, len(objectives) + 5, 3, [0.6], searched, "gap/test_accuracy", mode) as display:
        for number, objective in enumerate(objectives):
            display.started(1)
            display.epoch()
            display.ended(number, "finished", 5, objective, {"optimizer.lr": 0.012345, "model.name": "[red]LeNet"})
        display.ended(8, "stopped", 2, 0.9, {"epochs": 30})
        display.ended(9, "diverged", 2, float("nan"), {})
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_comparison_that_ends_is_one_line_with_its_objective_and_settings() -> None:
    lines = shown("max", [0.5]).splitlines()
    assert any(line.split() == ["finished", "#0", "epoch", "5", "+0.5000", "0.0123", "[red]LeNet"] for line in lines)
    assert any(line.split() == ["diverged", "#9", "epoch", "2"] for line in lines)


def test_the_best_is_the_largest_or_the_smallest_as_the_objective_says() -> None:
    assert "best +0.7000" in shown("max", [0.5, 0.7, -0.1])
    assert "best -0.1000" in shown("min", [0.5, 0.7, -0.1])


def test_what_ended_before_counts_and_the_epochs_that_stopping_saved_are_told() -> None:
    last = shown("max", [0.5, 0.7], width=120).splitlines()[-1]
    assert "7/7" in last
    assert "(28 saved)" in last


def test_the_best_may_be_of_an_earlier_run() -> None:
    assert "best +0.6000" in shown("max", [0.5])


def test_no_line_is_longer_than_the_terminal() -> None:
    assert max(map(len, shown("max", [0.5], width=80).splitlines())) <= 80
