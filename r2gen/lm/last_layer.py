"""In the last layer, the feed-forward network of those positions only from which a token is predicted.

Of the others nothing reads its result: no later layer attends to them, and the head gets the predicting positions. Half
of the positions of a study are prompt, so that this saves a third of the last layer, forward and backward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from transformers import PreTrainedModel

from r2gen.lm.compile import forward_of

# R rows of S positions, M predicting positions, E width


@contextmanager
def last_layer_at(model: PreTrainedModel, before_M: torch.Tensor) -> Iterator[None]:
    """Let the last layer's `mlp` compute these positions of the rows [R x S] only, and give 0 for the others.

    For models whose `mlp` takes each position on its own and adds its result to the same position, as those that
    lm/packed_attention.py lists.
    """
    mlp: Any = model.get_decoder().layers[-1].mlp
    mlp.predicting_M = before_M
    try:
        with forward_of(mlp, MethodType(_at_predicting, mlp)):
            yield
    finally:
        del mlp.predicting_M


def _at_predicting(mlp: Any, states_RSE: torch.Tensor) -> torch.Tensor:
    states_NE = states_RSE.flatten(0, 1)
    result_1ME = type(mlp).forward(mlp, states_NE.index_select(0, mlp.predicting_M)[None])
    return torch.zeros_like(states_NE).index_copy(0, mlp.predicting_M, result_1ME[0]).view_as(states_RSE)
