"""Whether an arm can ever fill the batches that it trains on.

Batches that are filled from selected samples are full or are not trained on (Alg. 10): what is selected waits for more,
over the end of the epoch too. An arm with batches larger than its training set trains less than once an epoch even
where it selects every sample. Every other arm trains on what there is: the archetype and epochwise selection on a last
batch that is smaller, unstable batches on all that was selected.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainables.config import MethodConfig, TrialConfig


def unfillable(config: TrialConfig, size: int) -> dict[str, str]:
    """Why arms cannot fill a batch from ``size`` training samples, by arm; each reason names key, value and remedy."""
    found = {}
    for name, method in config.arms.items():
        if "batch" not in method.granularity or method.batch == "unstable":
            continue
        most = most_selected(config.arms, name, config.batch_size, size)
        batch = f"batch_size: {config.batch_size}: arm {name} trains on full batches of the samples that it selects"
        if config.batch_size > size:
            found[name] = (
                f"{batch}, and there are {size:,} training samples; set batch_size to {size} at most, take more samples"
                f", or set arms.{name}.batch to unstable"
            )
            continue
        clock, amount, _ = config.allotment(name)
        if clock == "epochs" and amount is not None and config.batch_size > most * amount:
            found[name] = (
                f"{batch}, at most {most:,} an epoch, which fill none in {amount:g} epochs; lower batch_size, or "
                f"let {method.follows or name} select more"
            )
    return found


def most_selected(arms: Mapping[str, MethodConfig], name: str, batch_size: int, size: int) -> int:
    """The samples that an arm selects in an epoch of ``size`` samples at most."""
    method = arms[name]
    if method.follows is not None:
        return most_selected(arms, method.follows, batch_size, size)
    selection = method.selection(batch_size)
    left = selection.most(size) if "epoch" in method.granularity else size
    if "batch" not in method.granularity:
        return left
    unit = method.raw_batch_size if isinstance(method.raw_batch_size, int) else batch_size
    return left // unit * selection.most(unit) + selection.most(left % unit)
