"""A small LLaMA that every quantisation serves, and a report generator over it, for the tests of lm/ and train/."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from small_model import SIZE_PX
from transformers import LlamaConfig, LlamaForCausalLM

from r2gen.lm import LanguageModel, load_lm
from r2gen.lm.quantize import check_quantised, quantisation_of
from r2gen.model.projector import LinearProjector
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import Lora, choose_trainable
from r2gen.vision.encoder import TimmEncoder

GOLDEN = Path(__file__).parents[1] / "golden" / "lm" / "llama2_spm"
MODES = ["int8", "nf4", "int8_weight_only", "fp8"]


def write_llama(out: Path, *, scale: float = 8) -> Path:
    """A checkpoint whose widths are multiples of 64, with the golden one's tokenizer; large weights make reports
    differ."""
    vocabulary = json.loads((GOLDEN / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        bos_token_id=1,
        eos_token_id=2,
    )
    model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    model.save_pretrained(out)
    for file in GOLDEN.glob("*token*"):
        shutil.copy(file, out)
    return out


def loaded(folder: Path, mode: str, **options: Any) -> LanguageModel:
    quantisation = quantisation_of(mode=mode, double_quant=mode == "nf4", dtype=torch.float32)
    lm = load_lm(folder, quantization=quantisation, **options)
    check_quantised(lm.model, mode=mode)
    return lm


def generator(folder: Path, mode: str, *, lm: str = "frozen", checkpointing: bool = False) -> ReportGenerator:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 16]}
    encoder = TimmEncoder(name="convnext_atto", image_size_px=SIZE_PX, model_args=shape, views="mean")
    language: Any = loaded(folder, mode, gradient_checkpointing=checkpointing)
    torch.manual_seed(1)
    projector = LinearProjector(in_dim=encoder.dim, out_dim=language.dim)
    model = ReportGenerator(vision=encoder, projector=projector, lm=language, before=[1, 5, 6], after=[7])
    lora = Lora(r=2, alpha=4, dropout=0.0)
    choose_trainable(
        model,
        vision="full",
        vision_lora=None,
        lm=lm,
        lm_lora=lora,
        lm_lora_targets=["q_proj", "v_proj"],
        lm_is_random=False,
    )
    if lm == "lora":
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.01)  # at its start LoRA's second matrix is zero, and the first has no gradient
    return model.train()
