"""The rehearsal before the first step: it changes nothing, and what would fail later fails there."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from small_model import STUDIES, dataset, report_generator

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.evaluate.chexbert import CheXbert
from r2gen.evaluate.nlg import Bleu
from r2gen.evaluate.scores import Scores
from r2gen.evaluate.split_scores import Scorer
from r2gen.model.report_generator import ReportGenerator
from r2gen.train.rehearsal import needing_most, rehearse
from r2gen.vision.batch_norm import moving_statistics


class Unscorable(Bleu):
    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        raise UserError("metrics.bleu: no Java")


def tried(model: ReportGenerator, *, profile: Decoding | None = None, **metrics: Any) -> str:
    return rehearse(
        model,
        dataset(),
        micro_batch_size=4,
        decoding=profile or Decoding(max_new_tokens=8),
        decoder="auto",
        scorer=Scorer(metrics=metrics or {"bleu": Bleu()}, best={"bleu_4": 1.0}),
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"max_new_tokens": 1},
        {"num_beams": 3, "min_new_tokens": 4, "no_repeat_ngram_size": 2},
        {"do_sample": True, "top_p": 0.9},
        {"penalty_alpha": 0.6, "top_k": 4},
    ],
)
def test_it_changes_nothing(profile: dict[str, Any]):
    model = report_generator(lm="lora", dropout=0.5, views="concat")
    model.vision.eval()  # a mode of its own, which is restored
    weights = {name: value.clone() for name, value in (*model.named_parameters(), *model.named_buffers())}
    before = state_of(model)
    line = tried(model, profile=Decoding(**{"max_new_tokens": 8, **profile}))
    assert all(torch.equal(value, weights[name]) for name, value in (*model.named_parameters(), *model.named_buffers()))
    assert state_of(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert "tried on 2 studies before the first step: loss, gradients, 2 generated tokens, bleu" in line


def test_statistics_of_batch_norm_that_move_are_as_before():
    model = report_generator(moving_batch_norm=True)
    before = {name: value.clone() for name, value in model.named_buffers()}
    assert moving_statistics(model)
    tried(model)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_a_model_that_cannot_generate_is_refused(monkeypatch: pytest.MonkeyPatch):
    def stream(*_: object) -> Iterator[None]:
        raise TypeError("forward() got an unexpected keyword argument 'inputs_embeds'")
        yield

    model = report_generator()
    monkeypatch.setattr(model, "stream", stream)
    with pytest.raises(UserError, match=r"cannot be used to generate with these options \(forward\(\) got"):
        tried(model)


def test_a_metric_that_cannot_score_is_refused():
    with pytest.raises(UserError, match=r"metrics\.bleu: no Java"):
        tried(report_generator(), bleu=Unscorable())


def test_a_metric_without_weights_is_named(capsys: pytest.CaptureFixture[str]):
    tried(report_generator(), bleu=Bleu(), chexbert=CheXbert())
    assert "chexbert will have no value: metrics.chexbert.path is null" in capsys.readouterr().out


def test_it_tries_the_studies_that_need_most():
    numbers = needing_most(dataset(), 3)
    assert len(STUDIES[numbers[0]].views) == max(len(study.views) for study in STUDIES)
    assert len(STUDIES[numbers[1]].report) == max(len(study.report) for study in STUDIES)
    assert numbers[2] == 0
    assert needing_most(dataset().first(2), 4) == [1, 0]


def state_of(model: ReportGenerator) -> list[object]:
    modes = [module.training for module in model.modules()]
    return [modes, torch.get_rng_state().tolist(), random.getstate()]
