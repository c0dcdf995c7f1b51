from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainables.comparison import Comparison
from trainables.config import TrialConfig
from trainables.normalization import reestimated
from trainables.records import REPRODUCIBLE, Row

CPU = torch.device("cpu")


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 2))


def buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def test_statistics_are_the_means_over_the_batches_and_afterwards_what_they_were() -> None:
    model, images = network(), torch.rand(40, 3, 8, 8)
    model(images[:20])  # so that running statistics are those of something
    before = buffers(model)
    with reestimated(model, images.split(10)):
        layer = model[1]
        assert not any(part.training for part in model.modules())
        features = torch.stack([model[0](part).transpose(0, 1).flatten(1) for part in images.split(10)])
        assert torch.allclose(layer.running_mean, features.mean((0, 2)), atol=1e-6)
        assert torch.allclose(layer.running_var, features.var(2).mean(0), rtol=1e-4)
    after = buffers(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model[1].momentum == 0.1


def test_statistics_are_put_back_after_an_exception() -> None:
    model = network()
    before = buffers(model)
    with pytest.raises(KeyError), reestimated(model, torch.rand(8, 3, 8, 8).split(4)):
        raise KeyError
    assert all(torch.equal(before[name], buffer) for name, buffer in buffers(model).items())


def rows(make_dataset: Any, **evaluate: Any) -> list[Row]:
    config = TrialConfig.model_validate(
        {
            "model": {"use": f"{__name__}:small"},
            "batch_size": 8,
            "epochs": 3,
            "optimizer": {"lr": 0.05},
            "augmentation": "none",
            "evaluate": evaluate,
        }
    )
    comparison = Comparison(config, make_dataset(), CPU)
    return [row for _ in range(4) for row in comparison.step()]


def small(channels: int, classes: int) -> nn.Module:
    pooled = nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), pooled, nn.Flatten(), nn.Linear(16, classes)
    )


def test_new_statistics_change_what_is_measured_and_not_what_is_trained(make_dataset: Any) -> None:
    usual, anew = rows(make_dataset), rows(make_dataset, batchnorm="reestimated")
    assert [row["learning_rate"] for row in usual] == [row["learning_rate"] for row in anew]
    assert all(row["reestimate_seconds"] == 0 for row in usual)
    assert all(float(row["reestimate_seconds"] or 0) > 0 for row in anew)
    different = [a["test_mean_loss"] != b["test_mean_loss"] for a, b in zip(usual, anew, strict=True)]
    assert any(different)
    archetypes = [[row for row in kind if row["arm"] == "archetype"] for kind in (usual, anew)]
    for one, other in zip(*archetypes, strict=True):  # what filtering does depends on its probes alone
        assert one["cumulative_samples_trained"] == other["cumulative_samples_trained"]


def test_where_nothing_is_normalized_nothing_changes(make_dataset: Any) -> None:
    def plain(**evaluate: Any) -> list[Any]:
        config = {"model": {"name": "FCNet8"}, "batch_size": 8, "epochs": 2, "augmentation": "none"}
        comparison = Comparison(TrialConfig.model_validate(config | {"evaluate": evaluate}), make_dataset(), CPU)
        found = [row for _ in range(3) for row in comparison.step()]
        return [{name: row[name] for name in REPRODUCIBLE if name in row} for row in found]

    assert plain() == plain(batchnorm="reestimated")
