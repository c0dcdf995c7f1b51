"""Run an experiment: on Ray Tune, or one comparison of it in this process."""

from __future__ import annotations

import logging
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from search_spaces.convert import to_tune
from study import cluster, manifest
from study.experiment import Experiment
from study.preflight import runtime, under_ray
from study.recorder import Recorder
from study.searcher import OptunaSearcher, create_study
from study.watch import Display, TuneWatch, Watch, not_finite
from study.weights_and_biases import WandbLogger
from trainables.comparison import prepare, report
from trainables.config import TrialConfig, metric_mode
from trainables.tune import ComparisonTrainable

EXPERIMENT = "experiment.yaml"
RAY = "ray"


class FolderError(Exception):
    """The study directory cannot be used."""


class Interrupted(Exception):
    """The study was interrupted; what it had recorded is readable."""


def create_folder(folder: Path, experiment: Experiment) -> None:
    """Make the study directory, with the resolved experiment and the manifest.

    Raises:
        FolderError: it holds something already, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileExistsError(f"{folder} is not empty; a study needs a folder of its own: choose another --dir")
        (folder / EXPERIMENT).write_text(experiment.to_yaml(), "utf-8")
        manifest.write(manifest.collect(experiment), folder)
    except OSError as error:
        raise FolderError(f"{error}" if error.errno is None else f"--dir {folder}: {error.strerror}") from None


@contextmanager
def watching(experiment: Experiment, folder: Path, display: Display, say: Callable[[str], None]) -> Iterator[Watch]:
    """The watch over a study in ``folder``; on leaving, everything is written and what still trains is interrupted.

    ``say`` is told once if W&B has failed.
    """
    wandb = WandbLogger(experiment.wandb, folder, f"{experiment.name}-{folder.name}")
    with Recorder(folder) as recorder, _terminated_like_interrupted():
        try:
            yield Watch(recorder, wandb, display)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; what was recorded is in {folder}, to be read by: filter-study report {folder}"
            ) from None
        finally:
            wandb.close()
            if wandb.failure:
                say(wandb.failure)


def run(experiment: Experiment, folder: Path, display: Display, say: Callable[[str], None] = print) -> Counter[str]:
    """Run the study in ``folder``; how many comparisons ended in which status. ``say`` is told of trouble with W&B.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM.
    """
    gpu = experiment.resources.gpu
    with (
        _terminated_like_interrupted(),
        cluster.local_ray(cluster.available_cpus(), _gpus(gpu)),
        watching(experiment, folder, display, say) as watch,  # inside, for ray.init takes SIGTERM for itself
    ):
        tuner(experiment, folder, watch).fit()
    return watch.statuses


def _gpus(share: float) -> int:
    return torch.cuda.device_count() if share else 0


def tuner(experiment: Experiment, folder: Path, watch: Watch) -> Any:
    """The Tune run of an experiment; Ray must have been started."""
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    search, objective, resources = experiment.search, experiment.objective, experiment.resources
    shared = {"runtime": under_ray(experiment).model_dump(), "objective": objective.model_dump()}
    searcher, param_space, samples = None, None, 1
    if search.name == "optuna":
        optuna_study = create_study(search, objective.mode)
        searcher = OptunaSearcher(optuna_study, experiment.space, experiment.fixed, shared)
        samples = experiment.trials
    else:
        configurations = to_tune(experiment.space, experiment.fixed, search.trials, search.seed)
        param_space = {"trial": configurations, **shared}
    scheduler = FIFOScheduler()
    if experiment.scheduler.name == "asha":
        scheduler = AsyncHyperBandScheduler(
            time_attr="epoch",
            metric=experiment.scheduler.metric or "objective",
            mode=metric_mode(experiment.scheduler.metric or objective.metric),
            max_t=experiment.longest,
            grace_period=experiment.scheduler.grace_period,
            reduction_factor=experiment.scheduler.reduction_factor,
        )
    return tune.Tuner(
        tune.with_resources(ComparisonTrainable, {"cpu": resources.cpu, "gpu": resources.gpu}),
        param_space=param_space,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=samples,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=RAY,
            storage_path=str(folder.resolve()),
            verbose=0,
            callbacks=[TuneWatch(watch)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )


def train(
    experiment: Experiment,
    folder: Path,
    display: Display,
    device: str,
    on_epoch: Callable[[dict[str, float]], None],
    say: Callable[[str], None] = print,
) -> str:
    """Run one comparison, the experiment's own settings, in this process without Ray; the status it ends in.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM.
    """
    config = TrialConfig.from_dotted(experiment.trial)
    comparison = prepare(config, runtime(experiment, device))
    with watching(experiment, folder, display, say) as watch:
        watch.start("comparison", experiment.trial)
        value = None
        while not comparison.done:
            rows = comparison.step()
            metrics = report(rows, config.baseline, config.treatment)
            value = experiment.objective.value(metrics, config.baseline)
            watch.add("comparison", rows, value, comparison.trace() if experiment.trace else ())
            on_epoch(metrics)
        watch.end("comparison", comparison.status, comparison.epoch, value, not_finite(comparison.diverged))
    return comparison.status


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends a study as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
