"""Whether a model can read and continue embeddings, which an image is in a prompt. Most classes of transformers can."""

from inspect import signature
from typing import Any

import torch
import transformers
from torch.nn import functional as F
from transformers import PreTrainedModel

from r2gen.config.decoding import Decoding
from r2gen.errors import Code, UserError
from r2gen.lm.padding import positions
from r2gen.lm.precise import LARGEST
from r2gen.lm.protocol import LanguageModel
from r2gen.lm.quantize import is_quantised
from r2gen.lm.weights import TRIED_TOKENS

LARGEST_ERROR = 1e-4  # relative to the norm of the logits
LARGEST_PADDED_ERROR = 0.1  # with which other kernels may compute in 16 bits
ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, NotImplementedError)


def check_class(model: PreTrainedModel) -> None:
    """Raise UserError if the class of a model says that it cannot generate from embeddings."""
    prepare: Any = model.prepare_inputs_for_generation
    if not model.config.is_encoder_decoder and "inputs_embeds" not in signature(prepare).parameters:
        raise _refusal(model, "it generates from ids only")


def check_embeddings(lm: LanguageModel) -> None:
    """Read ids, their embeddings, and embeddings behind padding; where transformers generates, also two tokens.

    Raises UserError if that fails, or if the logits differ. Not tried are a large model on a CPU, and a quantised one,
    whose layers are rearranged the first time.
    """
    model: Any = lm.model
    large = model.device.type == "cpu" and sum(parameter.numel() for parameter in model.parameters()) > LARGEST
    if large or any(map(is_quantised, model.parameters())):
        return
    try:
        with torch.no_grad():
            _check_logits(model)
    except torch.OutOfMemoryError:
        raise
    except ERRORS as error:
        raise _refusal(model, " ".join(str(error).split())[:200]) from error
    if lm.decoder_for(Decoding(max_new_tokens=2)) == "tree":
        return  # does not use transformers' generate
    try:
        with torch.no_grad():
            _generate(model)
    except torch.OutOfMemoryError:
        raise
    except ERRORS as error:
        raise _refusal(model, " ".join(str(error).split())[:200]) from error


def _check_logits(model: Any) -> None:
    ids_BT = torch.arange(3, 3 + TRIED_TOKENS, device=model.device)[None]
    embeds_BTE = model.get_input_embeddings()(ids_BT)
    mask_BT = torch.ones_like(ids_BT)
    decoder = {"decoder_input_ids": ids_BT[:, :2]} if model.config.is_encoder_decoder else {}
    last = slice(-2, None) if decoder else slice(-1, None)
    by_ids = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False, **decoder).logits[:, last].double()
    by_embeds = model(inputs_embeds=embeds_BTE, attention_mask=mask_BT, use_cache=False, **decoder).logits[:, last]
    if torch.dist(by_ids, by_embeds.double()) > LARGEST_ERROR * by_ids.norm():
        raise _refusal(model, "it computes other logits from embeddings than from their ids")
    if model.config.is_encoder_decoder:
        other = model(inputs_embeds=-embeds_BTE, attention_mask=mask_BT, use_cache=False, **decoder).logits[:, last]
        if torch.equal(other, by_embeds):
            raise _refusal(model, "its decoder does not read what the encoder makes of them")
        return
    padded_BTE, padded_BT = F.pad(embeds_BTE, (0, 0, TRIED_TOKENS, 0)), F.pad(mask_BT, (TRIED_TOKENS, 0))
    padded = model(
        inputs_embeds=padded_BTE, attention_mask=padded_BT, position_ids=positions(padded_BT), use_cache=False
    ).logits[:, last]
    if torch.dist(by_ids, padded.double()) > LARGEST_PADDED_ERROR * by_ids.norm():
        raise _refusal(model, "padding changes its logits, so that a report would depend on its batch")


def _generate(model: Any) -> None:
    if model.config.is_encoder_decoder:
        return
    ids_BT = torch.arange(3, 5, device=model.device)[None]
    settings = transformers.GenerationConfig(max_new_tokens=2, min_new_tokens=2, pad_token_id=0)
    embeds_BTE = model.get_input_embeddings()(ids_BT)
    model.generate(inputs_embeds=embeds_BTE, attention_mask=torch.ones_like(ids_BT), generation_config=settings)


def _refusal(model: PreTrainedModel, why: str) -> UserError:
    return UserError(
        f"lm.path: {type(model).__name__} of transformers {transformers.__version__} cannot generate from embeddings, "
        f"which an image needs ({why}): choose another language model",
        code=Code.INCOMPATIBLE,
    )
