"""What stands in an experiment's way on this machine or cluster, told before it costs a night.

Facts are gathered where they are, on a cluster at every node at once, and judged here by functions of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from study import cluster, preflight
from study.doctor import access, machines, packing, speeds, storage
from study.doctor.asking import Ask, here, on_every_node, outcome
from study.doctor.findings import Finding, everywhere, guarded, message
from study.doctor.findings import tell as tell
from study.experiment import Experiment
from trainables.config import Runtime
from trainables.errors import UserError


def examine(experiment: Experiment, folder: Path, address: str | None = None) -> Iterator[Finding]:
    """What is found, as it is found, about running ``experiment`` in ``folder`` or a new one within it.

    With ``address``, on the nodes of that Ray cluster; else on this machine.
    """
    located = outcome(preflight.runtime, experiment)  # where it cannot be, the check of the data says so
    where = experiment.model_copy(update={"data_dir": located.data_dir}) if isinstance(located, Runtime) else experiment
    with ExitStack() as stack:
        ask: Ask = here
        if address:
            try:
                stack.enter_context(cluster.joined_ray(address))
                ask = on_every_node
            except Exception as error:
                told = str(error) if isinstance(error, cluster.ClusterError) else message(error)
                yield Finding("error", "cluster", told, "until then, this machine alone is examined")
        yield from guarded("packages", machines.packages)
        yield from guarded("machines", partial(machines.examined, where.resources, ask))
        at_once = outcome(_at_once, where)
        yield from everywhere("comparisons", {"": at_once}, comparisons)
        loaded = guarded("data", lambda: everywhere("data", ask(_data, where), data))
        yield from loaded
        if all(finding.level != "error" for finding in loaded):
            yield from guarded("network", lambda: everywhere("network", here(_networks, where), networks))
        number = at_once if isinstance(at_once, int) and at_once else 1
        yield from guarded("storage", partial(storage.keeping, where, folder, number, ask))
        yield from guarded("W&B", partial(access.weights_and_biases, where.wandb))
        yield from guarded("Ray", access.joined if ask is on_every_node else access.alone)
        if all(finding.level != "error" for finding in loaded):
            pays = partial(packing.worth, resources=where.resources)
            yield from guarded("packing", lambda: everywhere("packing", ask(packing.measure, where), pays))
            ratio = speeds.told
            yield from guarded("reference", lambda: everywhere("reference", ask(speeds.measure, where), ratio))


def comparisons(at_once: int) -> Finding:
    """Whether a comparison can run at all."""
    if not at_once:
        text = "no machine has the resources that one comparison takes"
        return Finding("error", "comparisons", text, "a lower resources.cpu; without GPUs --set resources.gpu=0")
    return Finding("ok", "comparisons", f"{at_once} at a time")


def _at_once(experiment: Experiment) -> int:
    resources = experiment.resources
    return min(cluster.slots(cluster.nodes(), resources.cpu, resources.gpu), experiment.trials)


def data(answer: tuple[bool, str]) -> Finding:
    """Whether every data set that the search can ask for is there and whole: what they hold, or why not."""
    whole, text = answer
    return Finding("ok" if whole else "error", "data", text)


def networks(answer: list[str] | str) -> Finding:
    """Whether every network that the search can ask for can be built, and what it is; a text says why not."""
    if isinstance(answer, str):
        return Finding("error", "network", answer)
    return Finding("ok", "network", "; ".join(answer))


def _networks(experiment: Experiment) -> list[str] | str:
    try:
        return preflight.networks(experiment)
    except UserError as error:
        return str(error)


def _data(experiment: Experiment) -> tuple[bool, str]:
    try:
        preflight.check_data(experiment)
    except UserError as error:
        return False, str(error)
    found = preflight.described(experiment)
    return True, "all there and whole: " + "; ".join(preflight.sentence(*one) for one in found.items())
