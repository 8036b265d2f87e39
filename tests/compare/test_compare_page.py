"""compare.html is one self-contained file with the whole comparison, and executes no text of it.

`python tests/compare/test_compare_page.py DIR` writes one with made-up numbers to DIR.
"""

import json
import random
import re
import stat
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from PIL import Image
from shown_page import shown_text

from r2gen.compare.comparison import (
    Comparison,
    FindingScore,
    Interval,
    JoinedPair,
    JoinedSeeds,
    Pair,
    Stratum,
    StudyTexts,
    System,
)
from r2gen.compare.page import write_compare_page
from r2gen.evaluate.clinical_findings import Findings
from r2gen.evaluate.meteor import Meteor
from r2gen.evaluate.nlg import Bleu, Cider, RougeL
from r2gen.pages.document import FOLDER, content_of

HOSTILE = "</script><script>alert(1)</script> <img src=x onerror=alert(2)> \u2028 @@DATA@@ <!-- & ' \""
SENTENCES = (
    "the heart is normal in size .",
    "the lungs are clear .",
    "no pneumothorax or pleural effusion .",
    "there is a small left pleural effusion with adjacent atelectasis .",
    "the mediastinum is unremarkable .",
    "right basilar opacity may represent pneumonia .",
)
SCORES = {"bleu_1": 0.41, "bleu_4": 0.17, "rouge_l": 0.37, "meteor": 0.19, "cider": 0.40, "findings_f1_micro_14": 0.43}
FINDINGS = ("Atelectasis", "Cardiomegaly", "Pleural Effusion", "Pneumonia", "Fracture", "normal")
SYSTEMS = (
    System("llama2", "run", "outputs/train-llama2-iu", {"lm": "llama2", "vision": "swin_base", "seed": "1"}),
    System("qwen2", "run", "outputs/train-qwen2-iu", {"lm": "qwen2", "vision": "swin_base", "seed": "1"}),
    System("published", "file", "test_result.json", {}),
    System("constant", "null", "one constant report, images never seen", {}),
    System("nearest", "null", "the training report of the most similar images", {}),
)


def around(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half * 1.1, draws=10_000)


def comparison() -> Comparison:
    rng = random.Random(1)
    scores = {
        system.name: {name: around(value * rng.uniform(0.7, 1.1), 0.02) for name, value in SCORES.items()}
        for system in SYSTEMS
    }
    pairs = []
    for score in SCORES:
        for first, second in combinations(scores, 2):
            difference = scores[second][score].value - scores[first][score].value
            p = 0.0002 if abs(difference) > 0.03 else 0.3
            pairs.append(
                Pair(
                    score=score,
                    first=first,
                    second=second,
                    difference=around(difference, 0.025),
                    p=p,
                    p_holm=min(1.0, 3 * p),
                )
            )
    findings = {
        finding: {
            system.name: FindingScore(
                support=80 // number,
                stated=60 // number,
                precision=0.5,
                recall=0.4,
                f1=None if finding == "Fracture" else around(rng.uniform(0.2, 0.8), 0.05 * number),
            )
            for system in SYSTEMS
        }
        for number, finding in enumerate(FINDINGS, start=1)
    }
    strata = [
        Stratum(
            kind,
            name,
            studies,
            {
                system: {score: around(interval.value * factor, 0.03) for score, interval in of.items()}
                for system, of in scores.items()
            },
        )
        for kind, name, studies, factor in (
            ("reference", "normal", 201, 1.2),
            ("reference", "abnormal", 389, 0.8),
            ("length", "up to 21 words", 190, 1.1),
            ("length", "22 to 34 words", 204, 1.0),
            ("length", "from 35 words", 196, 0.7),
        )
    ]
    joined = tuple(JoinedSeeds(name, (f"{name}-1", f"{name}-2"), (1, 2), scores[name]) for name in ("llama2", "qwen2"))
    return Comparison(
        title="llama2, qwen2, published",
        written="2026-11-22T19:30:00+00:00",
        split="test",
        studies=590,
        references="0123456789abcdef",
        systems=SYSTEMS,
        scores=scores,
        score_specs=(*Bleu.scores, *RougeL.scores, *Meteor.scores, *Cider.scores, *Findings.scores),
        pairs=tuple(pairs),
        joined=joined,
        joined_pairs=(JoinedPair("cider", "llama2", "qwen2", (1, 2), around(0.01, 0.05), 0.6, 0.6),),
        findings=findings,
        strata=tuple(strata),
        differ_by="cider",
        differing=tuple(study(number) for number in range(12)),
        recipe={"section": "findings", "cleaner": "iu_xray", "case": "lower", "truncation": "none"},
        signatures={"bleu": {"tokenizer": "space", "implementation": "pycocoevalcap-1.2"}},
        notes=("llama2 was cut at the token limit in 3 studies.",),
    )


def study(number: int, *, text: str | None = None) -> StudyTexts:
    rng = random.Random(number)
    texts = {
        name: text or " ".join(rng.sample(SENTENCES, 3)) for name in ("reference", *(system.name for system in SYSTEMS))
    }
    image = Image.effect_noise((300, 300), 60)
    return StudyTexts(
        id=f"CXR{number}",
        spread=1.2 - number / 12,
        reference=texts.pop("reference"),
        reports=texts,
        scores={name: {"cider": rng.random(), "bleu_4": rng.random()} for name in texts},
        findings={name: tuple(rng.sample(FINDINGS[:4], rng.randint(0, 2))) for name in ("reference", *texts)},
        images=(image, image),
    )


def test_the_page_contains_the_whole_comparison(tmp_path: Path) -> None:
    page = write_compare_page(comparison(), tmp_path / "compare.html")
    content = content_of(page)
    assert [system["name"] for system in content["systems"]] == [system.name for system in SYSTEMS]
    assert len(content["pairs"]) == len(SCORES) * 10
    assert {spec["name"]: spec["title"] for spec in content["score_specs"]}["cider"] == "CIDEr"
    assert {pair["within_noise"] for pair in content["pairs"]} == {True, False}
    assert [len(study["images"]) for study in content["differing"]] == [2] * 12
    assert content["differing"][0]["images"][0].startswith("data:image/jpeg;base64,")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert page.stat().st_size < 3_000_000


def test_hostile_text_is_shown_as_text_and_nothing_is_requested_from_the_network(tmp_path: Path) -> None:
    hostile = replace(
        comparison(),
        title=HOSTILE,
        differing=(study(1, text=HOSTILE),),
        notes=(HOSTILE,),
        signatures={HOSTILE: {HOSTILE: HOSTILE}},
    )
    text = write_compare_page(hostile, tmp_path / "compare.html").read_text(encoding="utf-8")
    document = (FOLDER / "document.html").read_text(encoding="utf-8")
    assert text.count("<script") == document.count("<script")
    assert "<img src=x" not in text
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|innerHTML|import\(", text)
    content: dict[str, Any] = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert content["differing"][0]["reports"]["llama2"] == HOSTILE


def test_the_script_of_the_page_runs_and_shows_its_parts(tmp_path: Path) -> None:
    text = shown_text(write_compare_page(comparison(), tmp_path / "compare.html"))
    for title in ("Mean over seeds", "Paired differences", "F1 of each finding", "Subgroups of studies"):
        assert title in text


if __name__ == "__main__":
    print(write_compare_page(comparison(), Path(sys.argv[1]) / "compare.html"))
