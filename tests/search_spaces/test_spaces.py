from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.domains import merge, sample
from search_spaces.spaces import BATCH_SIZE, BY_NAME, DATA, METHOD, MODEL, OPTIMIZER, SCHEDULE
from trainables.config import BuiltIn, TrialConfig
from trainables.data import load

DEFAULTS = {"optimizer.name": "SGD", "schedule.name": "none"}


@pytest.mark.parametrize("name", BY_NAME)
@given(seed=st.integers(0, 2**32))
def test_every_draw_of_a_space_is_a_valid_configuration(name: str, seed: int) -> None:
    values = sample(BY_NAME[name], {k: v for k, v in DEFAULTS.items() if k not in BY_NAME[name]}, Random(seed))
    config = TrialConfig.from_dotted(values)
    assert {key: config.to_dotted()[key] for key in values} == values


@given(seed=st.integers(0, 2**32))
def test_every_draw_of_all_spaces_together_is_a_valid_configuration(seed: int) -> None:
    values = sample(merge(OPTIMIZER, SCHEDULE, BATCH_SIZE, MODEL, DATA, METHOD), {}, Random(seed))
    config = TrialConfig.from_dotted(values)
    assert config.arms["archetype"].granularity == "none"
    assert config.arms["filtered"].granularity == values["arms.filtered.granularity"]


def test_mnist5k_has_what_the_data_space_asks_for_at_most_with_a_fifth_held_out() -> None:
    most = {key.removeprefix("dataset."): max(domain.choice) for key, domain in DATA.items()}
    dataset = load(BuiltIn(validation_fraction=0.2, **most), "", torch.device("cpu"))
    assert len(dataset.train.labels) == 3200
