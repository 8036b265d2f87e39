"""Which model types are read, and how: most by transformers' own classes, published formats by a module here.

A module is imported when a checkpoint of its model type is met. It makes three things known to transformers: a native
config class that reads the published fields, a native model class, and the map from published tensors to native ones,
which runs both ways (`save_pretrained` writes the published names).
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

# model_type of config.json. A family that transformers reads by itself costs no line here: its YAML names lm.family.
NATIVE = ("bloom", "gemma2", "gemma3_text", "glm", "llama", "mistral", "phi3", "qwen2", "qwen3", "stablelm", "t5")
# Published formats, by the module that knows them.
PUBLISHED = {
    "baichuan": "baichuan",
    "chatglm": "chatglm",
    "internlm": "internlm",
    "internlm2": "internlm2",
    "internlm3": "internlm3",
    "qwen": "qwen",
}


def supported() -> list[str]:
    return sorted([*NATIVE, *PUBLISHED])


def register(model_type: str) -> None:
    """Make transformers' Auto classes know a published format; nothing happens for a native one."""
    if model_type in PUBLISHED:
        import_module(f"{__name__}.{PUBLISHED[model_type]}")


def published_names(model: Any, names: Iterable[str]) -> list[str]:
    """Names of a model's tensors as the files of its family have them, sorted; several may be parts of one."""
    if model.config.model_type in PUBLISHED:
        names = import_module(f"{__name__}.registration").published_names(model, names)
    return sorted(set(names))


def said_twice(model: Any, names: Iterable[str]) -> list[str]:
    """Of the names in a checkpoint's files, the native ones that stand beside the published name of the same tensor."""
    if model.config.model_type not in PUBLISHED:
        return []
    published = import_module(f"{__name__}.registration").published_names
    own = sorted(set(names))
    pairs = zip(own, published(model, own), strict=True)
    return [name for name, other in pairs if name != other and other in own]
