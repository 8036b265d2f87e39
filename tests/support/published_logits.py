"""The logits of a family, written out plainly from the published tensors, one sequence at a time.

Shares no code with r2gen.lm.families.
"""

from dataclasses import dataclass

import torch
from published_lm import FORMATS, Shape, Tensors
from torch.nn import functional as F

# T tokens, E width, D head width, N query heads, K key and value heads, V vocabulary


@dataclass(frozen=True)
class Layer:
    """A block's weights, by what they do."""

    norms: tuple[torch.Tensor, torch.Tensor]
    query: tuple[torch.Tensor, torch.Tensor | None]
    key: tuple[torch.Tensor, torch.Tensor | None]
    value: tuple[torch.Tensor, torch.Tensor | None]
    output: tuple[torch.Tensor, torch.Tensor | None]
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


def logits(family: str, shape: Shape, tensors: Tensors, embeds_TE: torch.Tensor) -> torch.Tensor:
    """What the family computes for one sequence of embeddings: [T, V]."""
    names = FORMATS[family].names
    hidden_TE = embeds_TE
    for i in range(shape.layers):
        layer = _layer(family, shape, tensors, i)
        hidden_TE = hidden_TE + _attend(family, shape, layer, _rms(hidden_TE, layer.norms[0]))
        inner_TE = _rms(hidden_TE, layer.norms[1])
        hidden_TE = hidden_TE + (F.silu(inner_TE @ layer.gate.T) * (inner_TE @ layer.up.T)) @ layer.down.T
    head_VE = tensors[names["head"] + ".weight"]
    if shape.norm_head:
        head_VE = head_VE / (head_VE**2).sum(dim=1, keepdim=True).sqrt()
    return _rms(hidden_TE, tensors[names["norm"] + ".weight"]) @ head_VE.T


def _layer(family: str, shape: Shape, tensors: Tensors, i: int) -> Layer:
    kind = FORMATS[family]

    def get(part: str, what: str = "weight") -> torch.Tensor | None:
        return tensors.get(f"{kind.names[part].format(i)}.{what}")

    parts = {part: [get(part, what) for what in ("weight", "bias")] for part in "qkv"} if not kind.fused else {}
    if kind.fused:
        both = [get("qkv", what) for what in ("weight", "bias")]
        rows = _row_numbers(kind.fused, shape)
        parts = {part: [None if tensor is None else tensor[rows[part]] for tensor in both] for part in "qkv"}
    gate, up = get("gate_up").chunk(2) if kind.gate_up else (get("gate"), get("up"))
    return Layer(
        (get("norm1"), get("norm2")),
        *(tuple(parts[part]) for part in "qkv"),
        (get("o"), get("o", "bias")),
        gate,
        up,
        get("down"),
    )


def _row_numbers(fused: str, shape: Shape) -> dict[str, list[int]]:
    """Which rows of the fused tensor are queries, keys and values, counted out one by one."""
    rows: dict[str, list[int]] = {"q": [], "k": [], "v": []}
    if fused == "rows":
        order = ["q"] * shape.heads + ["k"] * shape.groups + ["v"] * shape.groups
    else:
        order = (["q"] * (shape.heads // shape.groups) + ["k", "v"]) * shape.groups
    for head, part in enumerate(order):
        rows[part] += range(head * shape.head_dim, (head + 1) * shape.head_dim)
    return rows


def _attend(family: str, shape: Shape, layer: Layer, hidden_TE: torch.Tensor) -> torch.Tensor:
    length, width = len(hidden_TE), shape.head_dim
    query, key, value = (
        F.linear(hidden_TE, *part).view(length, -1, width) for part in (layer.query, layer.key, layer.value)
    )
    if not shape.alibi:
        query, key = (_rotate(family, shape, states) for states in (query, key))
    heads = []
    for head in range(shape.heads):
        own = head * shape.groups // shape.heads
        scores_TT = query[:, head] @ key[:, own].T / width**0.5
        if shape.alibi:
            back_TT = torch.arange(length)[:, None] - torch.arange(length)[None, :]
            scores_TT = scores_TT - _slope(head, shape.heads) * back_TT
        scores_TT = scores_TT.masked_fill(torch.ones(length, length).triu(1).bool(), float("-inf"))
        heads.append(scores_TT.softmax(dim=1) @ value[:, own])
    return F.linear(torch.cat(heads, dim=1), *layer.output)


def _slope(head: int, heads: int) -> float:
    """Press et al.'s recipe: for other numbers than powers of two, the rest comes from twice as many heads."""
    power = 2 ** (len(f"{heads:b}") - 1)
    if head < power:
        return float(2 ** (-8 / power * (head + 1)))
    return _slope(2 * (head - power), 2 * power)


def _rotate(family: str, shape: Shape, heads_TND: torch.Tensor) -> torch.Tensor:
    """Rotary positions by complex numbers: ChatGLM turns neighbours in the first half, the others i and i + D / 2."""
    width = shape.head_dim // 2 if family == "chatglm" else shape.head_dim
    turned, unturned = heads_TND[..., :width], heads_TND[..., width:]
    base = 10000.0 if family == "baichuan" else shape.base
    angle = torch.arange(len(heads_TND))[:, None] * base ** (-torch.arange(0, width, 2) / width)
    turn = torch.polar(torch.ones_like(angle), angle)[:, None]
    if family == "chatglm":
        pairs = torch.view_as_complex(turned.unflatten(-1, (-1, 2)).contiguous())
        return torch.cat([torch.view_as_real(pairs * turn).flatten(-2), unturned], dim=-1)
    first, second = turned.chunk(2, dim=-1)
    both = torch.complex(first, second) * turn
    return torch.cat([both.real, both.imag], dim=-1)


def _rms(hidden_TE: torch.Tensor, weight_E: torch.Tensor) -> torch.Tensor:
    return hidden_TE * (hidden_TE.pow(2).mean(dim=-1, keepdim=True) + 1e-6).rsqrt() * weight_E
