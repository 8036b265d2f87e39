"""Training changes the parameters that `tune` names, and no bit of any other."""

import pytest
import torch
from small_model import batch, report_generator

from r2gen.errors import UserError
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import size_table, sizes
from r2gen.train.optim import adamw

VISION = {"shallow": "frozen", "delta": "lora", "deep": "full"}


def part_of(name: str) -> str:
    return next(part for part in ("vision.join", "vision", "projector", "lm") if name.startswith(part + "."))


def step(model: ReportGenerator) -> set[str]:
    """Make two optimiser steps; returns the names of the parameters that changed."""
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict(keep_vars=True).items()}
    optimizer = adamw(model, learning_rate=1e-2, betas=(0.9, 0.999), weight_decay=0.1)
    for _ in range(2):  # LoRA's A has no gradient until its B has left zero
        optimizer.zero_grad()
        model(batch(0, 1, 2)).backward()
        optimizer.step()
    after = model.state_dict(keep_vars=True)
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize("lm", ["frozen", "lora", "full"])
@pytest.mark.parametrize("tune", VISION)
def test_trainable_parameters_change_and_frozen_ones_keep_every_byte(tune: str, lm: str):
    model = report_generator(vision=VISION[tune], lm=lm, views="concat")
    free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    moved = step(model)
    assert moved <= free
    parts = (
        {"projector", "vision.join"}
        | ({"vision"} if tune != "shallow" else set())
        | ({"lm"} if lm != "frozen" else set())
    )
    assert {part_of(name) for name in moved} == {part_of(name) for name in free} == parts
    # What never moves has no gradient by the method: the norm of timm's head, and embeddings of absent tokens.
    still = {name for name in free - moved if "backbone.head.norm" not in name}
    assert not still, still
    if tune == "delta":
        assert all("lora_" in name for name in free if part_of(name) == "vision")
    if lm == "lora":
        assert all("lora_" in name for name in free if part_of(name) == "lm")


@pytest.mark.parametrize(("is_random", "trains"), [(True, True), (False, False)])
def test_auto_trains_a_random_language_model_and_freezes_a_loaded_one(is_random: bool, trains: bool):
    model = report_generator(lm="auto", lm_is_random=is_random)
    assert all(parameter.requires_grad == trains for parameter in model.lm.model.parameters())


def test_a_frozen_part_stays_in_eval():
    model = report_generator(vision="frozen", lm="frozen").eval().train()
    assert not any(module.training for module in [*model.vision.backbone.modules(), *model.lm.model.modules()])
    assert model.projector.training
    model = report_generator(vision="lora", lm="lora").eval().train()
    assert model.vision.backbone.training
    assert model.lm.model.training
    assert not any(module.training for module in model.eval().modules())


def test_a_frozen_part_has_no_dropout_and_a_trained_adapter_has():
    frozen, adapted = (
        report_generator(vision="frozen", lm="frozen"),
        report_generator(vision="lora", lm="lora", dropout=0.5),
    )
    step(adapted)
    assert frozen(batch(0, 1)) == frozen(batch(0, 1))
    assert adapted(batch(0, 1)) != adapted(batch(0, 1))
    adapted.eval()
    assert adapted(batch(0, 1)) == adapted(batch(0, 1))


def test_an_adapter_changes_nothing_before_it_is_trained():
    plain, adapted = report_generator(), report_generator(vision="lora", lm="lora")
    torch.testing.assert_close(adapted(batch(0, 1)), plain(batch(0, 1)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("targets", [("q_prj",), ("q_proj", "v_prj")])
def test_a_missing_lora_target_is_refused_by_name(targets: tuple[str, ...]):
    with pytest.raises(UserError, match=r"^lm\.lora_targets=.*v_prj|q_prj"):
        report_generator(lm="lora", lm_targets=targets)
    with pytest.raises(UserError, match=r"^vision\.lora_targets=.*v_prj|q_prj"):
        report_generator(vision="lora", vision_targets=targets)


def test_the_table_counts_total_and_trainable_parameters():
    model = report_generator(vision="frozen", lm="lora", views="concat")
    parts = {part.part: part for part in sizes(model)}
    assert list(parts) == ["vision", "projector", "lm", "model"]
    assert parts["vision"].trainable == 4 * 16  # embeddings of four view positions
    assert parts["projector"].trainable == parts["projector"].total == 16 * 32 + 32 + 2 * 32
    assert parts["lm"].trainable == 2 * 2 * (2 * 32 + 2 * 32)  # layers x targets x (A + B of rank 2)
    assert (
        parts["model"].total
        == sum(p.numel() for p in model.parameters())
        == sum(parts[p].total for p in list(parts)[:3])
    )
    assert parts["model"].trainable == sum(parts[p].trainable for p in list(parts)[:3])
    lines = size_table(sizes(model)).splitlines()
    assert len(lines) == 5
    assert f"{parts['model'].total:,}" in lines[4]
    assert "100.00%" in lines[2]
