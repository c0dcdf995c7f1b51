from collections.abc import Callable, Mapping
from typing import Any

import pytest

from study.experiment import Experiment, from_document

SMALL: Mapping[str, Any] = {
    "about": {"title": "Small", "question": "Does it run?"},
    "dataset": {"samples_per_class": 30},
    "model": {"name": "FCNet10"},
    "batch_size": 16,
    "optimizer": {"name": "SGD", "lr": 0.05},
    "epochs": 3,
    "space": {},
    "search": {"name": "grid"},
    "wandb": {"mode": "disabled"},
}


@pytest.fixture
def small() -> Callable[..., Experiment]:
    """An experiment whose comparisons take a fraction of a second; sections given replace its own."""

    def build(**sections: Any) -> Experiment:
        return from_document("small", {**SMALL, **sections})

    return build
