"""How many comparisons at a time pay: they are trained side by side, in processes of their own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple

import torch

from study import limits, preflight
from study.doctor.findings import Finding
from study.experiment import Experiment, Resources
from trainables.comparison import Arm, prepare
from trainables.config import Runtime, TrialConfig
from trainables.methods import ProbeResult, Views

Device = Literal["auto", "cpu", "cuda"]
PACKED = (1, 2, 4)
MARGIN = 0.1  # a throughput that is lower by no more than this is as good
SPAN_SECONDS = 1.5  # of training for one throughput
MEASURE_SECONDS = {"cpu": 25.0, "cuda": 90.0}  # a process takes seconds to get hold of a GPU


class Measured(NamedTuple):
    """Epochs a minute that so many comparisons at a time train together; none where there was no time for it.

    Epochs of the baseline's training alone. ``cores`` is how many each number of comparisons shared, on a CPU; on a GPU
    it is None.
    """

    rates: Mapping[int, float]
    cores: int | None


def measure(experiment: Experiment, device: Device = "auto") -> Measured | None:
    """Train the experiment's own settings on this machine for some seconds, several at a time; None if it cannot.

    On ``auto``, on the GPU where there is one; an experiment that asks for one is not measured where there is none.
    """
    if device == "auto":
        if experiment.resources.gpu and not torch.cuda.is_available():
            return None
        device = "cuda" if torch.cuda.is_available() else "cpu"
    cores = None if device == "cuda" else max(number for number in PACKED if number <= limits.available_cpus())
    threads = {n: cores // n if cores else experiment.resources.cpu for n in PACKED if cores is None or n <= cores}
    runtime = preflight.runtime(experiment, device)
    config = TrialConfig.from_dotted(experiment.trial)
    try:
        return Measured(throughputs(config, runtime, threads, SPAN_SECONDS, MEASURE_SECONDS[device]), cores)
    except TimeoutError:
        return Measured({}, cores)


def worth(measured: Measured | None, resources: Resources) -> Finding:
    """Whether the experiment runs as many comparisons at a time as pay, and the curve that says so."""
    if measured is None:
        return Finding("ok", "packing", "not measured where there is no GPU")
    rates, cores = measured
    if not rates:
        seconds = MEASURE_SECONDS["cuda" if cores is None else "cpu"]
        text = f"not measured: some updates of this comparison were not done in {seconds:g} s"
        return Finding("warning", "packing", text, "an idle machine; a smaller batch or model; a GPU")
    if not any(rates.values()):
        return Finding("error", "packing", "one comparison does not fit on the GPU", "a smaller batch_size or model")
    best = fewest(rates)
    where, setting = ("to a GPU", "resources.gpu") if cores is None else (f"on {cores} cores", "resources.cpu")
    text = f"{best} at a time {where} pay: {setting}={_share(best, cores):g}"
    on_gpu = int(1 / resources.gpu) if resources.gpu else 0
    chosen = on_gpu if cores is None else max(cores // resources.cpu, 1)
    alike = max((number for number in rates if number <= chosen), default=0)
    pays = rates.get(alike, 0) >= (1 - MARGIN) * max(rates.values())
    remedy = "" if pays else f"--set {setting}={_share(best, cores):g}"
    return Finding("ok" if pays else "warning", "packing", text, remedy, curve(rates, cores))


def curve(rates: Mapping[int, float], cores: int | None) -> tuple[str, ...]:
    """The packing curve as a table: a line for each number of comparisons at a time, below a head."""
    most = max(rates.values())
    lines = [f"at a time  {'resources.gpu' if cores is None else 'resources.cpu'}  epochs a minute  of the most"]
    for number, rate in sorted(rates.items()):
        told = f"{rate:>15,.1f}  {rate / most:>11.0%}" if rate else f"{'no room':>15}"
        lines.append(f"{number:>9}  {_share(number, cores):>13g}  {told}")
    return tuple(lines)


def _share(number: int, cores: int | None) -> float:
    """What each of so many comparisons at a time gets: of a GPU, or of the cores."""
    return 1 / number if cores is None else cores // number


def fewest(rates: Mapping[int, float]) -> int:
    """The fewest comparisons at a time that train together as many epochs a minute as any number does, or almost."""
    return min(number for number, rate in rates.items() if rate >= (1 - MARGIN) * max(rates.values()))


def throughputs(
    config: TrialConfig,
    runtime: Runtime,
    threads: Mapping[int, int],
    span: float,
    limit: float,
) -> dict[int, float]:
    """Epochs a minute that so many comparisons train together.

    Arguments:
        threads: for each number of comparisons to try, those of each; a number that the GPU cannot hold counts 0.
        span: seconds for each number.
        limit: seconds for everything.

    Raises:
        TimeoutError: there was not time enough; nothing goes on.
    """
    deadline = time.monotonic() + limit
    with ExitStack() as stack:
        pipes = [stack.enter_context(_trainer(config, runtime)) for _ in range(max(threads))]
        for pipe in pipes:  # one after the other: what the first ones need is theirs
            pipe.send((1, 0.0))
            _answer(pipe, deadline)
        rates = {}
        for number, own in sorted(threads.items()):
            for pipe in pipes[:number]:
                pipe.send((own, span))
            answers = [_answer(pipe, deadline) for pipe in pipes[:number]]
            rates[number] = sum(answers) if all(answers) else 0.0
        return rates


@contextmanager
def _trainer(config: TrialConfig, runtime: Runtime) -> Iterator[Connection]:
    """A process that trains whenever it is sent a number of threads and of seconds, and answers with its rate."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train, args=(theirs, config, runtime), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def _answer(pipe: Connection, deadline: float) -> float:
    if not pipe.poll(max(deadline - time.monotonic(), 0)):
        raise TimeoutError
    try:
        answer = pipe.recv()
    except EOFError:
        raise RuntimeError("a process that trained was ended, as when memory is short") from None
    if isinstance(answer, Exception):
        raise answer
    return float(answer)


def _train(pipe: Connection, config: TrialConfig, runtime: Runtime) -> None:
    arm = None
    while True:
        threads, seconds = pipe.recv()
        try:
            arm = arm or next(one for one in prepare(config, runtime).arms if one.name == config.baseline)
            pipe.send(_rate(arm, threads, seconds))
        except torch.OutOfMemoryError:
            pipe.send(0.0)
        except Exception as error:
            pipe.send(error)


class _TimeIsUp(Exception):
    pass


def _rate(arm: Arm, threads: int, seconds: float) -> float:
    """Epochs a minute that an arm trains, each of as many samples as there are; of at least one batch."""
    torch.set_num_threads(threads)
    samples, began = 0, time.perf_counter()

    def update(views: Views) -> ProbeResult:
        nonlocal samples
        if samples and time.perf_counter() - began > seconds:
            raise _TimeIsUp
        samples += len(views)
        return arm.update(views)

    with contextlib.suppress(_TimeIsUp):
        for epoch in count(1):
            arm.sampler.start_epoch(epoch)
            for views in arm.sampler.batches(arm.probe):
                update(views)
    if arm.device.type == "cuda":
        torch.cuda.synchronize()
    minutes = (time.perf_counter() - began) / 60
    return samples / len(arm.data.train.labels) / minutes
