"""A vocabulary of words: reports round-trip but for unknown words, which are counted and never generated."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from r2gen.config.decoding import Decoding
from r2gen.data.cleaning import clean_report
from r2gen.errors import UserError
from r2gen.lm import LanguageModel, random_lm, read_tokenizer, save_tokenizer
from r2gen.lm.protocol import DecoderName, DecodingPlan, Prompts
from r2gen.lm.words import train_words

REPORTS = [
    clean_report(report, "iu_xray")
    for report in [
        "The heart is normal in size. No effusion.",
        "The heart is large. The lungs are clear. No effusion, no pneumothorax.",
        "No acute <disease>. The lungs are clear.",
        "Heart size normal. XXXX-ray of the spine.",
    ]
]
TOKENIZER = train_words(REPORTS, 1000, 2)
WORDS = ["the", "heart", "is", "normal", "no", "effusion", ".", "lungs", "are", "clear", "size"]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def test_the_words_are_those_that_occur_often_enough(capsys: pytest.CaptureFixture[str]):
    assert {TOKENIZER.decode([i]) for i in range(4, TOKENIZER.vocabulary_size)} == set(WORDS)
    assert TOKENIZER.decode([4]) == "."  # the most frequent one
    train_words(["a b b c c"], 1000, 2)
    assert "vocabulary: 2 words; 1 of 5 in the training reports (20.00%) have no token" in capsys.readouterr().out
    assert train_words(["a b b c c"], 5, 1).vocabulary_size == 5  # the most frequent word, and of equals the first
    assert train_words(["a b b c c"], 5, 1).decode([4]) == "b"
    with pytest.raises(UserError, match=r"^lm\.vocabulary=words: no word .* lm\.min_count=3 times"):
        train_words(["a a b"], 1000, 3)


def test_a_cleaned_report_round_trips_exactly_but_for_unknown_words():
    assert TOKENIZER.decode(TOKENIZER.encode(REPORTS[1])) == REPORTS[1].replace(" large", "").replace(
        " pneumothorax", ""
    )
    every = train_words(REPORTS, 1000, 1)
    assert [every.decode(every.encode(report)) for report in REPORTS] == REPORTS


@given(st.lists(st.sampled_from([*WORDS, "</s>", "<s>", "<pad>", "<unk>", "heart</s>", "é", "Heart"])))
def test_any_text_round_trips_but_for_unknown_words_and_contains_no_special_token(words: list[str]):
    ids = TOKENIZER.encode("  ".join(words))
    assert TOKENIZER.decode(ids).split() == [word for word in words if word in WORDS]
    assert len(ids) == len(words)
    assert not {0, 1, 2} & set(ids)


def test_a_saved_tokenizer_is_read_back_the_same(tmp_path: Path):
    save_tokenizer(TOKENIZER, tmp_path)
    read = read_tokenizer(tmp_path)
    assert (read.bos_id, read.eos_ids, read.pad_id, read.never_ids) == (1, (2,), 0, (3,))
    assert read.vocabulary_size == TOKENIZER.vocabulary_size == 4 + len(WORDS)
    assert read.encode("the heart </s> glows .") == TOKENIZER.encode("the heart </s> glows .")


@pytest.fixture
def lm() -> LanguageModel:
    """A model with tied embeddings that would write <unk> more often than anything else."""
    lm = random_lm(tokenizer=TOKENIZER, seed=1, tie_word_embeddings=True, **SHAPE)
    with torch.no_grad():
        for parameter in lm.model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10)
        lm.model.get_output_embeddings().weight[3].mul_(5)
    return lm


@pytest.mark.parametrize("decoder", ["tree", "transformers"])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(max_new_tokens=9),
        Decoding(max_new_tokens=9, num_beams=3),
        Decoding(max_new_tokens=9, do_sample=True, top_k=5, seed=3),
    ],
    ids=["greedy", "beam3", "sampled"],
)
def test_the_unknown_token_is_never_generated(lm: LanguageModel, decoder: DecoderName, decoding: Decoding):
    def generated() -> list[tuple[int, ...]]:
        prompts = Prompts(
            [str(i) for i in range(8)], torch.ones(8, 5, 32).cumsum(0), torch.ones(8, 5, dtype=torch.bool)
        )
        return [report.ids for _, report in lm.stream([prompts], decoding, DecodingPlan(slots=8, decoder=decoder))]

    assert not any(3 in ids for ids in generated())
    lm.tokenizer.never_ids, before = (), lm.tokenizer.never_ids
    try:
        assert any(3 in ids for ids in generated())
    finally:
        lm.tokenizer.never_ids = before


def test_contrastive_search_never_generates_it_either(lm: LanguageModel):
    decoding = Decoding(max_new_tokens=9, penalty_alpha=0.5, top_k=4)
    reports = lm.generate(torch.ones(2, 5, 32), torch.ones(2, 5, dtype=torch.bool), decoding)
    assert not any(3 in report.ids for report in reports)


def test_tied_embeddings_are_one_matrix_and_the_tree_decodes_them(lm: LanguageModel):
    assert lm.model.get_output_embeddings().weight is lm.model.get_input_embeddings().weight
    assert lm.decoder_for(Decoding(max_new_tokens=9)) == "tree"
