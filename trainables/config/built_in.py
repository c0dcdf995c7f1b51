"""The built-in methods: the one table of their names. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILTERS: Mapping[str, str] = {
    "none": "trainables.methods.filters:NoFilter",
    "hard": "trainables.methods.filters:Hard",
    "soft": "trainables.methods.filters:Soft",
}
"""What ``filter.name`` can be, and the class."""

SELECTORS: Mapping[str, str] = {
    "all": "trainables.methods.selectors:All",
    "top_k": "trainables.methods.selectors:TopK",
    "top_q": "trainables.methods.selectors:TopQ",
    "loss_weighted": "trainables.methods.selectors:LossWeighted",
    "q_split": "trainables.methods.selectors:QSplit",
    "random": "trainables.methods.chance:Random",
    "selective_backprop": "trainables.methods.selective_backprop:SelectiveBackprop",
    "infobatch": "trainables.methods.infobatch:InfoBatch",
    "rs2": "trainables.methods.rs2:RS2",
    "importance_sampling": "trainables.methods.importance_sampling:ImportanceSampling",
    "osgd": "trainables.methods.osgd:OSGD",
    "rais": "trainables.methods.rais:RAIS",
    "autoassist": "trainables.methods.autoassist:AutoAssist",
    "recency_bias": "trainables.methods.recency_bias:RecencyBias",
    "online_batch": "trainables.methods.recency_bias:OnlineBatch",
    "active_bias": "trainables.methods.active_bias:ActiveBias",
    "rho_loss": "trainables.methods.rho_loss:RhoLoss",
    "ordered_sgd": "trainables.methods.ordered_sgd:OrderedSGD",
    "order_dp": "trainables.methods.order_dp:OrderDP",
    "ies": "trainables.methods.early_stopping:InstanceEarlyStopping",
    "seta": "trainables.methods.seta:SeTa",
    "static_random": "trainables.methods.static_pruning:StaticRandom",
    "el2n": "trainables.methods.static_pruning:EL2N",
    "forgetting": "trainables.methods.static_pruning:Forgetting",
    "mentornet": "trainables.methods.mentornet:MentorNet",
    "mentornet_dd": "trainables.methods.data_driven:DataDriven",
}
"""What ``selector.name`` can be, and the class: a selector of a filter's candidates, or a method of its own."""

ARMS: Mapping[str, Mapping[str, Any]] = {
    "archetype": {"granularity": "none"},
    "filtered": {"granularity": "batch"},
    "epochwise": {"granularity": "epoch"},
    "epoch+batch": {"granularity": "epoch+batch"},
    "unstable": {"granularity": "batch", "batch": "unstable"},
    "soft": {"granularity": "batch", "filter": {"name": "soft"}},
    "random": {"granularity": "batch", "selector": {"name": "random", "like": "filtered"}},
    "selective_backprop": {"granularity": "batch", "selector": {"name": "selective_backprop"}, "overflow": "carry"},
    "infobatch": {"granularity": "epoch", "selector": {"name": "infobatch"}},
    "equal_compute": {"granularity": "epoch", "selector": {"name": "random", "like_compute": "filtered"}},
    "rs2": {"granularity": "epoch", "selector": {"name": "rs2"}},
    "importance_sampling": {"granularity": "batch", "batch": "unstable", "selector": {"name": "importance_sampling"}},
    "osgd": {"granularity": "epoch", "selector": {"name": "osgd"}},
    "rais": {"granularity": "epoch", "selector": {"name": "rais"}},
    "autoassist": {"granularity": "batch", "selector": {"name": "autoassist"}, "overflow": "carry"},
    "recency_bias": {"granularity": "epoch", "selector": {"name": "recency_bias"}},
    "online_batch": {"granularity": "epoch", "selector": {"name": "online_batch"}},
    "active_bias": {"granularity": "epoch", "selector": {"name": "active_bias"}},
    "rho_loss": {"granularity": "batch", "selector": {"name": "rho_loss"}, "overflow": "carry"},
    "ordered_sgd": {"granularity": "epoch", "selector": {"name": "ordered_sgd"}},
    "order_dp": {"granularity": "epoch", "selector": {"name": "order_dp"}},
    "ies": {"granularity": "epoch", "selector": {"name": "ies"}},
    "seta": {"granularity": "epoch", "selector": {"name": "seta"}},
    "static_random": {"granularity": "epoch", "selector": {"name": "static_random"}},
    "el2n": {"granularity": "epoch", "selector": {"name": "el2n"}},
    "forgetting": {"granularity": "epoch", "selector": {"name": "forgetting"}},
    "mentornet": {"granularity": "epoch", "selector": {"name": "mentornet"}},
    "mentornet_dd": {"granularity": "epoch", "selector": {"name": "mentornet_dd"}},
}
"""What the arms of these names are, as far as a configuration does not say otherwise."""

_FROM_THE_EPOCH: Mapping[str, Any] = {"granularity": "epoch", "batch": "unstable"}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "thesis/alg1": ARMS["archetype"],
    "thesis/alg2": _FROM_THE_EPOCH,
    "thesis/alg3": {**_FROM_THE_EPOCH, "filter": {"name": "none"}, "selector": {"name": "top_k"}},
    "thesis/alg4": {**_FROM_THE_EPOCH, "filter": {"name": "none"}, "selector": {"name": "q_split"}},
    "thesis/alg5": {**_FROM_THE_EPOCH, "filter": {"name": "hard"}, "selector": {"name": "top_k"}},
    "thesis/alg6": {**_FROM_THE_EPOCH, "filter": {"name": "soft"}, "selector": {"name": "top_k"}},
    "thesis/alg8": ARMS["epochwise"],
    "thesis/alg9": ARMS["unstable"],
    "thesis/alg10": ARMS["filtered"],
    "thesis/table4.4": ARMS["epoch+batch"],
}
"""The thesis's algorithms as methods: ``arms: {mine: {preset: thesis/alg3, selector: {k: 500}}}``. Alg. 3 to 6 need
their k; Alg. 7 is the filter of Alg. 8 to 10."""
