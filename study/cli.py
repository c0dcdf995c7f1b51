"""The command line: ``filter-study VERB``. What a verb needs is imported when it runs, so that help comes at once."""

from __future__ import annotations

import atexit
import errno
import json
import os
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from secrets import token_hex
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from study import experiment as experiments
from study import extras, messages, private, terminal
from study.experiment import Experiment
from trainables.errors import UserError
from trainables.records import CLOCKS

if TYPE_CHECKING:
    from analysis.load import Study
    from study.display import StudyDisplay
    from study.verbs import Ended

INTERRUPTED = 130
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk without room, when it does not name the file."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Does training only on the samples a model still gets wrong beat plain mini-batch SGD, and where?",
    epilog="Start with: [bold]filter-study run quickstart[/]",
)
wandb_app = typer.Typer(no_args_is_help=True, help="Weights & Biases.")
app.add_typer(wandb_app, name="wandb")
out = Console(highlight=False, markup=False)  # what is printed can hold brackets of the user's own
err = Console(stderr=True, highlight=False, markup=False)


def _path(text: str | Path) -> Path:
    """A path that the user names; ``~`` is their home also where the shell leaves it alone, as in ``--dir=~/mine``."""
    return Path(_at_home(text))


def _at_home(stated: str | Path) -> str:
    """The same as text, so that published:thesis and built-in names stay what they are; a default can be a path."""
    text = str(stated)
    try:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    except RuntimeError as error:
        raise typer.BadParameter(f"{text!r}: {error}; give the whole path") from None


def _clock(text: str) -> str:
    """A clock that both arms can be compared on."""
    if text not in CLOCKS:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(CLOCKS)}")
    return text


Source = Annotated[
    str,
    typer.Argument(help="A built-in experiment (see ls) or a YAML file.", metavar="EXPERIMENT", parser=_at_home),
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set", help="Set a key, such as optimizer.lr=0.1 or search.trials=8; repeat for more.", metavar="KEY=VALUE"
    ),
]
DataDir = Annotated[
    str | None,
    typer.Option(help="Folder of the torchvision data sets, or its URI; default: data.", metavar="PATH"),
]
Code = Annotated[
    list[str],
    typer.Option("--code", help="Folder with code of your own, for use: in the experiment; repeat.", metavar="DIR"),
]
AllowChangedCode = Annotated[
    bool,
    typer.Option("--allow-changed-code", help="Go on though code of your own has changed; the manifest will say so."),
]
Smoke = Annotated[bool, typer.Option("--smoke", help="The experiment's short form: embedded data, under a minute.")]
Folder = Annotated[
    Path | None,
    typer.Option("--dir", help="Where the study is kept; default: studies/NAME-TIME.", metavar="PATH", parser=_path),
]
StudyFolder = Annotated[
    Path, typer.Argument(help="A study directory, or a folder of exported tables.", metavar="DIR", parser=_path)
]
Sources = Annotated[
    list[str],
    typer.Argument(
        help="Study directories, exported tables, published:thesis or published:tables.",
        metavar="DIR|FILE...",
        parser=_at_home,
    ),
]
Where = Annotated[
    str | None,
    typer.Option(help="Only trials with such settings: 'optimizer.name == \"adam\"'.", metavar="CONDITION"),
]
Address = Annotated[
    str | None, typer.Option(help="Join the Ray cluster at HOST:PORT, or auto for one on this machine.")
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write the curves for TensorBoard, too.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Leave out tables and report at the end.")]


@app.command()
def ls() -> None:
    """List the built-in experiments.

    Example: filter-study ls
    """
    for name in experiments.built_in():
        experiment = experiments.load(name)
        about = experiment.about
        out.print(f"{name}  {about.title}", style="bold", soft_wrap=True)
        out.print(f"    {about.question}", soft_wrap=True)
        out.print(f"    {experiment.extent}; {about.time}", soft_wrap=True)


@app.command()
def show(
    source: Source,
    overrides: Overrides = [],  # noqa: B006
    smoke: Smoke = False,
    code: Code = [],  # noqa: B006
) -> None:
    """Print an experiment with every default spelled out, as YAML to start one's own from.

    Example: filter-study show quickstart > mine.yaml
    """
    print(_experiment(source, overrides, smoke=smoke, code=code).to_yaml(), end="")


@app.command()
def validate(
    source: Source,
    overrides: Overrides = [],  # noqa: B006
    data_dir: DataDir = None,
    smoke: Smoke = False,
    code: Code = [],  # noqa: B006
) -> None:
    """Check an experiment, code of your own and its data set; all errors at once, nothing is run.

    Example: filter-study validate mine.yaml --set search.trials=8
    """
    experiment = _experiment(source, overrides, data_dir, smoke, code)
    from study import code as own
    from study import preflight

    built = preflight.check(experiment)
    scheduler = experiment.scheduler.name
    stopping = "no early stopping" if scheduler == "none" else f"{scheduler} stops early"
    out.print(
        f"{source} is valid: {experiment.trials} comparisons by {experiment.search.name}"
        f"{', each arm tuned on its own' if experiment.each else ''}, {stopping}, "
        f"{len(experiment.space)} keys searched.",
        soft_wrap=True,
    )
    for title, data in preflight.described(experiment).items():
        out.print(preflight.sentence(title, data), soft_wrap=True, markup=False)
    for line in (*built, *own.described(own.used(experiment))):
        out.print(line, soft_wrap=True)
    _tell_bias(experiment)


@app.command()
def run(
    source: Source,
    overrides: Overrides = [],  # noqa: B006
    data_dir: DataDir = None,
    folder: Folder = None,
    smoke: Smoke = False,
    tensorboard: TensorBoard = False,
    no_report: NoReport = False,
    address: Address = None,
    code: Code = [],  # noqa: B006
    fair: Annotated[
        bool,
        typer.Option(
            "--fair",
            help="Let every arm spend the compute that the baseline spends, each schedule run to its end; also takes a "
            "study's folder, whose experiment runs again in a new one.",
        ),
    ] = False,
) -> None:
    """Run a study on Ray Tune: search, record, report. Ctrl-C ends it in good order; resume goes on with it.

    Examples:

    filter-study run quickstart

    filter-study run studies/mine --fair

    filter-study run mine.yaml --set search.trials=100 --set resources.gpu=0.25 --dir studies/mine
    """
    experiment = _experiment(source, [*overrides, *["tensorboard=true"] * tensorboard], data_dir, smoke, code, fair)
    from study import verbs

    _leave(verbs.begin(experiment, folder, _Terminal(no_report), address))


@app.command()
def resume(
    folder: StudyFolder,
    add_trials: Annotated[int, typer.Option(min=0, help="Configurations to try beyond those planned.")] = 0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed comparisons again.")] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Train comparisons whose checkpoints are lost from epoch 0 again.")
    ] = False,
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="Set a key of resources, recovery, wandb, mlflow or trackers; data_dir, storage or tensorboard.",
            metavar="KEY=VALUE",
        ),
    ] = [],  # noqa: B006
    no_report: NoReport = False,
    address: Address = None,
    code: Annotated[
        list[str],
        typer.Option("--code", help="Folder that code of your own lies in now; all of them.", metavar="DIR"),
    ] = [],  # noqa: B006
    allow_changed_code: AllowChangedCode = False,
) -> None:
    """Go on with a study: after Ctrl-C, a crash, a reboot; or extend one that has ended.

    Comparisons that ended stay as they are, unfinished ones continue from their last checkpoint, and search and early
    stopping know all that was recorded.

    Examples:

    filter-study resume studies/mine

    filter-study resume studies/mine --add-trials 20
    """
    from study import verbs

    told, overrides = _Terminal(no_report), [*overrides, *_as_override(code)]
    _leave(verbs.go_on(folder, told, overrides, add_trials, retry_failed, from_start, address, allow_changed_code))


@app.command()
def confirm(
    folder: StudyFolder,
    top: Annotated[int, typer.Option(min=1, help="Configurations to confirm, the best ones.")] = 5,
    seeds: Annotated[int, typer.Option(min=2, help="Fresh seeds for each of them; fewer than 6 give no interval.")] = 6,
    to: Annotated[
        Path | None,
        typer.Option("--dir", help="Where it is kept; default: DIR/confirmations/TIME.", metavar="PATH", parser=_path),
    ] = None,
    address: Address = None,
    code: Annotated[
        list[str],
        typer.Option("--code", help="Folder that code of your own lies in now; all of them.", metavar="DIR"),
    ] = [],  # noqa: B006
    allow_changed_code: AllowChangedCode = False,
) -> None:
    """Run the best configurations of a study again, on fresh seeds and to the last epoch.

    The best of many noisy gaps is too good to be true: what the report quotes is the confirmed gap. Beside the best run
    the configurations that are best for either arm in their problems, so that no win is quoted over an untuned baseline
    alone.

    Example: filter-study confirm studies/mine --top 3 --seeds 8
    """
    from study import verbs

    own = _as_override(code)
    _leave(verbs.confirm(folder, _Terminal(), top, seeds, to, own, address, allow_changed_code))


@app.command()
def status(study: StudyFolder) -> None:
    """How a study is getting on, from another terminal: comparisons by state, the best so far, time left.

    Example: filter-study status studies/mine
    """
    import time

    from analysis import status as states
    from study import folder as folders

    experiment = folders.recorded(study)
    alive, mode = folders.in_use(study), experiment.modes[0]
    out.print(states.render(states.status(study, time.time(), experiment.trials, alive, mode)), soft_wrap=True)


@app.command()
def doctor(
    source: Annotated[
        str, typer.Argument(help="The experiment that is to run.", metavar="[EXPERIMENT]", parser=_at_home)
    ] = "quickstart",
    overrides: Overrides = [],  # noqa: B006
    data_dir: DataDir = None,
    folder: Annotated[
        Path, typer.Option("--dir", help="Where the study would be kept.", metavar="PATH", parser=_path)
    ] = Path("studies"),
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster to examine, node by node: auto or HOST:PORT.")
    ] = None,
    code: Code = [],  # noqa: B006
) -> None:
    """Examine this machine, or a cluster, before an experiment runs on it; each trouble comes with its remedy.

    For half a minute it also trains, to see how many comparisons at a time pay. The exit code is 1 if something is in
    the way.

    Examples:

    filter-study doctor

    filter-study doctor mine.yaml --address auto --set storage=/shared/studies --dir studies/mine
    """
    experiment = _experiment(source, overrides, data_dir, code=code)
    from study.doctor import examine, tell

    raise typer.Exit(tell(examine(experiment, folder, address), out))


@app.command()
def slurm(
    source: Source,
    overrides: Overrides = [],  # noqa: B006
    data_dir: DataDir = None,
    folder: Folder = None,
    smoke: Smoke = False,
    nodes: Annotated[int, typer.Option(help="Nodes; several form a Ray cluster.")] = 1,
    cpus: Annotated[int, typer.Option(help="CPU cores of each node.")] = 16,
    memory: Annotated[str, typer.Option(help="Memory of each node.")] = "32G",
    gpus: Annotated[
        int | None, typer.Option(help="GPUs of each node; default: one if comparisons use a share of it.")
    ] = None,
    time: Annotated[str, typer.Option(help="Time limit; the study stops in good order before it.")] = "24:00:00",
    partition: Annotated[str | None, typer.Option(help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the study in this folder instead.", metavar="DIR", parser=_path)
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="File to write; default: print it.", metavar="FILE", parser=_path)
    ] = None,
    code: Code = [],  # noqa: B006
) -> None:
    """Write a Slurm batch file for a study, to be submitted with sbatch.

    Examples:

    filter-study slurm quickstart --set resources.gpu=0.25 --partition gpu --to study.sbatch

    filter-study slurm quickstart --resume studies/mine --nodes 2 --to more.sbatch
    """
    from study import folder as folders
    from study import slurm as batch

    if data_dir is not None:
        overrides = [*overrides, f"data_dir={json.dumps(data_dir)}"]
    experiment = _experiment(source, overrides, smoke=smoke, code=code)
    overrides = [*overrides, *(_as_override(list(experiment.code)) if code else [])]
    kept = (
        resume or folder or folders.STUDIES / f"{folders.name(experiment.name)}-{token_hex(2)}"
    )  # other jobs have another
    sets = [part for override in overrides for part in ("--set", override)]
    new = ["run", source, *(["--smoke"] if smoke else []), *sets, "--dir", str(kept)]
    command = tuple(["resume", str(kept), *sets] if resume else new)
    text = batch.batch_file(
        batch.Job(
            experiment.name,
            command,
            kept,
            experiment.resources,
            Path(sys.executable).parent,
            nodes,
            cpus,
            memory,
            gpus,
            time,
            partition,
            account,
        )
    )
    if to is None:
        print(text, end="")
    else:
        to.write_text(text, "utf-8")
        out.print(f"{to}: submit it with sbatch {quote(str(to))}", soft_wrap=True)


@wandb_app.command("sync")
def wandb_sync(folder: StudyFolder) -> None:
    """Upload a study's offline W&B runs, or say what to run later.

    Example: filter-study wandb sync studies/mine
    """
    from study import folder as folders
    from study.trackers.weights_and_biases import sync

    folders.recorded(folder)
    with folders.locked(folder):  # what a driver is writing must not be touched
        code = sync(folder, lambda text: out.print(text, soft_wrap=True))
    raise typer.Exit(code)


def _tell_bias(experiment: Experiment) -> None:
    """Say what the scheduler's choice does to the gaps, where it does not look at both arms alike."""
    from study.schedulers import bias

    if said := bias(experiment):
        err.print(said, soft_wrap=True)


class _Terminal:
    """A terminal as the audience of a study; see :class:`study.verbs.Audience`."""

    def __init__(self, no_report: bool = False) -> None:
        self._no_report = no_report

    def tell(self, text: str) -> None:
        out.print(text, soft_wrap=True)

    def complain(self, text: str) -> None:
        _complain(text)

    def display(self, experiment: Experiment, ended: int, found: list[float]) -> StudyDisplay:
        from study.display import displayed

        return displayed(experiment, ended, found, out)

    def conclude(self, folder: Path) -> None:
        if not self._no_report:
            _conclude(folder)


def _leave(ended: Ended) -> None:
    """With exit code 1 where nothing came of a study."""
    if ended.fruitless:
        raise typer.Exit(1)


@app.command()
def train(
    source: Annotated[
        str, typer.Argument(help="The experiment whose settings to train.", metavar="[EXPERIMENT]", parser=_at_home)
    ] = "quickstart",
    more: Annotated[
        list[str] | None,
        typer.Argument(help="Further keys to set, as with --set: what a W&B sweep passes.", metavar="[KEY=VALUE]..."),
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    data_dir: DataDir = None,
    folder: Folder = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: the experiment's resources.cpu.")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA where there is one.")] = "auto",
    no_report: NoReport = False,
    code: Code = [],  # noqa: B006
) -> None:
    """Train one comparison in this process, without Ray: the experiment's own settings, nothing searched.

    Examples:

    filter-study train quickstart --set model.name=LeNet --set epochs=5

    filter-study train quickstart model.name=LeNet epochs=5
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    overrides = [*overrides, *(more or [])]
    if threads is not None:
        overrides = [*overrides, f"resources.cpu={threads}"]
    if not any(one.partition("=")[0].strip() == "scheduler.name" for one in overrides):
        overrides = [*overrides, "scheduler.name=none"]  # which has nothing to stop here
    experiment = _experiment(source, overrides, data_dir, code=code).alone()
    from study import folder as folders
    from study import preflight, runner, trackers
    from study.display import NoDisplay
    from trainables.config import TrialConfig

    preflight.check(experiment, device)
    config = TrialConfig.from_dotted(experiment.trial)
    folder = folders.made(folder) if folder else folders.new(folders.STUDIES, f"train-{experiment.name}")
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("epochs{task.fields[state]}"), TimeRemainingColumn())
    with folders.locked(folder), messages.kept(folder, _complain) as say:
        folders.create(folder, experiment)
        with Progress(*columns, console=out) as progress:
            task = progress.add_task("", total=config.epochs, state="", completed=-1)

            def on_epoch(metrics: dict[str, float]) -> None:
                state = ", ".join(f"{arm} {metrics[f'{arm}/test_accuracy']:.4f}" for arm in config.arms)
                progress.update(task, advance=1, state=f", test accuracy {state}")

            status = runner.train(experiment, folder, NoDisplay(), device, on_epoch, say)
        out.print(f"{status}; recorded in {folder}", soft_wrap=True)
        trackers.finish(experiment, folder, say)
        if not no_report:
            _conclude(folder)
    if status != "finished":
        raise typer.Exit(1)


@app.command()
def export(
    study: StudyFolder,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: DIR/tables.", metavar="PATH", parser=_path)
    ] = None,
    format: Annotated[Literal["parquet", "csv"], typer.Option(help="File format.")] = "parquet",
) -> None:
    """Export the tables trials, epochs and pairs; of a running, crashed or interrupted study too.

    What stands in every column is in docs/tables.md.

    Example: filter-study export studies/mine --format csv --to tables
    """
    from analysis import export as exports
    from analysis.sources import beside

    for path in exports.export(_load([str(study)]), to or beside(study) / "tables", format):
        out.print(str(path), soft_wrap=True)


@app.command()
def gaps(
    sources: Sources,
    metric: Annotated[list[str], typer.Option(help="Metric to compare; repeat for more.")] = [],  # noqa: B006
    by: Annotated[
        list[str], typer.Option(help="Hyperparameter to group by, or study; repeat for more.", metavar="KEY")
    ] = [],  # noqa: B006
    where: Where = None,
    at: Annotated[
        str, typer.Option(help="final, best (each arm's best validation epoch), or an epoch's number.")
    ] = "final",
    clock: Annotated[
        str,
        typer.Option(help=f"What both arms have spent alike: {', '.join(CLOCKS)}.", metavar="CLOCK", parser=_clock),
    ] = "epochs",
    against: Annotated[
        str | None, typer.Option(help="Arm to take the baseline's place, such as random.", metavar="ARM")
    ] = None,
    treatment: Annotated[str | None, typer.Option(help="Arm to take the treatment's place.", metavar="ARM")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, numbers unrounded.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, numbers unrounded.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX (booktabs).")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Print the gaps between the arms: positive means that filtering is better.

    Several studies are taken together; published:thesis and published:tables are the figures of the thesis.

    Examples:

    filter-study gaps studies/mine --by optimizer.name --where 'batch_size <= 64 and schedule.name != "none"'

    filter-study gaps studies/mine studies/more --metric test_worst_loss --clock compute --by study

    filter-study gaps studies/mine --against random --json

    filter-study gaps published:thesis --by dataset.name
    """
    from analysis import answer as answers
    from analysis.database import TableError

    forms: dict[answers.Form, bool] = {"csv": csv, "json": as_json, "latex": latex, "markdown": markdown}
    asked = [form for form, wanted in forms.items() if wanted]
    if len(asked) > 1:
        raise TableError(f"--{' and --'.join(asked)} do not go together; choose one")
    form = asked[0] if asked else "text"
    found = answers.answer(_load(sources, where), metric, by, at, clock, against, treatment)
    if form == "csv":
        for line in found.verdict:
            err.print(line, soft_wrap=True)
    print(answers.written(found, form), end="")


@app.command()
def league(
    sources: Sources,
    metric: Annotated[str, typer.Option(help="Metric to rank by.")] = "test_accuracy",
    where: Where = None,
    clock: Annotated[
        str,
        typer.Option(help=f"What an arm and the other have spent alike: {', '.join(CLOCKS)}.", parser=_clock),
    ] = "epochs",
    against: Annotated[
        str | None, typer.Option(help="Arm that gaps are told to; default: the baseline.", metavar="ARM")
    ] = None,
    target: Annotated[
        list[float], typer.Option(help="Test accuracy: also say what each arm spends to reach it; repeat for more.")
    ] = [],  # noqa: B006
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX (booktabs).")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Rank all arms of a study, with the critical difference, each arm's gap to one of them, and what it costs.

    Examples:

    filter-study league studies/field

    filter-study league studies/field --against random --where 'epochs == 20' --target 0.85
    """
    from analysis import league as leagues
    from analysis.database import TableError

    if latex and markdown:
        raise TableError("--latex and --markdown do not go together; choose one")
    form: leagues.Form = "latex" if latex else "markdown" if markdown else "text"
    print(leagues.written(_load(sources, where), metric, clock, against, target, form), end="")


@app.command()
def report(
    sources: Sources,
    where: Where = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: DIR.", metavar="PATH", parser=_path)
    ] = None,
) -> None:
    """Write report.html, which opens without network, and its figures as PNG and PDF, its tables as LaTeX and Markdown.

    Examples:

    filter-study report studies/mine

    filter-study report studies/mine studies/more --to together
    """
    from analysis import report as reports
    from analysis.database import TableError
    from analysis.sources import home

    folder = to or home(sources, where)
    if folder is None:
        raise TableError("--to is needed: a report of several, filtered or published studies has no folder of its own")
    out.print(str(reports.write(_load(sources, where), folder)), soft_wrap=True)


@app.command()
def published(
    sources: Sources,
    where: Where = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Set a study beside what was published: the thesis's figures, or another method's in its own setting.

    Claimed, measured, with the interval. Studies of the experiments published_… are set beside what the authors of
    those methods report; any other beside the figures of the thesis.

    Example: filter-study published studies/mine
    """
    from analysis import claims, peer_claims, tables

    study = _load(sources, where)
    write = tables.to_markdown if markdown else tables.to_text
    beside = peer_claims.beside_claims(study)
    if not beside.empty:
        print(write(peer_claims.claims_table(beside)), end="")
        return
    compared = claims.compare(study)
    if compared.empty:
        out.print(
            "No comparison has a published counterpart, one of the same data set (mnist5k stands for MNIST), model, "
            "batch size, optimizer and schedule; filter-study gaps published:thesis --by model.name says what there is",
            soft_wrap=True,
        )
    else:
        print(write(claims.published_table(compared)), end="")


@app.command()
def bench(
    suite: Annotated[
        Literal["all", "loop", "gpu", "study", "driver", "search", "analysis"], typer.Option(help="What to measure.")
    ] = "all",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA where there is one.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, numbers unrounded.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Measure this program on this machine, beside what is possible and beside what one would use instead.

    loop: training against its bare steps and a common loop; gpu: samples a second on a GPU, and the hours that the
    thesis's experiments would take; study: the engine against a bare loop and plain Ray Tune;
    driver: the engine with 2,000 comparisons whose training is free; search: the epochs that a search spends to find
    what a full grid finds; analysis: 2 million rows. docs/performance.md says how to read it. Takes minutes; other work
    disturbs it.

    Examples:

    filter-study bench --suite loop

    filter-study bench --json > bench.json
    """
    from study import bench as benches
    from study.bench import driver, engine, gpu, loop, search, starts, tables
    from trainables.comparison import resolve_device
    from trainables.config import Runtime

    if as_json and markdown:
        raise typer.BadParameter("--json and --markdown do not go together; choose one")
    chosen = resolve_device(Runtime(device=device))
    if suite == "gpu" and chosen.type != "cuda":
        raise typer.BadParameter(f"--suite gpu is for a GPU, and the device is the {chosen.type}; take --suite loop")
    suites = {
        "loop": lambda: loop.suite(chosen),
        "gpu": lambda: gpu.suite(chosen) if chosen.type == "cuda" else [],
        "study": lambda: chain(engine.suite(), starts.figures()),
        "driver": driver.suite,
        "search": search.suite,
        "analysis": tables.suite,
    }
    figures = []
    form: benches.Form = "json" if as_json else "markdown" if markdown else "text"
    try:
        for name in suites if suite == "all" else [suite]:
            for figure in suites[name]():
                err.print(f"{name}: {figure.name}: {figure.told}", soft_wrap=True)
                figures.append(figure)
    finally:  # what was measured before an interruption or a failure is worth having
        if figures:
            print(benches.written(figures, benches.machine(), form), end="")


def _load(sources: list[str], where: str | None = None) -> Study:
    """The tables of one study or several; what of them is damaged is said on the error console."""
    from analysis.sources import read

    study = read(sources, where)
    for line in study.damage:
        err.print(f"damaged: {line}", soft_wrap=True)
    return study


def _conclude(folder: Path) -> None:
    """Export the tables and write the report, then print the gap table, which is there even where they cannot be."""
    from analysis import answer as answers
    from analysis import export as exports
    from analysis import report as reports

    study = _load([str(folder)])
    try:
        tables = exports.export(study, folder / "tables", "parquet")
        page = reports.write(study, folder)
    finally:
        print(f"\n{answers.written(answers.answer(study), 'text')}")
    out.print(f"report: {page}", soft_wrap=True)
    out.print(f"tables: {tables[0].parent}", soft_wrap=True)


def _complain(text: str) -> None:
    """Tell of trouble on the error console."""
    err.print(text, soft_wrap=True)


def _as_override(code: list[str]) -> list[str]:
    """Folders of code of one's own as a value for ``--set``."""
    return [f"code={json.dumps([str(_path(folder).absolute()) for folder in code])}"] if code else []


def _experiment(
    source: str,
    overrides: list[str],
    data_dir: str | None = None,
    smoke: bool = False,
    code: Sequence[str] = (),
    fair: bool = False,
) -> Experiment:
    if data_dir is not None:
        overrides = [*overrides, f"data_dir={json.dumps(data_dir)}"]
    if fair:
        from study import fair as same_compute

        return same_compute.load(source, overrides, smoke, code)
    return experiments.load(source, overrides, smoke, code=code)


def _have_a_home() -> None:
    """Give the process a home for as long as it lives, if its user has none: Ray cannot be imported without."""
    try:
        Path.home()
    except RuntimeError:  # a container often runs as a user whom it does not know
        os.environ["HOME"] = str(private.make())
        atexit.register(private.remove_all)


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2, an interruption is 130."""
    _have_a_home()
    with terminal.lenient():
        code = _code()
        if code == 0:
            code = terminal.exit_code()
            if code == terminal.UNPRINTED:
                _complain("\n".join(terminal.lost()))
    sys.exit(code)


def _code() -> int:
    """Run the command line; its exit code."""
    try:
        app(standalone_mode=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        err.print("interrupted")
        return INTERRUPTED
    except UserError as error:
        _complain(str(error))
        return error.exit_code
    except ImportError as error:
        if not (extra := extras.lacking(error)):
            raise
        _complain(str(extras.MissingError(extra, f"filter-study {' '.join(sys.argv[1:2])}")))
        return UserError.exit_code
    except OSError as error:  # of a file that the user named, or of the disk under it
        if error.filename is None and error.errno not in FULL:
            raise
        _complain(": ".join(str(part) for part in (error.filename, error.strerror) if part))
        return UserError.exit_code
    return 0
