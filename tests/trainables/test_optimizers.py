from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from trainables import optimizers
from trainables.config import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Exponential,
    Linear,
    MultiStep,
    OneCycle,
    OptimizerConfig,
    RMSprop,
    TrialConfig,
    UsedOptimizer,
)

EPOCHS = 40
SCHEDULES = [
    (Constant(), lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0)),
    (Exponential(name="exponential"), lambda o: lr_scheduler.ExponentialLR(o, 0.995)),
    (Exponential(name="exponential", gamma=0.8), lambda o: lr_scheduler.ExponentialLR(o, 0.8)),
    (MultiStep(name="multistep", gamma=0.3, every=7), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
    (MultiStep(name="multistep", every=1), lambda o: lr_scheduler.StepLR(o, 1, 0.1)),
    (Cosine(name="cosine"), lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS)),
]


@pytest.mark.parametrize(("schedule", "make"), SCHEDULES)
def test_the_learning_rate_is_that_of_torchs_scheduler_stepped_after_every_epoch(schedule, make) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = make(optimizer)
    expected = []
    for _ in range(EPOCHS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = [optimizers.learning_rate(0.3, schedule, done, EPOCHS) for done in range(EPOCHS)]
    assert ours[0] == 0.3
    assert ours == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "kind", "knobs"),
    [
        (
            SGD(lr=0.2, momentum=0.7, nesterov=True, weight_decay=0.01),
            torch.optim.SGD,
            {"lr": 0.2, "momentum": 0.7, "nesterov": True, "weight_decay": 0.01, "dampening": 0, "maximize": False},
        ),
        (
            SGD(lr=0.2, momentum=0.0, weight_decay=0.0),
            torch.optim.SGD,
            {"lr": 0.2, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        ),
        (
            Adam(name="Adam", lr=0.02, amsgrad=True, weight_decay=0.03),
            torch.optim.Adam,
            {"lr": 0.02, "amsgrad": True, "weight_decay": 0.03, "betas": (0.9, 0.999)},
        ),
        (
            AdamW(name="AdamW", lr=0.04, amsgrad=True, weight_decay=0.05),
            torch.optim.AdamW,
            {"lr": 0.04, "amsgrad": True, "weight_decay": 0.05, "betas": (0.9, 0.999)},
        ),
        (AdamW(name="AdamW"), torch.optim.AdamW, {"lr": 1e-3, "amsgrad": False, "weight_decay": 5e-4}),
    ],
)
def test_every_knob_reaches_torchs_optimizer(settings: OptimizerConfig, kind: type, knobs: dict[str, object]) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(3))]
    optimizer = optimizers.build(settings, parameters)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert {name: group[name] for name in knobs} == knobs
    assert [p is q for p, q in zip(group["params"], parameters, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        (SGD(nesterov=True), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=5e-4, nesterov=True, foreach=False)),
        (SGD(momentum=0), lambda p: torch.optim.SGD(p, 0.1, weight_decay=5e-4, foreach=False)),
        (
            Adam(name="Adam", amsgrad=True),
            lambda p: torch.optim.Adam(p, weight_decay=5e-4, amsgrad=True, foreach=False),
        ),
        (AdamW(name="AdamW"), lambda p: torch.optim.AdamW(p, weight_decay=5e-4, foreach=False)),
    ],
)
def test_one_fused_kernel_does_what_the_plain_updates_do(settings: OptimizerConfig, plain) -> None:
    def trained(make) -> torch.Tensor:
        weights = torch.nn.Parameter(torch.linspace(-1, 1, 37))
        optimizer = make([weights])
        for step in range(20):
            optimizer.zero_grad()
            (weights * torch.linspace(0, 2, 37) + step / 10).cos().sum().backward()
            optimizer.step()
        return weights.detach()

    def fused(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = optimizers.build(settings, parameters)
        assert optimizer.param_groups[0]["fused"] is True
        return optimizer

    assert torch.allclose(trained(fused), trained(plain), rtol=1e-4, atol=1e-6)


UPDATES = 30
PER_UPDATE = [
    (Cosine(name="cosine", clock="steps"), lambda o: lr_scheduler.CosineAnnealingLR(o, 3 * UPDATES)),
    (Linear(name="linear"), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, 3 * UPDATES)),
]


@pytest.mark.parametrize(("schedule", "make"), PER_UPDATE)
def test_a_rate_that_changes_with_every_update_is_that_of_torchs_scheduler(schedule, make) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = make(optimizer)
    expected = []
    for _ in range(3 * UPDATES):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = [optimizers.learning_rate(0.3, schedule, update / UPDATES, 3) for update in range(3 * UPDATES)]
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_one_cycle_rises_to_the_rate_and_falls_far_below_its_start() -> None:
    cycle = OneCycle(name="one_cycle", rising=0.25, div_factor=10, final_div_factor=100)
    rates = [optimizers.learning_rate(0.2, cycle, done, 4) for done in (0, 0.5, 1, 2.5, 4)]
    middle = (0.02 + 0.2) / 2
    assert rates == pytest.approx([0.02, middle, 0.2, (0.2 + 0.0002) / 2, 0.0002])
    peak = torch.optim.lr_scheduler.OneCycleLR(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1),
        max_lr=0.2,
        total_steps=4001,
        pct_start=0.25,
        div_factor=10,
        final_div_factor=100,
        cycle_momentum=False,
    )
    for step in range(4000):
        ours = optimizers.learning_rate(0.2, cycle, step / 1000, 4)
        assert ours == pytest.approx(peak.get_last_lr()[0], rel=0.01, abs=1e-5)
        peak.optimizer.step()
        peak.step()


def test_a_warm_up_rises_to_the_schedule() -> None:
    warmed, plain = Linear(name="linear", warmup=0.5), Linear(name="linear")
    at = lambda schedule, done: optimizers.learning_rate(0.4, schedule, done, 2)  # noqa: E731
    assert at(warmed, 0) == pytest.approx(0.004)
    assert at(warmed, 0.25) == pytest.approx(0.505 * at(plain, 0.25))
    assert [at(warmed, done) for done in (0.5, 1, 1.9)] == [at(plain, done) for done in (0.5, 1, 1.9)]
    with pytest.raises(ValueError, match=r"warmup 0.5 rises with every update; set clock to steps"):
        Cosine(name="cosine", warmup=0.5)


def test_a_schedule_is_read_at_the_share_of_any_budget() -> None:
    for schedule in (
        Linear(name="linear", warmup=0.5),
        Cosine(name="cosine", clock="steps"),
        Exponential(name="exponential", clock="steps"),
        MultiStep(name="multistep", every=2),
        OneCycle(name="one_cycle"),
    ):
        for done in (0.0, 0.2, 1.7, 3.0, 3.9):
            expected = optimizers.learning_rate(0.3, schedule, done, 4)
            assert optimizers.learning_rate(0.3, schedule, done * 1000, 4000, 4) == pytest.approx(expected)


def test_any_optimizer_can_be_named_by_its_import_path() -> None:
    config = TrialConfig.from_dotted(
        {"optimizer.use": "torch.optim:NAdam", "optimizer.lr": 0.02, "optimizer.eps": 1e-3}
    )
    assert TrialConfig.from_dotted(config.to_dotted()) == config
    assert config.to_dotted()["optimizer.eps"] == 1e-3
    optimizer = optimizers.build(config.optimizer, [torch.nn.Parameter(torch.zeros(2))])
    assert type(optimizer) is torch.optim.NAdam
    assert {name: optimizer.param_groups[0][name] for name in ("lr", "eps")} == {"lr": 0.02, "eps": 1e-3}
    assert optimizers.recordable(config.optimizer)
    assert not optimizers.recordable(UsedOptimizer(use="torch.optim:Adafactor", lr=0.1))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"use": "torch.optim:NAdam"}, r"optimizer.use.lr\n.*Field required"),
        ({"use": "torch.optim:NAdam", "lr": 0.1, "epps": 1}, "epps: unknown option; did you mean 'eps'"),
        ({"use": "torch.optim:NAdm", "lr": 0.1}, "has no 'NAdm'; did you mean 'NAdam'"),
        ({"use": "torch.optim:LBFGS", "lr": 0.1}, "'torch.optim:LBFGS' needs a closure at every step"),
        ({"use": "math:pi", "lr": 0.1}, "'math:pi' is a float, and no torch.optim.Optimizer"),
        ({"use": "nowhere.at.all:X", "lr": 0.1}, "there is no module 'nowhere.at.all'"),
        ({"name": "RMSprop", "alpha": 1.0}, "less than 1"),
    ],
)
def test_an_optimizer_that_cannot_be_is_told_before_anything_runs(section, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrialConfig.model_validate({"optimizer": section})


def test_what_makes_no_optimizer_is_told() -> None:
    settings = UsedOptimizer(use="types:SimpleNamespace", lr=0.1)
    with pytest.raises(ValueError, match=r"optimizer 'types:SimpleNamespace': TypeError|makes no torch"):
        optimizers.build(settings, [torch.nn.Parameter(torch.zeros(2))])


def test_rmsprop_is_torchs() -> None:
    settings = RMSprop(name="RMSprop", lr=0.02, alpha=0.9, momentum=0.5, centered=True, weight_decay=0.1)
    optimizer = optimizers.build(settings, [torch.nn.Parameter(torch.zeros(2))])
    assert type(optimizer) is torch.optim.RMSprop
    knobs = {"lr": 0.02, "alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.1}
    assert {name: optimizer.param_groups[0][name] for name in knobs} == knobs
