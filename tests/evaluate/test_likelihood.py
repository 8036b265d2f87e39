"""The likelihood of references equals a direct computation, and compares models with different tokenizers."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_model import SENTENCES, STUDIES, TOKENIZER, batch, dataset, image, report_generator

from r2gen.data.collate import Batch
from r2gen.data.dataset import StudyDataset
from r2gen.evaluate.likelihood import Likelihood, likelihood, sample
from r2gen.evaluate.metrics_writer import MetricsWriter
from r2gen.evaluate.predictions import Header
from r2gen.evaluate.scores import Scores
from r2gen.evaluate.tables import likelihood_line
from r2gen.lm import random_lm, train_tokenizer
from r2gen.model.projector import LinearProjector
from r2gen.model.report_generator import ReportGenerator

CPU = torch.device("cpu")
REPORTS = [study.report for study in STUDIES]


@torch.no_grad()
def nats_of_study(model: ReportGenerator, index: int) -> float:
    """The nats of one study's report, token by token in float64, from all logits of a batch of one."""
    prompt_BTE, _ = model.wrap(batch(index))
    ids = [*TOKENIZER.encode(REPORTS[index]), TOKENIZER.eos_id]
    embeds_BSE = torch.cat([prompt_BTE, model.lm.embed(torch.tensor([ids]))], dim=1)
    log_probabilities_SV = model.lm.model(inputs_embeds=embeds_BSE).logits[0].double().log_softmax(dim=-1)
    first = prompt_BTE.shape[1] - 1
    return -sum(float(log_probabilities_SV[first + position, token]) for position, token in enumerate(ids))


def test_the_sum_equals_a_direct_computation_for_every_batch_size() -> None:
    model = report_generator(lively=True).eval()
    expected = sum(nats_of_study(model, index) for index in range(len(STUDIES)))
    for batch_size in (1, 5, 24):
        sums = likelihood(model, dataset(), batch_size=batch_size, workers=0, device=CPU)
        assert sums.nats == pytest.approx(expected, rel=1e-6)
        assert sums == replace(
            sums,
            characters=sum(map(len, REPORTS)),
            words=sum(len(r.split()) for r in REPORTS),
            tokens=sum(len(TOKENIZER.encode(r)) + 1 for r in REPORTS),
            altered=0,
        )
    entry = sums.entry()
    assert entry["perplexity_per_token"] == pytest.approx(math.exp(expected / sums.tokens))
    assert entry["perplexity_per_word"] == pytest.approx(math.exp(expected / sums.words))
    assert 2 ** entry["bits_per_character"] == pytest.approx(entry["perplexity_per_character"])


def test_bits_per_character_compare_models_with_different_tokenizers() -> None:
    """Each model finds all tokens equally likely, so its perplexity per token is the size of its vocabulary."""
    entries = []
    for tokenizer in (train_tokenizer(REPORTS, 260), train_tokenizer(REPORTS + SENTENCES, 300)):
        llama = random_lm(
            tokenizer=tokenizer,
            seed=1,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
        with torch.no_grad():
            llama.model.get_output_embeddings().weight.zero_()
        encoder = report_generator().vision
        model = ReportGenerator(
            vision=encoder, projector=LinearProjector(in_dim=encoder.dim, out_dim=32), lm=llama, before=[1], after=[]
        )

        def encode(report: str, tokenizer: object = tokenizer) -> list[int]:
            return [*tokenizer.encode(report), tokenizer.eos_id]  # type: ignore[attr-defined]

        studies = StudyDataset(STUDIES, image=image, encode=encode)
        entry = likelihood(model, studies, batch_size=8, workers=0, device=CPU).entry()
        assert entry["perplexity_per_token"] == pytest.approx(tokenizer.vocabulary_size, rel=1e-6)
        nats = entry["tokens"] * math.log(tokenizer.vocabulary_size)
        assert entry["bits_per_character"] == pytest.approx(nats / math.log(2) / sum(map(len, REPORTS)), rel=1e-6)
        entries.append(entry)
    fine, coarse = entries
    assert (fine["characters"], fine["words"]) == (coarse["characters"], coarse["words"])
    assert fine["tokens"] > 1.5 * coarse["tokens"]
    assert fine["perplexity_per_token"] < coarse["perplexity_per_token"]  # perplexities per token do not compare
    assert fine["bits_per_character"] > 1.5 * coarse["bits_per_character"]


class UnlikelyModel:
    """A model whose tokenizer alters some texts, and whose perplexity overflows."""

    def eval(self) -> object:
        return self

    def nats(self, batch: Batch) -> torch.Tensor:
        return torch.full((len(batch.ids),), 1e6)

    def keeps(self, text: str) -> bool:
        return "lungs" not in text


def test_altered_texts_and_overflowing_perplexities_are_shown() -> None:
    sums = likelihood(UnlikelyModel(), dataset(), batch_size=8, workers=0, device=CPU)
    assert sums.altered == sum("lungs" in report for report in REPORTS)
    entry = sums.entry()
    assert entry["perplexity_per_token"] is None
    assert "above 1e304 per token" in likelihood_line(entry, of=entry["studies"])
    assert f"the tokenizer alters {sums.altered} of them" in likelihood_line(entry, of=entry["studies"])
    assert likelihood_line(None, of=3) == ""


def test_the_line_below_a_table_has_perplexities_and_bits() -> None:
    entry = Likelihood(studies=24, nats=100.0, tokens=50, characters=200, words=40, altered=0).entry()
    assert likelihood_line(entry, of=entry["studies"]) == (
        "\nreferences: perplexity 7.389 per token, 1.649 per character, 12.18 per word; 0.721 bits per character"
    )
    assert likelihood_line(entry, of=3858).startswith(
        "\nreferences of 24 of 3,858 studies (evaluate.likelihood_studies): perplexity 7.389 per token"
    )
    before = {name: value for name, value in entry.items() if name != "studies"}  # an entry of an earlier version
    assert likelihood_line(before, of=3858) == likelihood_line(entry, of=24)


def test_a_large_split_is_sampled_by_the_ids_of_its_studies() -> None:
    chosen = sample(STUDIES, 7)
    assert len(chosen) == 7
    assert chosen == [study for study in STUDIES if study in chosen]  # in the order of the split
    assert {study.id for study in sample(STUDIES[::-1], 7)} == {study.id for study in chosen}
    assert {study.id for study in sample(STUDIES, 5)} < {study.id for study in chosen}
    assert sample(STUDIES, len(STUDIES)) == sample(STUDIES, None) == list(STUDIES)
    sums = likelihood(report_generator(lively=True), dataset().of(chosen), batch_size=4, workers=0, device=CPU)
    assert (sums.studies, sums.words) == (7, sum(len(study.report.split()) for study in chosen))


def test_a_stored_likelihood_of_other_studies_is_computed_again(tmp_path: Path) -> None:
    made_by: Header = {"checkpoint": "1"}
    writer = MetricsWriter(tmp_path / "metrics.json", "greedy", {}, [], [])
    entry = Likelihood(studies=24, nats=100.0, tokens=50, characters=200, words=40, altered=0).entry()
    written = {"studies": 24, "systems": {"model": {}}, "likelihood": entry, "per_report": {}}
    writer.write({"val": written}, made_by=made_by, scores=Scores(corpus={}))
    assert writer.stored_likelihood("val", made_by=made_by, studies=24) == entry
    assert writer.stored_likelihood("val", made_by=made_by, studies=7) is None
    assert writer.stored_likelihood("test", made_by=made_by, studies=24) is None
    assert writer.stored_likelihood("val", made_by={"checkpoint": "2"}, studies=24) is None
