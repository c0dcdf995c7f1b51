"""Tests of the laboratory: the contracts that the program ships, and what only its authors can know."""

import torch
from my_lab.data import shapes
from my_lab.method import Surprising
from my_lab.metrics import ece
from my_lab.nets import vit
from torch import nn

from trainables.contracts import DatasetContract, NetworkContract, SelectionContract
from trainables.data import Arrays


class TestSurprising(SelectionContract):
    selection = Surprising(keep=0.4)


class TestShapes(DatasetContract):
    classes = 7

    def load(self) -> Arrays:
        return shapes(train=10, test=5)


class TestVit(NetworkContract):
    size, classes = (48, 48), 7

    def build(self) -> nn.Module:
        return vit(self.size, self.classes)


def test_who_is_sure_and_right_is_calibrated_and_who_is_sure_and_wrong_is_not() -> None:
    labels = torch.arange(7)
    sure = 100 * torch.eye(7)
    assert ece(sure, labels) == 0
    assert ece(sure, labels.roll(1)) == 1


def test_who_knows_nothing_and_is_right_by_chance_is_calibrated() -> None:
    torch.testing.assert_close(ece(torch.zeros(7, 7), torch.arange(7)), torch.tensor(0.0))
