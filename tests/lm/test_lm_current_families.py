"""Current families: the logits and greedy tokens of transformers' own class, that of the whole for a multimodal one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from current_families import CONFIGS, FILE, IDS, SHOWN, write
from golden_prompts import lm_config
from tiers import fast_only

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.lm import LanguageModel, ReportTokenizer, families, load_lm, save_tokenizer

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))
LIMIT = 1e-4
# B batch, T tokens


def loaded(name: str, folder: Path, tokenizer: ReportTokenizer) -> LanguageModel:
    """The language model as its LM config loads it, or lm=auto; skips a family that this transformers does not have."""
    model_type = CONFIGS[name]["model_type"]
    save_tokenizer(tokenizer, folder)
    if model_type not in families.supported():
        (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
        with pytest.raises(UserError, match=f"model_type={model_type}, which is no language model that transformers"):
            load_lm(folder)
        pytest.skip(f"transformers {transformers.__version__} has no {model_type}, and it is refused with one sentence")
    write(folder, name)
    return load_lm(folder, family=lm_config(name)["family"], stop=None)


@pytest.mark.parametrize("name", fast_only(CONFIGS, "medgemma", "qwen3_5", "qwen3_moe"))
def test_logits_and_greedy_tokens(name: str, tmp_path: Path, tokenizer: ReportTokenizer) -> None:
    lm: Any = loaded(name, tmp_path, tokenizer)
    ids_BT = torch.tensor([IDS])
    with torch.no_grad():
        logits_V = lm.model(inputs_embeds=lm.embed(ids_BT)).logits[0, -1, :SHOWN]
    assert (logits_V - torch.tensor(GOLDEN[name]["logits"])).abs().max() < LIMIT
    decoding = Decoding(max_new_tokens=12, min_new_tokens=12)
    padded_BT = torch.tensor([[*IDS, 0, 0, 0], [*IDS[:4], *[0] * (len(IDS) - 1)]])
    mask_BT = torch.tensor([[1] * len(IDS) + [0] * 3, [1] * 4 + [0] * (len(IDS) - 1)])
    together = lm.generate(lm.embed(padded_BT), mask_BT, decoding)
    assert list(together[0].ids) == GOLDEN[name]["generated"]
    assert together[1] == lm.generate(lm.embed(padded_BT[1:, :4]), mask_BT[1:, :4], decoding)[0]


def test_the_loss_reaches_the_prompt_of_a_mixture_of_experts(tmp_path: Path, tokenizer: ReportTokenizer) -> None:
    lm: Any = loaded("qwen3_moe", tmp_path, tokenizer)
    embeds_BTE = lm.embed(torch.tensor([IDS])).detach().requires_grad_()
    lm.loss(embeds_BTE, torch.ones(1, len(IDS), dtype=torch.long), torch.tensor([[5, 6, 7]])).sum().backward()
    assert embeds_BTE.grad is not None
    assert bool(embeds_BTE.grad.abs().sum() > 0)
    assert lm.model.config._experts_implementation != "eager"  # only while a report is decoded in float64
