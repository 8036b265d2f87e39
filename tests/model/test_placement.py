"""Weights that hold NaN or infinity are refused before training, with the name of the tensor."""

import pytest
import torch
from torch import nn

from r2gen.errors import UserError
from r2gen.model.placement import check_finite


@pytest.mark.parametrize("part", ["lm", "vision"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_that_is_nan_or_infinite_is_refused_by_name(part: str, value: float, dtype: torch.dtype):
    parts = nn.ModuleDict(
        {"lm": nn.Linear(4, 3), "vision": nn.Linear(4, 3), "projector": nn.ParameterList([torch.empty(0)])}
    ).to(dtype)
    check_finite(parts)  # type: ignore[arg-type]
    with torch.no_grad():
        parts[part].weight[1, 2] = torch.finfo(dtype).max  # the largest finite value is accepted
        check_finite(parts)  # type: ignore[arg-type]
        parts[part].weight[2, 1] = value
    with pytest.raises(UserError, match=rf"^{part}\.path: {part}\.weight holds NaN or infinite values: fetch"):
        check_finite(parts)  # type: ignore[arg-type]
