from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.domains import merge, sample
from search_spaces.spaces import BATCH_SIZE, BY_NAME, METHOD, MODEL, OPTIMIZER, SCHEDULE
from trainables.config import TrialConfig

DEFAULTS = {"optimizer.name": "SGD", "schedule.name": "none"}


@pytest.mark.parametrize("name", BY_NAME)
@given(seed=st.integers(0, 2**32))
def test_every_draw_of_a_space_is_a_valid_configuration(name: str, seed: int) -> None:
    values = sample(BY_NAME[name], {k: v for k, v in DEFAULTS.items() if k not in BY_NAME[name]}, Random(seed))
    config = TrialConfig.from_dotted(values)
    assert {key: config.to_dotted()[key] for key in values} == values


@given(seed=st.integers(0, 2**32))
def test_every_draw_of_all_spaces_together_is_a_valid_configuration(seed: int) -> None:
    values = sample(merge(OPTIMIZER, SCHEDULE, BATCH_SIZE, MODEL, METHOD), {}, Random(seed))
    config = TrialConfig.from_dotted(values)
    assert config.arms["archetype"].granularity == "none"
    assert config.arms["filtered"].granularity == values["arms.filtered.granularity"]
