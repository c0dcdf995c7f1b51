"""Suites that a researcher subclasses to test a method, a data set or a network of their own."""

from trainables.contracts.datasets import DatasetContract
from trainables.contracts.methods import SelectionContract
from trainables.contracts.networks import NetworkContract

__all__ = ["DatasetContract", "NetworkContract", "SelectionContract"]
