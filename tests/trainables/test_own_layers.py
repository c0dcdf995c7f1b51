"""Layers that draw where one does not expect it: initial weights at the first image, numbers in evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainables.comparison import Comparison, prepare
from trainables.config import Runtime, TrialConfig


def lazy(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.LazyLinear(num_classes))


class Restless(nn.Module):
    """Drops out in evaluation, too."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(1024, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(nn.functional.dropout(images.flatten(1), 0.5, training=True))


def started(use: str) -> Comparison:
    dotted = {"model.use": f"{__name__}:{use}", "dataset.samples_per_class": 4, "batch_size": 8, "epochs": 2}
    return prepare(TrialConfig.from_dotted(dotted | {"optimizer.lr": 0.01}), Runtime(device="cpu", threads=1))


def test_layers_without_shapes_get_them_and_the_same_weights_in_every_arm() -> None:
    torch.manual_seed(1)
    one = [arm.model.state_dict() for arm in started("lazy").arms]
    torch.manual_seed(2)
    again = [arm.model.state_dict() for arm in started("lazy").arms]
    for state in one + again:
        assert state["1.weight"].shape == (8, 1024)
        assert all(torch.equal(value, one[0][name]) for name, value in state.items())
        assert state["2.num_batches_tracked"] == 0


@pytest.mark.parametrize("use", ["Restless", "lazy"])
def test_evaluation_draws_from_the_arms_own_stream(use: str) -> None:
    outcomes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        comparison = started(use)
        comparison.step()
        rows = comparison.step()
        assert torch.equal(torch.get_rng_state(), before)
        outcomes.append([row["test_mean_loss"] for row in rows])
    assert outcomes[0] == outcomes[1]
