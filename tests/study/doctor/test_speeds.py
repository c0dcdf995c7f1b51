"""What a forward pass and an update take, as doctor tells it; no test looks at how long they take."""

from collections.abc import Callable

from study.doctor import speeds
from study.experiment import Experiment

Build = Callable[..., Experiment]


def test_the_ratio_stands_beside_the_nominal_one_and_the_seconds_below() -> None:
    finding = speeds.told({"LeNet, batch 8": (2e-6, 8.2e-6), "LeNet, batch 16": (1e-3, 2e-3)})
    assert (finding.level, finding.remedy) == ("ok", "")
    assert finding.text == "an update takes 4.1, 2.0 times a forward pass; the clock compute counts 3"
    assert finding.lines == (
        "LeNet, batch 8: 2.0 µs a sample forward, 8.2 µs updated",
        "LeNet, batch 16: 1,000.0 µs a sample forward, 2,000.0 µs updated",
    )


def test_nothing_is_measured_where_the_gpu_is_missing(small: Build) -> None:
    import torch

    measured = speeds.measure(small(resources={"gpu": 1}))
    assert (measured is None) is not torch.cuda.is_available()
    assert "no GPU" in speeds.told(None).text


def test_a_few_of_the_configurations_are_measured_the_experiments_own_first(small: Build) -> None:
    space = {"batch_size": {"choice": [8, 9, 10, 11]}}
    measured = speeds.measure(small(batch_size=12, space=space))
    assert measured is not None
    assert next(key.split(", ")[3] for key in measured) == "batch 12"
    assert len(measured) == speeds.MOST
    assert all(forward > 0 and update > 0 for forward, update in measured.values())
    assert list(speeds.measure(small()) or ()) == [
        "FCNet10, 1 x 32 x 32, 10 classes, batch 16, fp32, augmentation none, SGD"
    ]
