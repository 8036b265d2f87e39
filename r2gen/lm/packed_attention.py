"""Attention within each study of one row of all studies, so that no padding is computed.

Only for models that take positions and attention from transformers' interfaces, without ALiBi and without a cap on the
scores: both would be silently wrong or ignored. PACKED lists those that tests compare with one row per study.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel

from r2gen.lm import packed_kernel, packed_operator
from r2gen.lm.tree_attention import attending_by
from r2gen.lm.triton_support import measured, triton_works

NAME = "r2gen_packed"
# model_type of the class that computes (ChatGLM is a Glm here, InternLM, Yi and Baichuan-7B are a Llama)
PACKED = {
    "baichuan", "chatglm", "gemma3_text", "glm", "glm4", "granite", "internlm", "internlm2", "internlm3", "llama",
    "ministral3", "mistral", "olmo2", "olmo3", "phi3", "qwen", "qwen2", "qwen3", "qwen3_moe", "smollm3",
}  # fmt: skip
WIDEST_HEAD = 256  # of torch's kernel

Opening = tuple[torch.Tensor, torch.Tensor]  # its keys and its values, [P, N, D], contiguous

# H heads, N heads of keys, S positions of the row, P of an opening, D width of a head


def supports_packing(model: PreTrainedModel) -> bool:
    """Whether this model computes the same packed as with one row per study."""
    config = model.config.get_text_config()
    return (
        config.model_type in PACKED
        and not getattr(config, "alibi", False)
        and getattr(config, "attn_logit_softcapping", None) is None
    )


def packs_on(model: PreTrainedModel, device: torch.device) -> bool:
    """Whether packing saves time: the kernel is for half precision on a GPU."""
    if device.type != "cuda" or model.dtype not in (torch.bfloat16, torch.float16):
        return False
    head = _head_width(model)
    return (
        0 < head <= WIDEST_HEAD
        and head % 8 == 0
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and supports_packing(model)
    )


def follows_opening(model: PreTrainedModel, device: torch.device, longest: int) -> bool:
    """Whether studies of at most this length can attend to an opening that all of them share: torch's kernel has none.

    `by_mask`, which computes on a CPU, can.
    """
    _load_kernel()
    return device.type == "cpu" or (_own_kernels and packed_kernel.fits(_head_width(model), longest))


def _head_width(model: PreTrainedModel) -> int:
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)  # Mamba has none
    return int(getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0))


@contextmanager
def packed(model: PreTrainedModel) -> Iterator[None]:
    """Let the layers of a model attend by packed_attention, which needs cu_seq_lens_q and max_length_q."""
    _load_kernel()
    with attending_by(model, NAME):
        yield


def packed_attention(
    module: nn.Module,
    query_1HSD: torch.Tensor,
    key_1NSD: torch.Tensor,
    value_1NSD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    *,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    after_opening: bool = False,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: the result [1, S, H, D] for studies that begin at `cu_seq_lens_q`.

    Studies `after_opening` also attend to the keys and values that lm/opening.py has kept in the module.
    """
    assert attention_mask is None
    assert others.get("softcap") is None
    query_SHD, key_SND, value_SND = (x[0].transpose(0, 1) for x in (query_1HSD, key_1NSD, value_1NSD))
    opening: Any = module.opening if after_opening else None
    options: dict[str, Any] = {"scaling": scaling, "window": sliding_window, "opening": opening}
    if query_1HSD.is_cuda and query_1HSD.dtype != torch.float32:
        result_SHD = _by_kernel(query_SHD, key_SND, value_SND, cu_seq_lens_q, max_length_q, **options)
    else:
        result_SHD = by_mask(query_SHD, key_SND, value_SND, cu_seq_lens_q, **options)
    return result_SHD[None], None


def _by_kernel(
    query_SHD: torch.Tensor,
    key_SND: torch.Tensor,
    value_SND: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    *,
    scaling: float | None,
    window: int | None,
    opening: Opening | None,
) -> torch.Tensor:
    """By our kernels where they fit and Triton works, and otherwise by torch's."""
    if _own_kernels and packed_kernel.fits(query_SHD.shape[2], longest):
        row = query_SHD, key_SND, value_SND, starts, longest
        return packed_operator.attend(*row, scaling=scaling, window=window, opening=opening)
    assert _kernel is not None
    assert opening is None
    group = query_SHD.shape[1] // key_SND.shape[1]
    if group > 1 and not _kernel_groups:
        key_SND, value_SND = key_SND.repeat_interleave(group, 1), value_SND.repeat_interleave(group, 1)
    options = {"enable_gqa": True} if group > 1 and _kernel_groups else {}
    result: torch.Tensor = _kernel(
        query_SHD,
        key_SND,
        value_SND,
        starts,
        starts,
        longest,
        longest,
        scale=scaling,
        window_size=(window - 1 if window else -1, 0),  # causal
        **options,
    )
    return result


def by_mask(
    query_SHD: torch.Tensor,
    key_SND: torch.Tensor,
    value_SND: torch.Tensor,
    starts: torch.Tensor,
    *,
    scaling: float | None,
    window: int | None,
    opening: Opening | None = None,
) -> torch.Tensor:
    """The plain twin of the kernels, for every device and precision; its mask is [S, P + S]."""
    place_S = torch.arange(len(query_SHD), device=query_SHD.device)
    study_S = torch.searchsorted(starts[1:].contiguous(), place_S, right=True)
    distance_SC = place_S[:, None] - place_S
    mask_SC = (study_S[:, None] == study_S) & (distance_SC >= 0)
    if opening:
        key_SND, value_SND = torch.cat([opening[0], key_SND]), torch.cat([opening[1], value_SND])
        before_P = torch.arange(len(opening[0]), 0, -1, device=query_SHD.device)
        distance_SC = torch.cat([(place_S - starts[study_S])[:, None] + before_P, distance_SC], dim=1)
        mask_SC = torch.cat([mask_SC.new_ones(len(mask_SC), len(before_P)), mask_SC], dim=1)
    if window:
        mask_SC &= distance_SC < window
    group = query_SHD.shape[1] // key_SND.shape[1]
    query_1HSD, key_1HSD, value_1HSD = (
        x.repeat_interleave(times, 1).transpose(0, 1)[None]
        for x, times in ((query_SHD, 1), (key_SND, group), (value_SND, group))
    )
    result_1HSD = F.scaled_dot_product_attention(query_1HSD, key_1HSD, value_1HSD, attn_mask=mask_SC, scale=scaling)
    return result_1HSD[0].transpose(0, 1)


def _load_kernel() -> None:
    """Import torch's kernel, which takes 2 s, since it imports the compiler too, and try our own."""
    global _kernel, _kernel_groups, _own_kernels
    if _kernel is None and torch.cuda.is_available():
        from torch.nn.attention.varlen import varlen_attn

        _kernel, _kernel_groups = varlen_attn, "enable_gqa" in signature(varlen_attn).parameters  # not in torch 2.11
        _own_kernels = triton_works() and measured()


_kernel: Callable[..., Any] | None = None
_kernel_groups = False  # whether several heads may share keys
_own_kernels = False  # whether they are used on this machine
AttentionInterface.register(NAME, packed_attention)
