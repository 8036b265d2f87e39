"""The pass of a language model over a few prompts as one CUDA graph, so that the GPU does not wait for its launches."""

import torch
from transformers import PreTrainedModel

from r2gen.lm.target_loss import Logits, decode_states
from r2gen.lm.tree_attention import Tree, attending_to

# R prompts, T positions, E width of the model
MOST_POSITIONS = 8192  # of all prompts together: a longer pass takes the GPU longer than its launches take the host


class PromptStates:
    """The last hidden states of prompts, whose keys and values go into a tree. Without a graph on a CPU."""

    def __init__(self, model: PreTrainedModel, tree: Tree) -> None:
        self.model, self.tree = model, tree
        self.captures = tree.kernel
        self.graph: torch.cuda.CUDAGraph | None = None
        self.embeds_RTE = self.rows_R = self.states_RTE = torch.empty(0)
        self.logits: Logits | None = None

    def __call__(self, embeds_RTE: torch.Tensor, rows_R: torch.Tensor) -> tuple[torch.Tensor, Logits]:
        """The states [R, T, E], until the next call, and the function from states to logits; `rows_R` are the slots."""
        if not self._fits(embeds_RTE, rows_R):
            return self._computed(embeds_RTE, rows_R)
        if self.graph is None:
            states_RTE, logits = self._computed(embeds_RTE, rows_R)  # the first pass prepares what a graph cannot
            self.embeds_RTE, self.rows_R = embeds_RTE.clone(), rows_R.clone()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.states_RTE, self.logits = self._computed(self.embeds_RTE, self.rows_R)
            return states_RTE, logits
        self.embeds_RTE.copy_(embeds_RTE)
        self.rows_R.copy_(rows_R)
        self.graph.replay()
        assert self.logits is not None
        return self.states_RTE, self.logits

    def _fits(self, embeds_RTE: torch.Tensor, rows_R: torch.Tensor) -> bool:
        size, width, _ = embeds_RTE.shape
        return self.captures and len(rows_R) == size and size * width <= MOST_POSITIONS

    def _computed(self, embeds_RTE: torch.Tensor, rows_R: torch.Tensor) -> tuple[torch.Tensor, Logits]:
        position_T = self.tree.opening + torch.arange(embeds_RTE.shape[1], device=embeds_RTE.device)
        position_RT = position_T.expand(len(embeds_RTE), -1)
        self.tree.begin(rows_R)
        with attending_to(self.tree):
            return decode_states(self.model, inputs_embeds=embeds_RTE, position_ids=position_RT)
