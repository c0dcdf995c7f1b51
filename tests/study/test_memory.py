"""What a comparison takes at the least, against what a machine has."""

import pytest
import torch

from study import memory, preflight
from study.experiment import ExperimentError, Resources, load
from trainables import models
from trainables.config import TrialConfig
from trainables.data import Dimensions

SHAPE = Dimensions(1, (32, 32), 10)


def trial(**keys: object) -> TrialConfig:
    return TrialConfig.from_dotted({"model.name": "FCNet100", "batch_size": 64, **keys})


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [
        ({"optimizer.name": "SGD", "optimizer.momentum": 0.9}, 1),
        ({"optimizer.name": "SGD", "optimizer.momentum": 0.0}, 0),
        ({"optimizer.name": "Adam"}, 2),
        ({"optimizer.name": "AdamW", "optimizer.amsgrad": True}, 3),
        ({"optimizer.name": "RMSprop", "optimizer.centered": True, "optimizer.momentum": 0.5}, 3),
    ],
)
def test_the_least_is_weights_states_gradients_and_a_batch(optimizer: dict[str, object], state: int) -> None:
    config = trial(**optimizer)
    seen = models.examine(config.model, *SHAPE)
    parameters = 1024 * 100 + 100 + 100 * 10 + 10
    assert (seen.parameters, seen.activations) == (parameters, 100 + 10)
    expected = 4 * (parameters * (2 * (1 + state) + 1) + 64 * (1024 + 110))
    assert memory.least(memory.Asked(config, seen, SHAPE, 1000)) == expected + 1000


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_an_optimizer_keeps_what_it_is_said_to_keep(name: str) -> None:
    from trainables import optimizers

    config = trial(**{"optimizer.name": name})
    weight = torch.nn.Parameter(torch.ones(50))
    optimizer = optimizers.build(config.optimizer, [weight], False)
    weight.grad = torch.ones(50)
    optimizer.step()
    kept = sum(value.numel() == 50 for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor))
    assert kept == memory.STATE[name](config.optimizer)


def test_what_has_no_room_is_refused_with_the_remedy_and_what_may_fit_is_not() -> None:
    large = ["model.name=FCNet100", "search={name: grid}", "scheduler.name=none", "space={}"]
    preflight.networks(load("quickstart", large))
    small = load("quickstart", [*large, "resources.memory_gib=0.001"])
    with pytest.raises(ExperimentError, match=r"FCNet100 with 103,510 parameters, SGD, 3 arms and batch_size 64 needs"):
        preflight.networks(small)
    assert preflight.networks(small, here=False)
    with pytest.raises(
        ExperimentError, match=r"the free memory of this machine is .* smaller network, batch or data set"
    ):
        preflight.networks(load("quickstart", [*large[1:], "model.name=FCNet100000x100000"]))


def test_a_gpu_that_is_not_there_is_another_check_s_to_say() -> None:
    if not torch.cuda.is_available():
        assert memory.room(Resources(gpu=0.5)) is None
