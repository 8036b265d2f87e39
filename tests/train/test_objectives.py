"""Objectives: their gradients do not depend on how a step is divided, and each does what its name says."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_engine import equal, start_small_engine
from small_model import STUDIES, batch, dataset, report_generator

from r2gen.data.collate import Batch
from r2gen.errors import UserError
from r2gen.model.findings_prompt import FindingsPrompt, pooled
from r2gen.model.report_generator import ReportGenerator
from r2gen.train.checkpoint import Checkpoints, TrainState, load_best
from r2gen.train.engine import trainable_tensors
from r2gen.train.objectives.align import Alignment, alignment_scores
from r2gen.train.objectives.findings import CLASSES, FindingsLoss, labels_of
from r2gen.train.objectives.objective import Objective, ReportLoss, Step, TrainingParts
from r2gen.train.objectives.scst import SelfCritical
from r2gen.train.start import load_start

pytestmark = pytest.mark.usefixtures("world")
STEP = (*range(4), *range(8, 12))  # studies, with reports of several lengths


def prepared(objective: Objective, **options: Any) -> ReportGenerator:
    model = report_generator(**options)
    objective.prepare(TrainingParts(model=model, studies=STUDIES, seed=3, max_new_tokens=6, keeps_slots=False))
    return model


def gradients(
    objective: Objective, model: ReportGenerator, windows: Sequence[Sequence[Batch]], *, number: int = 0
) -> dict[str, torch.Tensor]:
    """The gradient of a step whose micro-batches are divided like this among ranks."""
    model.zero_grad()
    tokens = torch.tensor(float(sum(each.target_tokens for window in windows for each in window)))
    studies = sum(len(each.ids) for window in windows for each in window)
    for window in windows:
        losses = objective.losses(model, window, Step(number, tokens, studies))
        for each, loss in zip(window, losses, strict=True):
            (model(each, loss) / tokens).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "objective",
    [
        ReportLoss(),
        FindingsLoss(weight=2.0),
        FindingsLoss(weight=2.0, most_weight=1.0, threshold=0.3),
        SelfCritical(),
        SelfCritical(baseline="samples", samples=3, bleu_4=0.5, cross_entropy=0.0),
    ],
    ids=["report", "findings", "findings_prompt", "scst", "scst-samples"],
)
def test_accumulation_gives_the_gradient_of_one_large_batch(objective: Objective):
    model = prepared(objective, lively=True, findings=getattr(objective, "option", "") == "findings_prompt")
    whole = gradients(objective, model, [[batch(*STEP)]])
    divided = gradients(objective, model, [[batch(*STEP[:2]), batch(*STEP[2:5]), batch(*STEP[5:])]])
    assert any(gradient.abs().max() > 0 for gradient in whole.values())
    for name, gradient in whole.items():
        assert torch.allclose(gradient, divided[name], rtol=1e-3, atol=2e-6), name


def test_findings_are_those_of_the_labeler_and_rare_ones_count_more():
    objective = FindingsLoss(most_weight=4.0)
    prepared(objective)
    labels_SC = labels_of(STUDIES)
    effusion = ["effusion" in study.report for study in STUDIES]
    assert labels_SC[:, CLASSES.index("Pleural Effusion")].tolist() == effusion
    assert set(objective.labels) == {study.id for study in STUDIES}
    assert (objective.positive_C >= 1).all()
    assert (objective.positive_C <= 4).all()
    assert len(objective.labels["study-0"]) == len(objective.positive_C) == sum(labels_SC.any(0) & ~labels_SC.all(0))


def test_the_loss_on_findings_reaches_the_encoder_and_trains_its_head():
    objective = FindingsLoss()
    model = prepared(objective, lm="frozen")
    plain = gradients(ReportLoss(), model, [[batch(*STEP)]])
    both = gradients(objective, model, [[batch(*STEP)]])
    assert "head.weight" in both
    assert "head.weight" not in plain
    assert torch.allclose(plain["projector.linear.weight"], both["projector.linear.weight"], atol=1e-6)
    assert not torch.allclose(plain["vision.backbone.stem.0.weight"], both["vision.backbone.stem.0.weight"], atol=1e-6)
    assert objective.figures()["findings_loss"] > 0


def test_the_prompt_has_the_findings_of_the_report_in_training_and_those_predicted_otherwise():
    objective = FindingsLoss(weight=0.5, most_weight=1.0, threshold=0.3)
    model, plain, studies = prepared(objective, findings=True).eval(), report_generator().eval(), batch(*STEP)
    assert model.findings is not None
    stated_BC = torch.stack([objective.labels[id] for id in studies.ids]).bool()
    features_BQD, real_BQ = model.encode(studies)
    prompt_BTE, mask_BT = model.prompt(features_BQD, real_BQ, None, stated_BC)
    without_BTE, _ = plain.wrap(studies)
    states_BCE = prompt_BTE[:, -1 - len(CLASSES) : -1]
    for study, stated_C in enumerate(stated_BC.tolist()):
        for finding, stated in enumerate(stated_C):
            assert torch.equal(states_BCE[study, finding], model.findings.states[int(stated), finding])
    others_BTE = torch.cat([prompt_BTE[:, : -1 - len(CLASSES)], prompt_BTE[:, -1:]], dim=1)
    assert torch.equal(others_BTE, without_BTE)
    assert mask_BT[:, -1 - len(CLASSES) :].all()
    expected = model.report_loss(prompt_BTE, mask_BT, studies)
    logits_BC = model.findings.predict(pooled(features_BQD, real_BQ))
    expected += 0.5 * torch.nn.functional.binary_cross_entropy_with_logits(logits_BC, stated_BC.float()) * len(STEP)
    (loss,) = objective.losses(model, [studies], Step(0, torch.tensor(float(len(STEP))), len(STEP)))
    assert torch.allclose(model(studies, loss), expected)
    assert objective.figures()["findings_loss"] > 0

    with torch.no_grad():
        model.findings.predict.weight.zero_()
        model.findings.predict.bias.fill_(-2.0)
        model.findings.predict.bias[[0, 3]] = torch.logit(torch.tensor(0.301))
        model.findings.predict.bias[4] = torch.logit(torch.tensor(0.299))
    predicted_BCE = model.wrap(studies)[0][:, -1 - len(CLASSES) : -1]
    present = [finding in (0, 3) for finding in range(len(CLASSES))]
    assert torch.equal(predicted_BCE[0], model.findings.states[[int(state) for state in present], range(len(CLASSES))])
    assert torch.equal(predicted_BCE, predicted_BCE[:1].expand_as(predicted_BCE))


def test_findings_in_the_prompt_are_stored_with_the_generator(tmp_path: Path):
    model = prepared(FindingsLoss(threshold=0.3), findings=True)
    checkpoints, state = Checkpoints(tmp_path, keep=1), TrainState(step=1)
    checkpoints.save(start_small_engine(model, batch_size=4, micro_batch_size=4), state)
    checkpoints.record(state, is_best=True)
    other = report_generator(findings=True)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    load_best(other, tmp_path)
    assert equal(dict(other.named_parameters()), dict(model.named_parameters()))
    with pytest.raises(UserError, match=r"trainer\.start=.*findings"):
        load_start(report_generator(), str(tmp_path))


def test_self_critical_training_has_the_gradient_of_reinforce():
    """Advantage times the gradient of the log-likelihood of each sample, over the number of sampled tokens.

    The advantages of a step have the mean 0.
    """
    objective = SelfCritical(cross_entropy=0.0)
    model = prepared(objective, lively=True)
    own = gradients(objective, model, [[batch(*STEP)]], number=5)
    sampled, greedy = objective._write(model, [batch(*STEP)], 5)
    assert greedy is not None
    ids = batch(*STEP).ids
    advantages = [
        r - b
        for r, b in zip(
            objective.reward(ids, [report.text for report in sampled[0]]),
            objective.reward(ids, [report.text for report in greedy]),
            strict=True,
        )
    ]
    assert len(set(advantages)) > 1
    advantages = [advantage - statistics.fmean(advantages) for advantage in advantages]
    targets = [objective._target(report) for report in sampled[0]]
    model.zero_grad()
    for index, (target, advantage) in enumerate(zip(targets, advantages, strict=True)):
        nats_B = model.lm.loss(*model.wrap(batch(STEP[index])), torch.tensor([target]))
        (advantage * nats_B.sum() / sum(map(len, targets))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.allclose(own[name], parameter.grad, rtol=1e-3, atol=2e-6), name


def test_a_sample_depends_on_the_step_and_the_study_and_not_on_the_batch():
    objective = SelfCritical(baseline="samples", samples=2)
    model = prepared(objective, lively=True)

    def texts(step: int, *windows: Batch) -> list[list[str]]:
        sampled, greedy = objective._write(model, windows, step)
        assert greedy is None
        return [[report.text for report in reports] for reports in sampled]

    together = texts(1, batch(*STEP))
    assert texts(1, batch(*STEP[:3]), batch(*STEP[3:])) == together
    assert texts(2, batch(*STEP)) != together
    assert together[0] != together[1], "two samples of a study differ"
    assert model.training, "the modes are restored"


def test_options_that_cannot_be_used_are_refused():
    with pytest.raises(UserError, match=r"objective\.baseline=samples"):
        SelfCritical(baseline="samples")
    with pytest.raises(UserError, match="all 0"):
        SelfCritical(cider=0, findings=0)
    with pytest.raises(UserError, match=r"objective\.weight=-1"):
        FindingsLoss(weight=-1)
    with pytest.raises(UserError, match=r"objective\.threshold=1: give a probability between 0 and 1"):
        FindingsPrompt(dim=4, lm_dim=4, findings=2, threshold=1)


def test_alignment_trains_the_encoder_alone_to_find_the_report_of_an_image():
    objective = Alignment(width=16)
    model = prepared(objective)
    optimizer = torch.optim.AdamW([*model.vision.parameters(), *model.head.parameters()], lr=3e-3)  # type: ignore[union-attr]
    before = alignment_scores(model, dataset(), batch_size=8, workers=0, device=torch.device("cpu"))
    for number in range(30):
        own = gradients(objective, model, [[batch(*range(8 * (number % 3), 8 * (number % 3) + 8))]])
        optimizer.step()
    assert not any(name.startswith(("lm.", "projector.")) for name in own)
    after = alignment_scores(model, dataset(), batch_size=8, workers=0, device=torch.device("cpu"))
    assert after["align_loss"] < before["align_loss"] - 0.3
    assert after["align_accuracy"] > before["align_accuracy"]


def test_a_checkpoint_with_a_head_is_read_with_and_without_it(tmp_path: Path):
    """The generator alone has no head; another run starts from its weights."""
    model = prepared(FindingsLoss())
    engine = start_small_engine(model, batch_size=4, micro_batch_size=4)
    checkpoints = Checkpoints(tmp_path, keep=1)
    state = TrainState(step=1)
    checkpoints.save(engine, state)
    checkpoints.record(state, is_best=True)
    tensors = trainable_tensors(engine)
    assert "head.weight" in tensors
    plain = report_generator()
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    load_best(plain, tmp_path)
    generator = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    assert equal(dict(plain.named_parameters()), generator)
    assert "keep their initial weights" not in load_start(report_generator(), str(tmp_path))
    with pytest.raises(UserError, match=r"trained vision\.backbone.* which are frozen here"):
        load_start(report_generator(vision="frozen"), str(tmp_path))


def test_a_head_of_its_own_does_not_start_from_tied_embeddings(tmp_path: Path):
    checkpoints, state = Checkpoints(tmp_path, keep=1), TrainState(step=1)
    checkpoints.save(start_small_engine(report_generator(tied=True), batch_size=4, micro_batch_size=4), state)
    checkpoints.record(state, is_best=True)
    load_start(report_generator(tied=True), str(tmp_path))
    with pytest.raises(UserError, match=r"tied the output head.* lm\.architecture\.tie_word_embeddings=true"):
        load_start(report_generator(), str(tmp_path))


def test_weights_of_another_model_cannot_be_the_start(tmp_path: Path):
    folder = tmp_path / "checkpoints" / "step-00000001"
    folder.mkdir(parents=True)
    save_file({"projector.linear.weight": torch.zeros(2, 2)}, folder / "trainable.safetensors")
    (tmp_path / "checkpoints" / "best").symlink_to(folder.name)
    with pytest.raises(UserError, match=r"trainer\.start=.*projector\.linear\.weight has the shape \[2, 2\]"):
        load_start(report_generator(), str(tmp_path))
