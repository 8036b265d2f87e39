"""Whether a model can read and continue embeddings, which an image is in a prompt. Most classes of transformers can."""

from inspect import signature
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from r2gen.errors import Code, UserError
from r2gen.lm.precise import LARGEST
from r2gen.lm.quantize import is_quantised
from r2gen.lm.tree_attention import supports_tree


def check_class(model: PreTrainedModel) -> None:
    """Raise UserError if the class of a model says that it cannot generate from embeddings."""
    if getattr(model.config, "hidden_size_per_layer_input", None):
        raise _refusal(model, "its layers look up the ids of all tokens, which an image does not have")
    prepare: Any = model.prepare_inputs_for_generation
    if not model.config.is_encoder_decoder and "inputs_embeds" not in signature(prepare).parameters:
        raise _refusal(model, "it generates from ids only")


def check_generation(model: PreTrainedModel) -> None:
    """Read two embeddings and generate two tokens after them. Raises UserError if that fails.

    Not tried are a large model on a CPU, and a quantised one, whose layers are rearranged the first time. Attention
    that a tree may decode is tried when it decodes.
    """
    large = model.device.type == "cpu" and sum(parameter.numel() for parameter in model.parameters()) > LARGEST
    if large or any(map(is_quantised, model.parameters())):
        return
    generate: Any = model.generate
    ids_BT = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    mask_BT = torch.ones_like(ids_BT)
    try:
        with torch.no_grad():
            embeds_BTE = model.get_input_embeddings()(ids_BT)
            if model.config.is_encoder_decoder:
                model(inputs_embeds=embeds_BTE, attention_mask=mask_BT, decoder_input_ids=ids_BT, use_cache=False)
                return
            model(inputs_embeds=embeds_BTE, attention_mask=mask_BT, use_cache=False)
            if not supports_tree(model):
                settings = transformers.GenerationConfig(max_new_tokens=2, min_new_tokens=2, pad_token_id=0)
                generate(inputs_embeds=embeds_BTE, attention_mask=mask_BT, generation_config=settings)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, NotImplementedError) as error:
        raise _refusal(model, " ".join(str(error).split())[:200]) from error


def _refusal(model: PreTrainedModel, why: str) -> UserError:
    return UserError(
        f"lm.path: {type(model).__name__} of transformers {transformers.__version__} cannot generate from embeddings, "
        f"which an image needs ({why}): choose another language model",
        code=Code.INCOMPATIBLE,
    )
