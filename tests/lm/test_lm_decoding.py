"""A report does not depend on its batch, and an impossible decoding profile is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.lm import Generated, LanguageModel, ReportTokenizer, load_lm

# B batch, T tokens, E width
STUDIES = 8
PROFILES = {
    "greedy": Decoding(max_new_tokens=12),
    "greedy penalty": Decoding(max_new_tokens=12, repetition_penalty=2.0),
    "beam3": Decoding(max_new_tokens=12, num_beams=3),
    "beam3 penalty": Decoding(
        max_new_tokens=12, min_new_tokens=5, num_beams=3, repetition_penalty=2.0, length_penalty=2.0
    ),
    "beam3 early": Decoding(max_new_tokens=12, num_beams=3, early_stopping=True),
    "nucleus": Decoding(max_new_tokens=12, do_sample=True, top_p=0.9, repetition_penalty=1.2),
    "top-k": Decoding(max_new_tokens=12, min_new_tokens=5, do_sample=True, top_k=20, temperature=1.5, seed=3),
    "contrastive": Decoding(max_new_tokens=12, min_new_tokens=5, penalty_alpha=0.6, top_k=4),
    "contrastive penalty": Decoding(
        max_new_tokens=12, penalty_alpha=0.3, top_k=3, repetition_penalty=2.0, no_repeat_ngram_size=2
    ),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_report_does_not_depend_on_its_batch(
    lm: LanguageModel, prompts: tuple[torch.Tensor, torch.Tensor], profile: str
) -> None:
    embeds_BTE, mask_BT = prompts
    decoding = PROFILES[profile]
    ids = [f"study {i}" for i in range(STUDIES)]
    alone = [
        lm.generate(embeds_BTE[i : i + 1, mask_BT[i]], torch.ones(1, int(mask_BT[i].sum())), decoding, ids=[ids[i]])[0]
        for i in range(STUDIES)
    ]
    assert len({report.text for report in alone}) == STUDIES
    assert all(decoding.min_new_tokens <= len(report.ids) <= decoding.max_new_tokens for report in alone)
    assert lm.generate(embeds_BTE, mask_BT, decoding, ids=ids) == alone
    assert lm.generate(embeds_BTE[:3], mask_BT[:3], decoding, ids=ids[:3]) == alone[:3]
    order = [5, 2, 7, 0, 6, 1, 4, 3]
    shuffled = lm.generate(embeds_BTE[order], mask_BT[order].long(), decoding, ids=[ids[i] for i in order])
    assert shuffled == [alone[i] for i in order]
    wide_BTE = torch.cat([torch.zeros(STUDIES, 9, 32), embeds_BTE], dim=1)
    wide_BT = torch.cat([torch.zeros(STUDIES, 9, dtype=torch.bool), mask_BT], dim=1)
    assert lm.generate(wide_BTE, wide_BT, decoding, ids=ids) == alone


def test_these_reports_end_by_eos_and_by_length(
    sdpa_lm: LanguageModel, prompts: tuple[torch.Tensor, torch.Tensor]
) -> None:
    ids = [str(i) for i in range(STUDIES)]
    reports = [report for profile in PROFILES.values() for report in sdpa_lm.generate(*prompts, profile, ids=ids)]
    assert {report.finish for report in reports} == {"stop", "length"}
    for report in reports:
        assert sdpa_lm.tokenizer.eos_id not in report.ids
        assert (len(report.ids) == 12) or report.finish == "stop"
        assert report.text == sdpa_lm.tokenizer.decode(report.ids).strip()


@torch.no_grad()
def by_hand(lm: LanguageModel, embeds_TE: torch.Tensor, *, new: int, penalty: float) -> list[int]:
    """Greedy decoding without a cache, padding or transformers' generate()."""
    ids: list[int] = []
    for _ in range(new):
        input_BTE = torch.cat([embeds_TE[None], lm.embed(torch.tensor([ids], dtype=torch.long))], dim=1)
        scores_V = lm.model(inputs_embeds=input_BTE).logits[0, -1]
        for i in set(ids):
            scores_V[i] = scores_V[i] * penalty if scores_V[i] < 0 else scores_V[i] / penalty
        ids.append(int(scores_V.argmax()))
        if ids[-1] == lm.tokenizer.eos_id:
            return ids[:-1]
    return ids


@pytest.mark.parametrize("penalty", [1.0, 2.0, 0.5])
def test_the_penalty_counts_every_generated_token_and_no_other(
    sdpa_lm: LanguageModel, prompts: tuple[torch.Tensor, torch.Tensor], penalty: float
) -> None:
    """transformers' own penalty fails this: it ignores as many generated tokens as a prompt has padding."""
    embeds_BTE, mask_BT = prompts
    reports = sdpa_lm.generate(embeds_BTE, mask_BT, Decoding(max_new_tokens=12, repetition_penalty=penalty))
    for row, report in enumerate(reports):
        assert list(report.ids) == by_hand(sdpa_lm, embeds_BTE[row, mask_BT[row]], new=12, penalty=penalty)


def test_the_generation_config_of_the_model_has_no_effect(
    sdpa_lm: LanguageModel, prompts: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sdpa_lm.generate(*prompts, PROFILES["greedy"])
    defaults = {key: value for key, value in sdpa_lm.model.generation_config.to_dict().items() if key.endswith("_id")}
    assert not any(defaults.values())
    shipped = GenerationConfig(
        do_sample=True,
        temperature=0.3,
        top_k=3,
        repetition_penalty=1.9,
        num_beams=4,
        no_repeat_ngram_size=2,
        min_new_tokens=9,
        num_return_sequences=2,
    )
    monkeypatch.setattr(sdpa_lm.model, "generation_config", shipped)
    assert sdpa_lm.generate(*prompts, PROFILES["greedy"]) == before


@pytest.mark.parametrize("profile", ["beam3", "nucleus", "contrastive"])
def test_the_generation_config_of_a_checkpoint_has_no_effect(
    golden_folder: Path, prompts: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, profile: str
) -> None:
    """Baichuan and Qwen publish one; this one has every key that could change a report."""
    folder = tmp_path / "shipped"
    shutil.copytree(golden_folder / "llama2_spm", folder)
    plain, ids = load_lm(golden_folder / "llama2_spm"), [str(i) for i in range(STUDIES)]
    embeds_BTE = torch.cat([prompts[0]] * (plain.dim // 32), dim=2)
    before = plain.generate(embeds_BTE, prompts[1], PROFILES[profile], ids=ids)
    likely = sorted({token for report in before for token in report.ids})[:4]
    shipped = {
        "do_sample": True,
        "temperature": 0.3,
        "top_k": 5,
        "top_p": 0.5,
        "typical_p": 0.4,
        "min_p": 0.3,
        "repetition_penalty": 1.9,
        "no_repeat_ngram_size": 1,
        "num_beams": 2,
        "length_penalty": -3.0,
        "suppress_tokens": likely,
        "begin_suppress_tokens": likely,
        "bad_words_ids": [[likely[0]]],
        "forced_bos_token_id": 7,
        "min_length": 30,
        "max_length": 3,
        "renormalize_logits": True,
    }
    facts = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(facts | shipped))
    assert load_lm(folder).generate(embeds_BTE, prompts[1], PROFILES[profile], ids=ids) == before


def test_generation_restores_train_and_eval(sdpa_lm: LanguageModel, prompts: tuple[torch.Tensor, torch.Tensor]) -> None:
    frozen = sdpa_lm.model.get_input_embeddings()
    try:
        sdpa_lm.model.train()
        frozen.eval()
        sdpa_lm.generate(*prompts, Decoding(max_new_tokens=2))
        assert sdpa_lm.model.training
        assert not frozen.training
    finally:
        sdpa_lm.model.eval()


def test_a_report_that_may_exceed_the_positions_is_refused(sdpa_lm: LanguageModel) -> None:
    with pytest.raises(UserError, match=r"generation\.max_new_tokens=2045.*give at most 2044"):
        sdpa_lm.generate(torch.zeros(1, 4, 32), torch.ones(1, 4), Decoding(max_new_tokens=2045))


def test_an_empty_prompt_is_refused(sdpa_lm: LanguageModel) -> None:
    with pytest.raises(ValueError, match="without a single real position"):
        sdpa_lm.generate(torch.zeros(2, 4, 32), torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0]]), Decoding(max_new_tokens=3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "generation.max_new_tokens=0"),
        ({"max_new_tokens": 10.5}, "generation.max_new_tokens=10.5"),
        ({"num_beams": 0}, "generation.num_beams=0"),
        ({"num_beams": True}, "generation.num_beams=true: give a whole number"),
        ({"min_new_tokens": 11}, "generation.min_new_tokens=11 is more than generation.max_new_tokens=10"),
        ({"min_new_tokens": -1}, "generation.min_new_tokens=-1"),
        ({"repetition_penalty": 0}, "generation.repetition_penalty=0"),
        ({"length_penalty": float("nan")}, "generation.length_penalty=nan"),
        ({"length_penalty": "long"}, "generation.length_penalty=long"),
        ({"no_repeat_ngram_size": -2}, "generation.no_repeat_ngram_size=-2"),
        ({"early_stopping": "always"}, "generation.early_stopping=always"),
        ({"early_stopping": 1}, "generation.early_stopping=1"),
        ({"do_sample": 1}, "generation.do_sample=1"),
        ({"do_sample": True, "temperature": 0}, "generation.temperature=0 must be at least 0.001"),
        ({"do_sample": True, "top_p": 1.5}, "generation.top_p=1.5: give at most 1"),
        ({"do_sample": True, "top_k": 0}, "generation.top_k=0 must be at least 1"),
        ({"do_sample": True, "seed": -1}, "generation.seed=-1"),
        ({"temperature": 0.7}, "generation.temperature=0.7 is for sampling: add generation.do_sample=true"),
        ({"top_p": 0.9}, "generation.top_p=0.9 is for sampling"),
        ({"seed": 0}, "generation.seed=0 is for sampling"),
        ({"top_k": 5}, "generation.top_k=5 is for sampling or contrastive search"),
        ({"penalty_alpha": 0.6}, "give generation.top_k of at least 2"),
        ({"penalty_alpha": 0, "top_k": 4}, "generation.penalty_alpha=0 must be more than 0"),
        ({"do_sample": True, "num_beams": 3}, "generation.num_beams=3 and generation.do_sample=True are different"),
        ({"do_sample": True, "penalty_alpha": 0.6, "top_k": 4}, "generation.do_sample=True and generation.penalty_a"),
    ],
)
def test_an_impossible_profile_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        Decoding(**({"max_new_tokens": 10} | settings))  # type: ignore[arg-type]
    assert message in str(refusal.value)


def test_a_profile_is_checked_without_torch() -> None:
    check = "import sys, r2gen.config.decoding as d; d.Decoding(max_new_tokens=3); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=Path(__file__).parents[2])


def test_a_generated_report_is_frozen(tokenizer: ReportTokenizer) -> None:
    report = Generated((5,), tokenizer.decode([5]), "stop")
    with pytest.raises(AttributeError):
        report.text = ""  # type: ignore[misc]
