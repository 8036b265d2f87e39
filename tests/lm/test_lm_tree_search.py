"""Any number of studies is decoded in any number of slots, without a lost one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from tree_reports import PROFILES, STUDIES, WIDTH, prompts_of, reports

from r2gen.lm import LanguageModel, load_lm, tree_decoding, tree_search
from r2gen.lm.protocol import DecodingPlan, Generated, Prompts


@pytest.fixture
def llama(golden_folder: Path) -> LanguageModel:
    return load_lm(golden_folder / "llama2_spm")


def test_prompts_longer_than_the_first_ones_are_decoded_too(llama: LanguageModel) -> None:
    short_first = [[6, 3], [0, 1, 2], [4, 5]]
    decoding = PROFILES["beam3 penalty"]
    assert reports(llama, decoding, short_first, slots=2) == reports(llama, decoding, [range(STUDIES)])


def test_prompts_are_taken_when_they_are_needed(llama: LanguageModel) -> None:
    """At most as many studies wait as there are slots, and a reader that stops early takes no further ones."""
    taken = []
    ids, embeds_BTE, mask_BT = prompts_of(llama)

    def prompts():
        for number, id in enumerate(ids):
            taken.append(id)
            yield Prompts([id], embeds_BTE[[number]], mask_BT[[number]])

    stream = llama.stream(prompts(), PROFILES["greedy"], DecodingPlan(slots=2))
    next(stream)
    assert len(taken) <= 5
    stream.close()
    assert llama.model.config._attn_implementation == "sdpa"
    assert llama.model.dtype == torch.float32


def test_slots_fill_group_by_group_while_prompts_are_encoded(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 4 slots 2 get their prompts before the next ones are read, and no token is computed before all have one."""
    events: list[str] = []
    ids, embeds_BTE, mask_BT = prompts_of(llama)
    plain_admit, plain_advance = tree_decoding.TreeDecoder.admit, tree_decoding.TreeDecoder.advance

    def prompts() -> Iterator[Prompts]:
        for number, id in enumerate(ids):
            events.append("read")
            yield Prompts([id], embeds_BTE[[number], :6], mask_BT[[0], :6] | True)

    def admit(self: tree_decoding.TreeDecoder, studies: Sequence[tree_decoding.Waiting]) -> None:
        events.append(f"admit {len(studies)}")
        plain_admit(self, studies)

    def advance(self: tree_decoding.TreeDecoder) -> None:
        events.append("advance")
        plain_advance(self)

    plan = DecodingPlan(slots=4)
    expected = dict(llama.stream(prompts(), PROFILES["beam3"], plan))
    events.clear()
    for module in (tree_decoding, tree_search):
        monkeypatch.setattr(module, "computed_together", lambda *_: 2)
    monkeypatch.setattr(tree_decoding.TreeDecoder, "admit", admit)
    monkeypatch.setattr(tree_decoding.TreeDecoder, "advance", advance)
    assert dict(llama.stream(prompts(), PROFILES["beam3"], plan)) == expected
    assert events[:7] == ["read", "read", "admit 2", "read", "read", "admit 2", "advance"]


def test_slots_that_are_too_narrow_are_opened_again_before_the_first_token(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first prompts have one length, and later ones are longer: no study is decoded in a part of the slots."""
    ids, embeds_BTE, _ = prompts_of(llama)
    lengths = [6, 6, 6, 6, 9, 6, WIDTH]
    embeds = [embeds_BTE[[number], :length] for number, length in enumerate(lengths)]
    widths: list[int] = []
    plain = tree_decoding.TreeDecoder.advance

    def advance(self: tree_decoding.TreeDecoder) -> None:
        widths.append(self.width)
        plain(self)

    def written() -> dict[str, Generated]:
        prompts = (
            Prompts([id], embeds_1TE, torch.ones(embeds_1TE.shape[:2], dtype=torch.bool))
            for id, embeds_1TE in zip(ids, embeds, strict=True)
        )
        return dict(llama.stream(prompts, PROFILES["beam3"], DecodingPlan(slots=STUDIES)))

    expected = written()
    for module in (tree_decoding, tree_search):
        monkeypatch.setattr(module, "computed_together", lambda *_: 2)
    monkeypatch.setattr(tree_decoding.TreeDecoder, "advance", advance)
    assert written() == expected
    assert set(widths) == {WIDTH}


def test_memory_that_is_too_small_halves_the_slots_and_loses_no_study(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reports(llama, PROFILES["beam3"], [range(STUDIES)])
    plain = tree_decoding.TreeDecoder.advance

    def advance(self: tree_decoding.TreeDecoder) -> None:
        if self.slots > 1 and int(self.beams.length_S.max()) > 3:
            raise torch.OutOfMemoryError
        plain(self)

    monkeypatch.setattr(tree_decoding.TreeDecoder, "advance", advance)
    assert reports(llama, PROFILES["beam3"], [range(STUDIES)]) == expected
    assert llama.decoded == DecodingPlan(slots=1, decoder="tree")


def test_a_plan_records_how_studies_were_decoded(llama: LanguageModel) -> None:
    reports(llama, PROFILES["greedy"], [range(STUDIES)], slots=3)
    assert llama.decoded == DecodingPlan(slots=3, decoder="tree")
    reports(llama, PROFILES["greedy"], [range(STUDIES)], decoder="transformers")
    assert llama.decoded == DecodingPlan(slots=STUDIES, decoder="transformers")


def test_slots_that_are_kept_serve_the_next_call(llama: LanguageModel) -> None:
    """Also if two profiles take turns."""
    ids, embeds_BTE, mask_BT = prompts_of(llama)

    def texts() -> list[Generated]:
        return [
            llama.generate(embeds_BTE[[i]], mask_BT[[i]], PROFILES[profile], ids=ids[i : i + 1])[0]
            for i in range(STUDIES)
            for profile in ("beam3", "nucleus")
        ]

    plain = texts()
    llama.keeps_slots = True
    assert texts() == plain
    llama.free_slots()  # type: ignore[attr-defined]
