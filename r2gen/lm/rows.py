"""Where the real positions of prompts and reports go: one row per study, or one row of all studies.

The layout is computed on the CPU, where all lengths are known, so that no step waits for the GPU.
"""

from dataclasses import dataclass
from typing import Any

import torch

from r2gen.data.collate import NO_TARGET, moved

# B studies, T positions of the prompt, L tokens of the report, R rows, S positions of a row, M targets, E width
MULTIPLE = 64  # of the length of a row of all studies: matrix products are fastest for such


@dataclass(frozen=True)
class Layout:
    """Indices into the positions of all prompts, [B x T], followed by those of all reports, [B x L].

    In a row, the real positions of a study follow each other: its prompt, and its report without the last token, from
    which nothing is predicted. What is behind them is padding, which no real position of a causal model attends to: it
    needs no mask.
    """

    source_RS: torch.Tensor  # the position that goes there; 0 for padding
    before_M: torch.Tensor  # of each target, where in the rows it is predicted: the position of the token before it
    column_M: torch.Tensor  # of each target, where it is in the reports [B x L]
    position_RS: torch.Tensor | None = None  # the position within its study, in a row of all studies
    starts: torch.Tensor | None = None  # int32: where each study of such a row begins, and the end of the row
    longest: int = 0  # no study of such a row is longer
    after_opening: bool = False  # whether the studies of such a row follow positions that all of them share

    def packing(self) -> dict[str, Any]:
        """The arguments of packed attention."""
        assert self.position_RS is not None
        return {
            "position_ids": self.position_RS,
            "cu_seq_lens_q": self.starts,
            "max_length_q": self.longest,
            "after_opening": self.after_opening,
        }

    def to(self, device: torch.device) -> "Layout":
        return Layout(
            source_RS=moved(self.source_RS, device),
            before_M=moved(self.before_M, device),
            column_M=moved(self.column_M, device),
            position_RS=None if self.position_RS is None else moved(self.position_RS, device),
            starts=None if self.starts is None else moved(self.starts, device),
            longest=self.longest,
            after_opening=self.after_opening,
        )


def layout(mask_BT: torch.Tensor, report_BL: torch.Tensor, *, packed: bool, opening: int = 0) -> Layout:
    """The layout of a batch, on the CPU; `packed`: one row of all studies, whose length is a multiple of 64.

    `mask_BT` is the real positions of the prompts, `report_BL` the ids, right-padded with NO_TARGET. The first
    `opening` positions of each prompt are real, with another one behind them, and are left out of the row.
    """
    size, width = mask_BT.shape
    mask_BT, target_BL = mask_BT.cpu().bool(), report_BL.cpu() != NO_TARGET
    followed_BL = torch.zeros_like(target_BL)
    followed_BL[:, :-1] = target_BL[:, 1:]
    real_BC = torch.cat([mask_BT, followed_BL], dim=1)
    real_BC[:, :opening] = False
    study_N, column_N = real_BC.nonzero(as_tuple=True)
    before_BC = real_BC.cumsum(dim=1) - real_BC.long()  # how many real positions of its study are before a column
    place_N = before_BC[study_N, column_N]
    source_N = torch.where(
        column_N < width,
        study_N * width + column_N,
        size * width + study_N * report_BL.shape[1] + column_N - width,
    )
    lengths_B = real_BC.sum(dim=1)
    longest = max(1, int(lengths_B.max()))
    if packed:
        ends_B = lengths_B.cumsum(dim=0)
        total = int(ends_B[-1])
        slots = -(-total // MULTIPLE) * MULTIPLE
        starts_B, shape = ends_B - lengths_B, (1, slots)
    else:
        starts_B, shape = torch.arange(size) * longest, (size, longest)
    index_N = starts_B[study_N] + place_N
    source_RS = torch.zeros(shape, dtype=torch.long)
    source_RS.view(-1)[index_N] = source_N
    study_M, token_M = target_BL.nonzero(as_tuple=True)
    before_M = starts_B[study_M] + before_BC[study_M, width + token_M] - 1
    column_M = study_M * report_BL.shape[1] + token_M
    if not packed:
        return Layout(source_RS=source_RS, before_M=before_M, column_M=column_M)
    position_RS = torch.zeros(shape, dtype=torch.long)
    position_RS[0, index_N] = place_N + opening
    position_RS[0, total:] = torch.arange(slots - total)
    return Layout(
        source_RS=source_RS,
        before_M=before_M,
        column_M=column_M,
        position_RS=position_RS,
        # the padding is one more study, of at most 63 positions, which may be empty
        starts=torch.cat([torch.zeros(1, dtype=torch.long), ends_B, torch.tensor([slots])]).int(),
        longest=-(-longest // MULTIPLE) * MULTIPLE,
        after_opening=opening > 0,
    )
