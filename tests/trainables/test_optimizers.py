from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from trainables import optimizers
from trainables.config import SGD, Adam, AdamW, Constant, Cosine, Exponential, MultiStep, OptimizerConfig

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
    ours = [optimizers.learning_rate(0.3, schedule, epoch, EPOCHS) for epoch in range(1, EPOCHS + 1)]
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
