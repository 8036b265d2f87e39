"""Generate the report of one study from an exported folder, without R2Gen:

    python docs/plain_script.py EXPORTED_FOLDER [LM_FOLDER] frontal.png [lateral.png ...]

Needs torch, timm, transformers, safetensors, tokenizers and sentencepiece. Pass LM_FOLDER, the folder of a decoder-only
language model, if the export has no folder lm/. The script takes one study at a time, because left
padding and transformers' repetition penalty do not work together.
"""

import json
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, GenerationConfig

folder, *others = map(Path, sys.argv[1:])
images = [path for path in others if path.is_file()]
facts = json.loads((folder / "model.json").read_text())
tensors = load_file(folder / "model.safetensors")
vision = facts["vision"]
decoding = {key: value for key, value in facts["generation"].items() if value is not None and key != "seed"}
if decoding.get("do_sample") or "penalty_alpha" in decoding:
    sys.exit("this script decodes greedily or with beams: use r2gen.load_run for sampling and contrastive search")
if "context" in facts:
    sys.exit("this model reads more than the images (context.fields): use r2gen.load_run")


def under(prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


backbone = timm.create_model(vision["name"], num_classes=0, **vision["model_args"]).eval()
backbone.load_state_dict(under("vision.backbone."))
for module in backbone.modules():
    if isinstance(module, nn.LayerNorm):
        module.eps = vision.get("layer_norm_eps", module.eps)
if facts["projector"] == "LinearProjector":
    width, dim = tensors["projector.linear.weight"].shape
    layers = {"linear": nn.Linear(dim, width), "norm": nn.LayerNorm(width)}
else:
    hidden, dim = tensors["projector.layers.0.weight"].shape
    width = len(tensors["projector.norm.weight"])
    mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, width))
    layers = {"layers": mlp, "norm": nn.LayerNorm(width)}
projector = nn.Sequential()
for name, layer in layers.items():
    projector.add_module(name, layer)
projector.load_state_dict(under("projector."))

lm_folder = folder / "lm" if (folder / "lm").is_dir() else next(path for path in others if path.is_dir())
lm = AutoModelForCausalLM.from_pretrained(lm_folder, dtype=torch.float32).eval()
lm.generation_config = GenerationConfig()

size = (vision["image_size_px"],) * 2
gray = [Image.open(image).convert("L") for image in images]
gray = [image if image.size == size else image.resize(size, Image.Resampling.BICUBIC) for image in gray]
pixels = torch.from_numpy(np.stack([np.array(image) for image in gray]))[:, None] / 255
pixels = (pixels - tensors["vision.mean_C"][:, None, None]) / tensors["vision.std_C"][:, None, None]
with torch.no_grad():
    features = backbone.forward_features(pixels)
    if features.ndim == 4:  # [N, D, h, w] or [N, h, w, D]
        channels_first = features.shape[1] == backbone.num_features
        features = features.flatten(2).transpose(1, 2) if channels_first else features.flatten(1, 2)
    if vision["views"] == "mean":
        features = features.mean(dim=0)
    else:
        features = (features + tensors["vision.join.place_VD"][: len(images), None]).flatten(0, 1)
    embed = lm.get_input_embeddings()
    before, after = (torch.tensor(facts["prompt_ids"][side], dtype=torch.long) for side in ("before", "after"))
    prompt = torch.cat([embed(before), projector(features), embed(after)])[None]
    special_tokens = {
        "bos_token_id": facts["bos_id"],
        "eos_token_id": facts["eos_ids"],
        "pad_token_id": facts["pad_id"],
    }
    never = {"suppress_tokens": facts["never_ids"]} if facts.get("never_ids") else {}
    settings = GenerationConfig(**{"do_sample": False, **special_tokens, **never, **decoding})
    mask = torch.ones(prompt.shape[:2], dtype=torch.long)
    ids = lm.generate(inputs_embeds=prompt, attention_mask=mask, generation_config=settings)[0].tolist()
end = next((index for index, token in enumerate(ids) if token in facts["eos_ids"]), len(ids))
if (lm_folder / "tokenizer.model").is_file():
    from sentencepiece import SentencePieceProcessor

    codec = SentencePieceProcessor(model_file=str(lm_folder / "tokenizer.model"))
    print("".join(codec.decode([i for i in ids[:end] if not codec.is_control(i) and not codec.is_unknown(i)])).strip())
else:
    from tokenizers import Tokenizer

    print(Tokenizer.from_file(str(lm_folder / "tokenizer.json")).decode(ids[:end], skip_special_tokens=True).strip())
