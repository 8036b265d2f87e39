"""Which model types are read, and how: most by transformers' own classes, published formats by a module here.

A module is imported when a checkpoint of its model type is met, and registers its classes and tensor maps then.
"""

from importlib import import_module

# model_type of config.json, loaded by transformers' own classes: a new one of these costs one YAML with lm.family
NATIVE = ("bloom", "gemma2", "gemma3_text", "glm", "llama", "mistral", "phi3", "qwen2", "qwen3", "stablelm", "t5")
# of these, the encoder-decoders: the prompt is encoded, the report decoded
ENCODER_DECODERS = frozenset({"t5"})
# model_type to the module that knows the published format
PUBLISHED: dict[str, str] = {}


def supported() -> list[str]:
    return sorted([*NATIVE, *PUBLISHED])


def register(model_type: str) -> None:
    """Make transformers' Auto classes know a published format; nothing happens for a native one."""
    if model_type in PUBLISHED:
        import_module(f"{__name__}.{PUBLISHED[model_type]}")
