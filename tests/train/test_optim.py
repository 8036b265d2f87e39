"""The learning rate of each step, and which parameters are decayed."""

import math

import pytest
import torch
from torch import nn

from r2gen.train.optim import adamw, rate_at, set_rate


def rates(
    *,
    total: int = 10,
    warmup: int = 4,
    schedule: str = "cosine",
    peak: float = 1.0,
    floor: float = 0.1,
    epoch_steps: float = 1.0,
) -> list[float]:
    return [
        rate_at(step, total=total, peak=peak, floor=floor, warmup=warmup, schedule=schedule, epoch_steps=epoch_steps)
        for step in range(total)
    ]


def test_warm_up_is_linear_and_its_last_step_is_the_peak():
    assert rates()[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates(schedule="constant")[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_cosine_falls_from_the_peak_to_the_floor():
    values = rates(total=1004)
    assert values[504] == pytest.approx((1.0 + 0.1) / 2)
    assert values[4:] == sorted(values[4:], reverse=True)
    assert 0.1 <= values[-1] < 0.1001
    assert rates(warmup=0, total=4) == pytest.approx(
        [0.1 + 0.9 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    )


def test_cosine_per_epoch_has_one_rate_per_epoch():
    """Like torch's CosineAnnealingLR stepped once per epoch; an epoch of 2.5 steps begins with its first whole step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.1)
    expected = []
    for _ in range(4):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    values = rates(total=10, warmup=0, schedule="cosine_per_epoch", epoch_steps=2.5)
    assert values == pytest.approx([expected[epoch] for epoch in (0, 0, 0, 1, 1, 2, 2, 2, 3, 3)])


def test_a_constant_schedule_does_not_change():
    assert set(rates(schedule="constant", warmup=0)) == {1.0}
    assert set(rates(schedule="constant")[4:]) == {1.0}


def test_a_run_shorter_than_its_warm_up_never_reaches_the_peak():
    assert rates(total=3) == pytest.approx([0.25, 0.5, 0.75])


def test_matrices_are_decayed_and_vectors_and_frozen_parameters_are_not():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3))
    model[2].requires_grad_(False)
    optimizer = adamw(model, learning_rate=0.5, betas=(0.8, 0.9), weight_decay=0.3)
    decay = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert decay == {model[0].weight: 0.3, model[0].bias: 0.0, model[1].weight: 0.0, model[1].bias: 0.0}
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    set_rate(optimizer, 0.125)
    assert {group["lr"] for group in optimizer.param_groups} == {0.125}


def test_a_model_of_vectors_has_one_parameter_group():
    model = nn.ParameterList([nn.Parameter(torch.zeros(3))])
    assert len(adamw(model, learning_rate=0.1, betas=(0.9, 0.999), weight_decay=0.1).param_groups) == 1


def test_each_part_has_its_own_scale_of_the_learning_rate():
    model = nn.ModuleDict({"vision": nn.Linear(3, 3), "projector": nn.Linear(3, 3), "lm": nn.Linear(3, 3)})
    scales = {"vision": 0.1, "projector": 1.0, "lm": 0.0}
    optimizer = adamw(model, learning_rate=0.5, betas=(0.8, 0.9), weight_decay=0.3, scales=scales)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    set_rate(optimizer, 0.01)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    moved = {name: (parameter - before[name]).abs().mean().item() for name, parameter in model.named_parameters()}
    assert [moved[f"{part}.bias"] for part in model] == pytest.approx(
        [0.001, 0.01, 0], rel=1e-4
    )  # Adam's first step is the rate
    assert moved["lm.weight"] == 0  # nor is it decayed
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert [rates[model[part].weight] for part in model] == [0.001, 0.01, 0]


def test_weight_decay_on_all_is_that_of_torch():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    optimizer = adamw(model, learning_rate=0.1, betas=(0.9, 0.999), weight_decay=0.3, decay_all=True)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.3}
