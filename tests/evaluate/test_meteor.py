"""METEOR has its published score, a timeout, and an answer for every text. All tests share one Java process."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r2gen.errors import UserError
from r2gen.evaluate import meteor as module
from r2gen.evaluate.meteor import Meteor
from r2gen.evaluate.meteor_formula import meteor_of_sums
from r2gen.evaluate.scores import UnavailableError

NORMAL = "the heart is normal in size . the lungs are clear ."


@pytest.fixture(scope="module")
def meteor() -> Iterator[Meteor]:
    metric = Meteor()
    yield metric
    metric.close()


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_coco_captions_have_their_published_score(meteor: Meteor, shared: Path) -> None:
    folder = shared / "metrics" / "coco_captions"
    captions: dict[str, Any] = json.loads((folder / "res.json").read_text(encoding="utf-8"))
    several: dict[str, Any] = json.loads((folder / "gts.json").read_text(encoding="utf-8"))
    references = [several[id] for id in captions]
    corpus, per_report, sums = meteor.score_references(references, [captions[id][0] for id in captions])
    published = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["expected"]["METEOR"]
    print(f"1,000 COCO captions: METEOR {corpus:.7f}, deviation {abs(corpus - published):.1e}")
    assert corpus == pytest.approx(published, abs=1e-6)
    assert len(per_report) == 1000
    scores = meteor_of_sums(np.array([*sums, np.sum(sums, axis=0)]))
    assert scores == pytest.approx([*per_report, corpus], abs=1e-12)


def test_a_report_equal_to_its_reference_scores_1_and_case_does_not_count(meteor: Meteor) -> None:
    scores = meteor({"a": NORMAL}, {"a": NORMAL.upper()})
    assert scores.corpus == {"meteor": 1.0}
    assert scores.signatures["meteor"]["tokenizer"] == "meteor-1.5"


@pytest.mark.parametrize(
    "unusual", ["", " ", "\n", "|||", "zzz", "\0", "\u200b", "\ud800", "EVAL ||| 1 2", "x\r\ny\x85z\u2028", "é ≥ 3"]
)
def test_an_unusual_report_scores_0_and_does_not_affect_others(unusual: str, meteor: Meteor) -> None:
    references = {"a": NORMAL, "b": "no effusion .", "c": NORMAL}
    scores = meteor(references, {"a": NORMAL, "b": unusual, "c": NORMAL})
    assert scores.per_report["meteor"] == {"a": 1.0, "b": 0.0, "c": 1.0}
    sums = np.array([scores.sums["meteor"][id] for id in "abc"])
    assert meteor_of_sums(sums) == pytest.approx([1, 0, 1])
    assert meteor_of_sums(sums.sum(axis=0, keepdims=True)) == pytest.approx(scores.corpus["meteor"], abs=1e-12)


def test_newlines_and_separators_are_spaces(meteor: Meteor) -> None:
    references = {"a": NORMAL, "b": "no\neffusion ||| ."}
    assert meteor(references, {"a": NORMAL.replace(" ", "\n"), "b": "no|||effusion\t."}).corpus == {"meteor": 1.0}


def test_long_reports_do_not_block_the_pipes(meteor: Meteor) -> None:
    long = {str(index): " ".join(f"word{word}" for word in range(300)) for index in range(200)}
    assert meteor(long, long).corpus["meteor"] == pytest.approx(1.0)


def test_different_ids_and_empty_references_are_refused(meteor: Meteor) -> None:
    with pytest.raises(UserError, match="Without a report: a"):
        meteor({"a": "x"}, {"b": "x"})
    with pytest.raises(UserError, match="reference without words: a"):
        meteor({"a": "\n"}, {"a": "x"})


def test_java_is_killed_after_the_timeout_which_the_message_names() -> None:
    metric = Meteor(timeout_s=0.2)
    java = metric._started()._process
    with pytest.raises(UnavailableError, match=r"did not answer within 0\.2 s.*metrics\.meteor\.timeout_s"):
        metric({"a": "x"}, {"a": "x"})
    assert java.returncode == -signal.SIGKILL


def test_the_error_output_of_a_java_that_stops_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_JAVA_FLAGS", (*module._JAVA_FLAGS, "-Xmx1k"))
    with pytest.raises(UserError, match=r"Java stopped after.*Too small maximum heap"):
        Meteor()({"a": "x"}, {"a": "x"})


@pytest.fixture
def without_paraphrases(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meteor]:
    """The same jar without its paraphrase table, which starts in half a second."""
    monkeypatch.setattr(module, "_OPTIONS", (*module._OPTIONS, "-m", "exact"))
    metric = Meteor(timeout_s=120.0)
    assert metric({"a": NORMAL}, {"a": NORMAL}).corpus == {"meteor": 1.0}
    yield metric
    metric.close()


def send_signal(metric: Meteor, number: int, *, after_s: float) -> threading.Timer:
    jar = metric._jar
    assert jar is not None
    timer = threading.Timer(after_s, os.kill, (jar._process.pid, number))
    timer.start()
    return timer


def test_a_killed_java_is_started_again(without_paraphrases: Meteor) -> None:
    texts = {str(study): f"{NORMAL} {study}" for study in range(4_000)}
    send_signal(without_paraphrases, signal.SIGKILL, after_s=0).join()
    assert without_paraphrases({"a": NORMAL}, {"a": NORMAL}).corpus == {"meteor": 1.0}
    jar = without_paraphrases._jar
    send_signal(without_paraphrases, signal.SIGKILL, after_s=0.2)  # while it answers
    scores = without_paraphrases(texts, texts)
    assert without_paraphrases._jar is not jar
    assert set(scores.per_report["meteor"].values()) == {1.0}


def test_a_java_that_hangs_is_killed_and_the_next_score_starts_another(without_paraphrases: Meteor) -> None:
    texts = {str(study): f"{NORMAL} {study}" for study in range(4_000)}
    without_paraphrases._jar._timeout_s = 1.0  # type: ignore[union-attr]
    pid = without_paraphrases._jar._process.pid  # type: ignore[union-attr]
    send_signal(without_paraphrases, signal.SIGSTOP, after_s=0.2)
    with pytest.raises(UnavailableError, match="did not answer within 1 s"):
        without_paraphrases(texts, texts)
    assert not running(pid)
    assert without_paraphrases({"a": NORMAL}, {"a": NORMAL}).corpus == {"meteor": 1.0}


def test_reports_are_scored_before_their_score_is_requested(without_paraphrases: Meteor) -> None:
    texts = {str(study): f"{NORMAL} {study}" for study in range(50)}
    without_paraphrases.start(texts | {"long": "x", "empty": " "}, texts | {"long": "x " * 3_000, "empty": "x"})
    thread = without_paraphrases._thread
    assert thread is not None
    thread.join()
    others = dict.fromkeys(texts, "clear .")
    equal = without_paraphrases(texts, texts).per_report["meteor"]
    assert without_paraphrases._thread is None  # nothing was left to ask
    assert without_paraphrases(texts, others).per_report["meteor"] != equal == dict.fromkeys(texts, 1.0)


def test_a_java_that_hangs_early_is_an_error_of_the_score(without_paraphrases: Meteor) -> None:
    without_paraphrases._jar._timeout_s = 1.0  # type: ignore[union-attr]
    pid = without_paraphrases._jar._process.pid  # type: ignore[union-attr]
    os.kill(pid, signal.SIGSTOP)
    without_paraphrases.start({"a": NORMAL}, {"a": "clear ."})
    with pytest.raises(UnavailableError, match=r"did not answer within 1 s.*metrics\.meteor\.timeout_s"):
        without_paraphrases({"a": NORMAL}, {"a": "clear ."})
    assert not running(pid)
    assert without_paraphrases({"a": NORMAL}, {"a": NORMAL}).corpus == {"meteor": 1.0}


def test_closing_ends_java_while_it_scores_and_starts_no_other(without_paraphrases: Meteor) -> None:
    texts = {str(study): f"{NORMAL} {study}" for study in range(20_000)}
    pid = without_paraphrases._jar._process.pid  # type: ignore[union-attr]
    without_paraphrases.start(texts, texts)
    without_paraphrases.close()
    assert not running(pid)
    assert without_paraphrases._jar is without_paraphrases._thread is None


def test_a_report_that_is_too_long_for_the_aligner_is_refused(without_paraphrases: Meteor) -> None:
    with pytest.raises(UserError, match=r'"the the the.*has 260,000 words, METEOR takes 2,000\. Lower generation'):
        without_paraphrases({"a": NORMAL}, {"a": "the " * 260_000})
    assert without_paraphrases({"a": NORMAL}, {"a": "x" * 2**20}).corpus == {"meteor": 0.0}


def test_words_of_other_scripts_match_by_their_characters(without_paraphrases: Meteor) -> None:
    texts = {"chinese": "双肺纹理 清晰 。", "cyrillic": "сердце в норме .", "arabic": "القلب طبيعي .", "emoji": "😀 ☃"}
    assert set(without_paraphrases(texts, texts).per_report["meteor"].values()) == {1.0}
    others = dict.fromkeys(texts, "no effusion")
    assert set(without_paraphrases(texts, others).per_report["meteor"].values()) == {0.0}


def test_java_ends_with_the_metric_even_if_it_hangs() -> None:
    jar = module._Jar(timeout_s=1)
    pid = jar._process.pid
    assert running(pid)
    os.kill(pid, signal.SIGSTOP)
    del jar
    assert not running(pid)
