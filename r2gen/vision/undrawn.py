"""Building a model whose weights are all read afterwards, without drawing them: a second less for a Swin-B or ViT-B."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import init
from torch.overrides import TorchFunctionMode

DRAWING: set[Callable[..., Any]] = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_}
DRAWING |= {getattr(init, name) for name in vars(init) if name.endswith(("normal_", "uniform_", "orthogonal_"))}
SCALING = {torch.Tensor.mul_, torch.Tensor.add_, torch.Tensor.clamp_}  # what timm does with a weight that is drawn


class Undrawn(TorchFunctionMode):
    """Leave weights as they were allocated, for a load of all of them, and the random state as it is.

    Initial values that are not random, such as those of buffers, are computed.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        left = func in DRAWING or (func in SCALING and isinstance(tensor, nn.Parameter))
        return tensor if left else func(*args, **kwargs)
