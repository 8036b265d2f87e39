"""METEOR gives its published score, waits no longer than it may, and survives every text. One Java serves all tests."""

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
from r2gen.evaluate.meteor import Meteor, meteor_of_sums

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # Java reads its table of paraphrases for 8 s, once for all tests here
NORMAL = "the heart is normal in size . the lungs are clear ."


@pytest.fixture(scope="module")
def meteor() -> Iterator[Meteor]:
    metric = Meteor()
    yield metric
    metric.close()


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_coco_captions_have_their_published_score(meteor: Meteor) -> None:
    folder = Path(os.environ.get("R2GEN_SHARED", REPOSITORY.parent / "shared")) / "metrics/coco_captions"
    if not folder.is_dir():
        pytest.skip("needs $R2GEN_SHARED")
    captions: dict[str, Any] = json.loads((folder / "res.json").read_text(encoding="utf-8"))
    several: dict[str, Any] = json.loads((folder / "gts.json").read_text(encoding="utf-8"))
    references = [several[id] for id in captions]
    corpus, per_report, sums = meteor.score_references(references, [captions[id][0] for id in captions])
    published = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["expected"]["METEOR"]
    print(f"1,000 COCO captions: METEOR {corpus:.7f}, deviation {abs(corpus - published):.1e}")
    assert corpus == pytest.approx(published, abs=1e-6)
    assert len(per_report) == 1000
    ours = meteor_of_sums(np.array([*sums, np.sum(sums, axis=0)]))
    assert ours == pytest.approx([*per_report, corpus], abs=1e-12)


def test_a_report_equal_to_its_reference_scores_1_and_case_does_not_count(meteor: Meteor) -> None:
    scores = meteor({"a": NORMAL}, {"a": NORMAL.upper()})
    assert scores.corpus == {"meteor": 1.0}
    assert scores.signatures["meteor"]["tokenizer"] == "meteor-1.5"


@pytest.mark.parametrize(
    "awkward", ["", " ", "\n", "|||", "zzz", "\0", "\u200b", "\ud800", "EVAL ||| 1 2", "x\r\ny\x85z\u2028", "é ≥ 3"]
)
def test_an_awkward_report_scores_nothing_and_spoils_no_other(awkward: str, meteor: Meteor) -> None:
    references = {"a": NORMAL, "b": "no effusion .", "c": NORMAL}
    scores = meteor(references, {"a": NORMAL, "b": awkward, "c": NORMAL})
    assert scores.per_report["meteor"] == {"a": 1.0, "b": 0.0, "c": 1.0}
    sums = np.array([scores.sums["meteor"][id] for id in "abc"])
    assert meteor_of_sums(sums) == pytest.approx([1, 0, 1])
    assert meteor_of_sums(sums.sum(axis=0, keepdims=True)) == pytest.approx(scores.corpus["meteor"], abs=1e-12)


def test_newlines_and_separators_are_spaces(meteor: Meteor) -> None:
    references = {"a": NORMAL, "b": "no\neffusion ||| ."}
    assert meteor(references, {"a": NORMAL.replace(" ", "\n"), "b": "no|||effusion\t."}).corpus == {"meteor": 1.0}


def test_a_long_report_passes_the_pipes(meteor: Meteor) -> None:
    long = {str(index): " ".join(f"word{word}" for word in range(300)) for index in range(200)}
    assert meteor(long, long).corpus["meteor"] == pytest.approx(1.0)


def test_ids_that_differ_and_empty_references_are_refused(meteor: Meteor) -> None:
    with pytest.raises(UserError, match="Without a report: a"):
        meteor({"a": "x"}, {"b": "x"})
    with pytest.raises(UserError, match="reference without words: a"):
        meteor({"a": "\n"}, {"a": "x"})


def test_past_its_deadline_java_is_killed_and_the_message_says_the_way_out() -> None:
    impatient = Meteor(timeout_s=0.2)
    java = impatient._started()._process
    with pytest.raises(UserError, match=r"no answer for 0.2 s.*leave meteor out of metrics"):
        impatient({"a": "x"}, {"a": "x"})
    assert java.returncode == -signal.SIGKILL


def test_a_java_that_stops_is_reported_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_JAVA_FLAGS", (*module._JAVA_FLAGS, "-Xmx1k"))
    with pytest.raises(UserError, match=r"Java has stopped.*Too small maximum heap"):
        Meteor()({"a": "x"}, {"a": "x"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meteor]:
    """The same jar without its table of paraphrases: it starts in half a second."""
    monkeypatch.setattr(module, "_OPTIONS", (*module._OPTIONS, "-m", "exact"))
    metric = Meteor(timeout_s=120.0)
    assert metric({"a": NORMAL}, {"a": NORMAL}).corpus == {"meteor": 1.0}
    yield metric
    metric.close()


def signalled(metric: Meteor, number: int, *, after_s: float) -> threading.Timer:
    jar = metric._jar
    assert jar is not None
    timer = threading.Timer(after_s, os.kill, (jar._process.pid, number))
    timer.start()
    return timer


def test_a_java_that_was_killed_is_started_again(quick: Meteor) -> None:
    texts = {str(study): f"{NORMAL} {study}" for study in range(4_000)}
    signalled(quick, signal.SIGKILL, after_s=0).join()
    assert quick({"a": NORMAL}, {"a": NORMAL}).corpus == {"meteor": 1.0}
    jar = quick._jar
    signalled(quick, signal.SIGKILL, after_s=0.2)  # in the middle of its answers
    scores = quick(texts, texts)
    assert quick._jar is not jar
    assert set(scores.per_report["meteor"].values()) == {1.0}


def test_a_java_that_hangs_is_killed_and_the_next_score_has_another(quick: Meteor) -> None:
    texts = {str(study): f"{NORMAL} {study}" for study in range(4_000)}
    quick._jar._timeout_s = 1.0  # type: ignore[union-attr]
    pid = quick._jar._process.pid  # type: ignore[union-attr]
    signalled(quick, signal.SIGSTOP, after_s=0.2)
    with pytest.raises(UserError, match="no answer for 1 s"):
        quick(texts, texts)
    assert not running(pid)
    assert quick({"a": NORMAL}, {"a": NORMAL}).corpus == {"meteor": 1.0}


def test_a_report_too_long_for_the_aligner_is_refused_at_once(quick: Meteor) -> None:
    with pytest.raises(UserError, match=r'"the the the.*has 260,000 words, METEOR takes 2,000: lower generation'):
        quick({"a": NORMAL}, {"a": "the " * 260_000})
    assert quick({"a": NORMAL}, {"a": "x" * 2**20}).corpus == {"meteor": 0.0}


def test_words_of_other_scripts_match_by_their_signs(quick: Meteor) -> None:
    texts = {"chinese": "双肺纹理 清晰 。", "cyrillic": "сердце в норме .", "arabic": "القلب طبيعي .", "emoji": "😀 ☃"}
    assert set(quick(texts, texts).per_report["meteor"].values()) == {1.0}
    others = dict.fromkeys(texts, "no effusion")
    assert set(quick(texts, others).per_report["meteor"].values()) == {0.0}


def test_java_ends_with_the_metric_even_where_it_hangs() -> None:
    jar = module._Jar(timeout_s=1)
    pid = jar._process.pid
    assert running(pid)
    os.kill(pid, signal.SIGSTOP)
    del jar
    assert not running(pid)
