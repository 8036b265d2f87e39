"""The layers of a frozen language model, divided among the ranks of ZeRO 3.

Each rank keeps a part of each layer and gathers the whole layer shortly before it is used, in the forward and in the
backward pass. Frozen weights never change, so a gathered layer stays valid: a few buffers hold the layers that were
used last and those that come next, and at the turn from forward to backward, and from a step to the next, the layers
are there already. DeepSpeed divides what trains. For frozen layers it would gather into new memory each time, copy each
weight out of it, and run hooks in Python around every module.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from r2gen.ranks import dist

ALIGNMENT = 256  # bytes, of each weight in a layer's memory; kernels read aligned weights faster
NO_BACKWARD = -1  # torch's number of the backward pass that runs, if none does


@dataclass(frozen=True)
class Place:
    """A weight, or a view of one, as a place in the memory of its layer."""

    start: int  # in values of the type
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    def of(self, buffer: torch.Tensor) -> torch.Tensor:
        values = buffer[: buffer.numel() // self.dtype.itemsize * self.dtype.itemsize].view(self.dtype)
        return values.as_strided(self.shape, self.stride, self.start)


@dataclass
class Layer:
    """A layer, of which this rank keeps the bytes `own`. Its weights are views of `buffer`, or empty."""

    number: int
    weights: list[tuple[nn.Parameter, Place]]
    own: torch.Tensor
    size: int  # bytes on all ranks together
    buffer: torch.Tensor | None = None
    work: dist.Work | None = None  # which fills the buffer
    used: torch.cuda.Event | None = None  # after the last kernel that reads the buffer
    hooks: list[Any] = field(default_factory=list)

    def show(self) -> None:
        """Let the weights be views of the buffer as soon as it is filled."""
        assert self.buffer is not None
        if self.work is not None:
            self.work.wait()
            self.work = None
            for weight, place in self.weights:
                weight.data = place.of(self.buffer)

    def drop(self) -> None:
        if self.work is not None:
            self.work.wait()
        self.buffer = self.work = None
        for weight, _ in self.weights:
            weight.data = weight.new_empty(0)

    def saves(self) -> saved_tensors_hooks:
        """A context in which what is saved for the backward pass is no view of the buffer, which others will fill.

        By then the buffer is another one, with the same weights. (F.linear saves a view of its weight.)
        """
        assert self.buffer is not None
        address = self.buffer.untyped_storage().data_ptr()

        def pack(tensor: torch.Tensor) -> torch.Tensor | Place:
            plain = type(tensor) in (torch.Tensor, nn.Parameter)  # none that a compiler traces with
            if not plain or not tensor.numel() or tensor.untyped_storage().data_ptr() != address:
                return tensor
            return Place(int(tensor.storage_offset()), tensor.shape, tensor.stride(), tensor.dtype)

        def unpack(saved: torch.Tensor | Place) -> torch.Tensor:
            if isinstance(saved, torch.Tensor):
                return saved
            assert self.buffer is not None
            assert self.work is None
            return saved.of(self.buffer)

        return saved_tensors_hooks(pack, unpack)


def can_be_divided(layers: Sequence[nn.Module]) -> bool:
    """Whether these layers are frozen and have plain weights of their own, and are on one device."""
    weights = [weight for layer in layers for weight in layer.parameters()]
    return (
        bool(layers)
        and len({id(weight) for weight in weights}) == len(weights)
        and len({weight.device for weight in weights}) == 1
        and all(type(w.data) is torch.Tensor and w.is_contiguous() and not w.requires_grad for w in weights)
    )


class DividedLayers:
    """Layers whose weights are divided; `room` weights may be gathered at a time, but at least those of two layers.

    All ranks must create it, and must use the layers in the same order and equally often.
    """

    def __init__(self, layers: Sequence[nn.Module], *, room: int) -> None:
        self.layers = [_divide(layer, number) for number, layer in enumerate(layers)]
        largest = max(sum(place.shape.numel() for _, place in layer.weights) for layer in self.layers)
        self.most = min(len(self.layers), max(2, room // max(1, largest)))
        self.gathered: list[Layer] = []  # in the order of their last use
        self.current: Layer | None = None
        self.holds_all = False
        self.stream = torch.cuda.Stream() if self.layers[0].own.is_cuda else None
        for module, layer in zip(layers, self.layers, strict=True):
            self._watch(module, layer)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within this context every rank has all weights. All ranks must enter it."""
        self._hold()
        try:
            yield
        finally:
            self._release()

    def keep_whole(self) -> None:
        """Give every rank all weights for good. All ranks must call it."""
        self._hold()
        for hook in [hook for layer in self.layers for hook in layer.hooks]:
            hook.remove()

    def _hold(self) -> None:
        self._release()
        for layer in self.layers:
            self._gather(layer, self._new_buffer(layer.size))
            layer.show()
        self.holds_all = True

    def _release(self) -> None:
        for layer in self.layers:
            layer.drop()
        self.gathered, self.current, self.holds_all = [], None, False

    def _watch(self, module: nn.Module, layer: Layer) -> None:
        saving: list[saved_tensors_hooks] = []

        def before(*_: Any) -> None:
            self._use(layer)
            # A layer whose activations are computed again saves nothing, and is used at once when it does: in the
            # backward pass, in which transformers calls these hooks once more (5.17) or not (5.23).
            again = module.training and getattr(module, "gradient_checkpointing", False)
            if torch.is_grad_enabled() and not again and torch._C._current_graph_task_id() == NO_BACKWARD:
                saving.append(layer.saves())
                saving[-1].__enter__()

        def after(_: nn.Module, __: Any, output: Any) -> None:
            if saving:
                saving.pop().__exit__()
            states = output[0] if isinstance(output, tuple) else output
            if isinstance(states, torch.Tensor) and states.requires_grad:
                states.register_hook(lambda _: self._use(layer))  # before the backward pass of the layer

        layer.hooks.append(module.register_forward_pre_hook(before))
        layer.hooks.append(module.register_forward_hook(after, always_call=True))

    def _use(self, layer: Layer) -> None:
        """Have the weights of a layer, and gather those that come next meanwhile."""
        before = self.current
        if self.holds_all or before is layer:
            self.current = layer
            return
        if before is not None and self.stream is not None:
            before.used = torch.cuda.current_stream().record_event()
        self._bring(layer)
        self.current = layer
        layer.show()
        step = -1 if before is not None and layer.number < before.number else 1
        for number in range(layer.number + step, layer.number + step * max(2, self.most - 1), step):
            if 0 <= number < len(self.layers):
                self._bring(self.layers[number])

    def _bring(self, layer: Layer) -> None:
        """Gather a layer, unless it is there, in place of the one whose last use is longest ago."""
        if layer in self.gathered:
            self.gathered.remove(layer)
        else:
            self._gather(layer, self._room())
        self.gathered.append(layer)

    def _room(self) -> torch.Tensor:
        if len(self.gathered) < self.most:
            return self._new_buffer(max(layer.size for layer in self.layers))
        oldest = next(layer for layer in self.gathered if layer is not self.current)
        self.gathered.remove(oldest)
        buffer = oldest.buffer
        assert buffer is not None
        oldest.drop()
        if self.stream is not None and oldest.used is not None:
            self.stream.wait_event(oldest.used)
        return buffer

    def _new_buffer(self, size: int) -> torch.Tensor:
        buffer = self.layers[0].own.new_empty(size)
        if self.stream is not None:  # what was in this memory before may still be read
            self.stream.wait_stream(torch.cuda.current_stream())
        return buffer

    def _gather(self, layer: Layer, buffer: torch.Tensor) -> None:
        layer.buffer = buffer
        with torch.cuda.stream(self.stream):  # without an effect on a CPU
            layer.work = dist.gather_into(buffer[: layer.size], layer.own)


def _divide(module: nn.Module, number: int) -> Layer:
    """The layer of a module, whose weights are empty afterwards."""
    weights, end = list[tuple[nn.Parameter, Place]](), 0
    for weight in module.parameters():
        size = weight.element_size()
        weights.append((weight, Place(end // size, weight.shape, weight.stride(), weight.dtype)))
        end += -(-weight.numel() * size // ALIGNMENT) * ALIGNMENT
    own_size = -(-end // (ALIGNMENT * dist.world())) * ALIGNMENT
    whole = weights[0][0].new_zeros(own_size * dist.world(), dtype=torch.uint8)
    for weight, place in weights:
        place.of(whole).copy_(weight.data)
    own = whole[own_size * dist.rank() :][:own_size].clone()
    layer = Layer(number, weights, own, len(whole))
    layer.drop()
    return layer
