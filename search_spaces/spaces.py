"""The spaces that a study is made of; an experiment includes them by name.

Ranges hold the values of Appendix II of the thesis.
"""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.domains import Space, space

OPTIMIZER = space(
    optimizer__name={"choice": ["SGD", "Adam", "AdamW"]},
    optimizer__lr={"loguniform": [1e-4, 0.3]},
    optimizer__weight_decay={"loguniform": [1e-5, 1e-2]},
    optimizer__momentum={"uniform": [0.1, 0.99], "when": {"optimizer.name": "SGD"}},
    optimizer__nesterov={"choice": [False, True], "when": {"optimizer.name": "SGD"}},
    optimizer__amsgrad={"choice": [False, True], "when": {"optimizer.name": ["Adam", "AdamW"]}},
)
"""The thesis's optimizers; momentum and nesterov only with SGD, amsgrad only with Adam and AdamW."""

EVERY_OPTIMIZER: Space = {
    **OPTIMIZER,
    **space(
        optimizer__name={"choice": ["SGD", "Adam", "AdamW", "RMSprop"]},
        optimizer__momentum={"uniform": [0.1, 0.99], "when": {"optimizer.name": ["SGD", "RMSprop"]}},
        optimizer__centered={"choice": [False, True], "when": {"optimizer.name": "RMSprop"}},
    ),
}
"""The thesis's optimizers and RMSprop."""

SGD = space(
    optimizer__lr={"loguniform": [1e-3, 0.3]},
    optimizer__momentum={"uniform": [0.0, 0.99]},
    optimizer__weight_decay={"loguniform": [1e-5, 1e-2]},
)
"""SGD's knobs."""

SCHEDULE = space(
    schedule__name={"choice": ["none", "exponential", "multistep", "cosine"]},
    schedule__gamma={"choice": [0.1, 0.5, 0.9, 0.99, 0.995], "when": {"schedule.name": ["exponential", "multistep"]}},
    schedule__every={"choice": [50, 100, 150, 200], "when": {"schedule.name": "multistep"}},
)
"""Learning-rate schedules; gamma only where a factor is applied."""

BATCH_SIZE = space(batch_size={"choice": [16, 32, 64, 128, 256, 512, 1024]})
"""The batch sizes of section 4.1, and those between."""

MODEL = space(model__name={"choice": ["FCNet100", "FCNet1000", "FCNet3000", "LeNet", "ResNet18"]})
"""The networks of section 4.1, but for DLA, which is heavy."""

DATA = space(
    dataset__classes={"choice": [2, 5, 10]},
    dataset__samples_per_class={"choice": [20, 80, 320]},
    dataset__label_noise={"choice": [0.0, 0.1, 0.2, 0.4]},
)
"""Which problem is to be learned; mnist5k has so many samples with up to a fifth held out."""

METHOD = space(
    arms__filtered__granularity={"choice": ["epoch", "batch", "epoch+batch"]},
    arms__filtered__raw_batch_size={"choice": [None, 256, 1024, 4096]},
)
"""How the filtered arm filters: when, and how many samples are probed at once (none: the batch size)."""

BY_NAME: Mapping[str, Space] = {
    "optimizer": OPTIMIZER,
    "every_optimizer": EVERY_OPTIMIZER,
    "sgd": SGD,
    "schedule": SCHEDULE,
    "batch_size": BATCH_SIZE,
    "model": MODEL,
    "data": DATA,
    "method": METHOD,
}
"""The names under which an experiment includes them."""
