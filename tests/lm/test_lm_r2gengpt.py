"""The loss and reports that R2GenGPT's own program gave for its prompt embeddings ($R2GEN_SHARED/r2gengpt)."""

import json
from typing import Any

import pytest
import torch
from golden_checkpoints import ROOT, SHARED
from omegaconf import OmegaConf
from prompt_ids import prompt_ids
from safetensors.torch import load_file

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET
from r2gen.lm import LanguageModel, Prompt

# B batch, T tokens of prompt and report, L those of the report, E width

FOLDER = SHARED / "r2gengpt"
MODES = ("shallow", "delta", "deep")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs {FOLDER}")


def golden(lm: LanguageModel, mode: str) -> tuple[dict[str, Any], torch.Tensor]:
    """The content of golden.json, and the prompts with the BOS token, which the original adds last."""
    wrapped_BTE = load_file(FOLDER / mode / "golden.safetensors")["wrapped"]
    bos_BTE = lm.embed(torch.full((len(wrapped_BTE), 1), lm.tokenizer.bos_id or 0))
    return json.loads((FOLDER / mode / "golden.json").read_text()), torch.cat([bos_BTE, wrapped_BTE], dim=1).detach()


@pytest.mark.parametrize("mode", MODES)
def test_reports_are_the_same_strings(llama2_spm: LanguageModel, mode: str) -> None:
    facts, prompt_BTE = golden(llama2_spm, mode)
    profile = {key: value for key, value in facts["generation"].items() if key != "do_sample"}
    assert len(facts["reports"]) == 4
    for name, expected in facts["reports"].items():
        beams, penalty = name.removeprefix("beam").split("_rep")
        decoding = Decoding(**profile, num_beams=int(beams), repetition_penalty=float(penalty))
        reports = llama2_spm.generate(prompt_BTE, torch.ones(prompt_BTE.shape[:2]), decoding)
        assert [report.text for report in reports] == expected, name


@pytest.mark.parametrize("mode", MODES)
def test_the_loss_is_that_of_the_original(llama2_spm: LanguageModel, mode: str) -> None:
    """It is the mean over target tokens, with reports and their EOS token truncated to max_length tokens."""
    facts, prompt_BTE = golden(llama2_spm, mode)
    reports = [torch.tensor(ids[: facts["max_length"]]) for ids in facts["text_ids"]]
    targets_BL = torch.nn.utils.rnn.pad_sequence(reports, batch_first=True, padding_value=NO_TARGET)
    loss_B = llama2_spm.loss(prompt_BTE, torch.ones(prompt_BTE.shape[:2]), targets_BL).detach()
    loss = loss_B.sum() / (targets_BL != NO_TARGET).sum()
    assert float(loss) == pytest.approx(facts["loss"], rel=1e-6)


def test_prompt_and_texts_have_the_ids_of_the_original(llama2_spm: LanguageModel) -> None:
    facts, _ = golden(llama2_spm, "shallow")
    before, after = prompt_ids(Prompt(**OmegaConf.load(ROOT / "conf/lm/llama2.yaml").prompt), llama2_spm.tokenizer)
    assert before == [1, *facts["prompt_before_ids"]]
    assert after == facts["prompt_after_ids"]
    ends = [*llama2_spm.tokenizer.eos_ids]
    assert [llama2_spm.tokenizer.encode(text) + ends for text in facts["texts"]] == facts["text_ids"]
