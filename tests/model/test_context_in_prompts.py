"""Prompts with a context: the loss and the report of a study depend on it, and not on the batch and on padding."""

from dataclasses import replace
from typing import Any, Literal, cast

import pytest
import torch
from small_model import CONTEXT, STUDIES_IN_CONTEXT, TOKENIZER, batch, dataset, report_generator
from transformers import T5Config, T5ForConditionalGeneration

from r2gen.config.decoding import Decoding
from r2gen.data.collate import Batch, collate
from r2gen.data.reports import Prior, Study
from r2gen.lm.protocol import DecoderName, DecodingPlan, Generated
from r2gen.lm.seq2seq import Seq2SeqLM
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import sizes
from r2gen.vision.feature_cache import FeatureCache

EIGHT = list(range(1, 9))  # with and without indication, prior study and images of it
BEAMS = Decoding(max_new_tokens=12, num_beams=3, repetition_penalty=2.0)


def t5() -> Seq2SeqLM:
    """A T5 with random weights that are large enough for reports to differ."""
    torch.manual_seed(1)
    config = T5Config(
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_heads=4,
        num_layers=2,
        vocab_size=TOKENIZER.vocabulary_size,
        decoder_start_token_id=0,
        eos_token_id=TOKENIZER.eos_id,
        pad_token_id=0,
    )
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return Seq2SeqLM(model, TOKENIZER)


def made(views: Literal["mean", "concat"], *, encodes: bool = False) -> ReportGenerator:
    model = report_generator(views=views, lively=True, context=True)
    if encodes:
        model.lm = cast(Any, t5())
    return model.eval()


@pytest.fixture(scope="module", params=["mean", "concat", "t5"])
def model(request: pytest.FixtureRequest) -> ReportGenerator:
    return made("mean") if request.param == "mean" else made("concat", encodes=request.param == "t5")


def several(*indices: int) -> Batch:
    return batch(*indices, context=CONTEXT)


def changed(**values: Any) -> Batch:
    """Study 1, which has an indication, a prior with one image, and one image; with other values."""
    study = replace(STUDIES_IN_CONTEXT[1], **values)
    studies = dataset(context=CONTEXT)
    studies.studies = [study]
    return collate([studies[0]])


@torch.no_grad()
def test_the_loss_of_a_batch_is_the_sum_over_its_studies(model: ReportGenerator):
    alone = torch.stack([model(several(index)) for index in EIGHT])
    torch.testing.assert_close(model(several(*EIGHT)), alone.sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(model(several(*reversed(EIGHT))), alone.sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(model(several(3, 6, 9)), sum(model(several(i)) for i in (3, 6, 9)), rtol=1e-5, atol=0)


def reports(model: ReportGenerator, *batches: list[int], decoder: DecoderName = "auto") -> dict[str, Generated]:
    plan = DecodingPlan(slots=3, decoder=decoder)
    return dict(model.stream([several(*indices) for indices in batches], BEAMS, plan))


def test_a_report_does_not_depend_on_its_batch(model: ReportGenerator):
    alone = reports(model, *([index] for index in EIGHT))
    assert len({report.text for report in alone.values()}) > 4  # otherwise this test would be trivial
    assert reports(model, EIGHT) == alone
    assert reports(model, [3, 6], [8, 1, 4, 2, 7, 5]) == alone  # without and with images of priors


def test_a_tree_and_transformers_write_the_same_reports():
    model = made("concat")
    assert reports(model, EIGHT, decoder="tree") == reports(model, EIGHT, decoder="transformers")


def test_packed_rows_have_the_same_loss():
    model = made("mean")
    losses = []
    for model.lm.packs in (False, True):  # type: ignore[attr-defined]
        model.zero_grad()
        loss = model(several(*EIGHT))
        loss.backward()
        assert model.vision.embedding is not None
        gradient = model.vision.embedding.rows.weight.grad
        assert gradient is not None
        losses.append((loss.detach(), gradient.clone()))
    torch.testing.assert_close(losses[0][0], losses[1][0], rtol=1e-5, atol=0)
    torch.testing.assert_close(losses[0][1], losses[1][1], rtol=1e-3, atol=1e-4)


PRIOR = STUDIES_IN_CONTEXT[1].prior
OTHERS: dict[str, dict[str, Any]] = {
    "age": {"age": 90.0},
    "indication": {"indication": None},
    "position": {"positions": ("LATERAL",)},
    "no prior": {"prior": None},
    "image of the prior": {"prior": replace(cast(Any, PRIOR), views=("another",))},
    "images of the prior": {"prior": replace(cast(Any, PRIOR), views=("another", "third"), positions=())},
    "days": {"prior": replace(cast(Any, PRIOR), days=1000)},
    "report of the prior": {"prior": replace(cast(Any, PRIOR), report="The heart is large.")},
}


@torch.no_grad()
@pytest.mark.parametrize("name", OTHERS)
def test_the_loss_depends_on_each_input(model: ReportGenerator, name: str):
    assert not torch.isclose(model(changed()), model(changed(**OTHERS[name])), rtol=1e-6)


@torch.no_grad()
def test_the_prompt_has_text_and_images_in_their_order():
    model = made("mean")
    [embeds_TE], [mask_T] = model.wrap(changed())
    features = model.vision.num_tokens

    def ids(text: str) -> list[int]:
        return TOKENIZER.encode(text)

    before = [1, *ids("Age: 41 "), *ids(f"Why: {STUDIES_IN_CONTEXT[1].indication} "), *ids("Before: ")]
    after = [*ids(" "), *ids("Days: 2 "), *ids("No prior report. "), 5, 6]  # 1.5 days are rounded to an even number
    expected = [*before, *[None] * features, *after, *[None] * features, 7]
    assert mask_T.all()
    assert len(embeds_TE) == len(expected)
    table = model.lm.embed(torch.arange(TOKENIZER.vocabulary_size))
    for position, i in enumerate(expected):
        assert (embeds_TE[position] == table).all(dim=1).any() == (i is not None)
        if i is not None:
            assert torch.equal(embeds_TE[position], table[i])


def test_a_batch_without_priors_runs_the_same_modules():
    """Under ZeRO 3 each call of a module is a collective operation."""
    model, calls = made("concat"), list[str]()
    for name, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(several(0, 3))  # no prior, and one without views
    without, calls[:] = list(calls), []
    model(several(1, 2))
    assert calls == without
    assert "vision.embedding.rows" in calls


def test_the_embedding_trains_with_a_frozen_encoder_and_is_stored():
    model = report_generator(vision="frozen", lm="frozen", context=True)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {
        "vision.embedding.rows.weight",
        *(f"projector.{name}" for name, _ in model.projector.named_parameters()),
    }  # type: ignore[attr-defined]
    assert model.vision.embedding is not None
    assert not model.vision.embedding.rows.weight.any()  # a run with context starts as one without
    assert sizes(model)[0].trainable == model.vision.embedding.rows.weight.numel()
    model(several(*EIGHT)).backward()
    assert model.vision.embedding.rows.weight.grad is not None
    used = model.vision.embedding.rows.weight.grad.any(dim=1)
    assert used.sum() == 6  # no position, PA, LATERAL; the study itself, 7 to 30 days, unknown days


def test_features_of_a_study_and_of_its_prior_are_cached_apart():
    model = report_generator(vision="frozen", lively=True, context=True)
    expected = model(several(*EIGHT))
    model.vision.cache = FeatureCache(64)
    for _ in range(2):
        torch.testing.assert_close(model(several(*EIGHT)), expected, rtol=1e-6, atol=0)
    reordered = model(several(*reversed(EIGHT)))
    torch.testing.assert_close(reordered, expected, rtol=1e-5, atol=0)


def test_a_tiny_model_can_memorise_what_only_the_context_tells():
    """The same image throughout: the reports differ by the indication, the image of the prior, and its age."""
    prior = Prior(id="p", views=("old",), days=3.0)
    image = Study(id="plain", views=("same",), report="The lungs are clear.")
    studies = dataset(context=CONTEXT)
    studies.studies = [
        image,
        replace(image, id="why", indication="Cough.", report="No pneumothorax is seen."),
        replace(image, id="prior", prior=prior, report="The heart is large."),
        replace(image, id="other", prior=replace(prior, views=("other",)), report="The heart is normal in size."),
        replace(image, id="old", prior=replace(prior, days=400.0), report="There is a small left effusion."),
    ]
    model = report_generator(context=True)
    every = collate([studies[number] for number in range(5)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss = model(every) / every.target_tokens
        loss.backward()
        optimizer.step()
    written = model.eval().generate(every, Decoding(max_new_tokens=60))
    assert [report.text for report in written] == [study.report for study in studies.studies]
