"""Compare a model with what R2GenGPT's own program computed on tiny weights ($R2GEN_SHARED/r2gengpt)."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET, Batch
from r2gen.model.report_generator import ReportGenerator

torch.set_num_threads(1)
MODES = ("shallow", "delta", "deep")
ALPHA = "tune.lora.alpha=8"  # of delta, from golden.json: the checkpoint does not contain it


def golden(folder: Path, mode: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    return json.loads((folder / mode / "golden.json").read_text()), load_file(folder / mode / "golden.safetensors")


def batch(model: ReportGenerator, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Batch:
    """The golden studies as a batch of the model, with training reports cut as the original cuts them.

    The golden images are normalised floats, [B, 3, H, W] per view, where ours are 8-bit images that the encoder
    normalises. Therefore its `normalise` is replaced, and nothing else.
    """
    model.vision.normalise = lambda images_N3HW: images_N3HW  # type: ignore[method-assign]
    images_BV3HW = torch.stack([tensors[name] for name in sorted(tensors) if name.startswith("image.")], dim=1)
    tokenizer = model.lm.tokenizer
    ids = [torch.tensor([*tokenizer.encode(text), tokenizer.eos_id][: facts["max_length"]]) for text in facts["texts"]]
    report_BT = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=NO_TARGET)
    return Batch(
        ids=tuple(facts["texts"]),
        images_RVHW=images_BV3HW,
        views_RV=torch.ones(images_BV3HW.shape[:2], dtype=torch.bool),
        report_BT=report_BT,
    )


def decodings(facts: dict[str, Any]) -> dict[str, Decoding]:
    profile = {key: value for key, value in facts["generation"].items() if key != "do_sample"}
    profiles = {}
    for name in facts["reports"]:
        beams, penalty = name.removeprefix("beam").split("_rep")
        profiles[name] = Decoding(**profile, num_beams=int(beams), repetition_penalty=float(penalty))
    return profiles


def errors(model: ReportGenerator, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Relative errors of the loss, of the two golden gradients and of the norm of all, in eval() as the original."""
    studies = batch(model, facts, tensors)
    loss = model.eval()(studies) / studies.target_tokens
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients.values()))  # type: ignore[arg-type]
    differences = {
        "loss": abs(loss.item() / facts["loss"] - 1),
        "norm": abs(norm.item() / facts["grad_norm_trainable"] - 1),
    }
    for ours, theirs in (("projector.linear", "llama_proj"), ("projector.norm", "layer_norm")):
        expected = tensors[f"grad.{theirs}.weight"]
        differences[theirs] = ((gradients[f"{ours}.weight"] - expected).norm() / expected.norm()).item()
    return differences


def same_reports(model: ReportGenerator, facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[bool]:
    """Whether each report is the original's string, over studies, beams and repetition penalties."""
    studies, same = batch(model, facts, tensors), []
    for name, decoding in decodings(facts).items():
        texts = [report.text for report in model.eval().generate(studies, decoding)]
        same += [text == expected for text, expected in zip(texts, facts["reports"][name], strict=True)]
    return same
