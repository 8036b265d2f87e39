"""Count the reports that depend on their batch:  python benchmarks/batch_dependence.py FOLDER [FOLDER ...]

For each checkpoint, 64 prompts of random embeddings and of different lengths are decoded one by one, and eight at a
time with padding: greedily and with three beams, with three repetition penalties each. In fp32 no report may differ
(r2gen/lm/precise.py). In bf16, rounding depends on the shape of the batch, so that nearly equal tokens swap places.
"""

import argparse
from pathlib import Path

import torch

from r2gen.config.decoding import Decoding
from r2gen.lm import LanguageModel, load_lm

# B batch, T positions of the prompt, E width
PROMPTS, BATCH, SHORTEST, LONGEST, TOKENS = 64, 8, 16, 64, 32
PROFILES = [(beams, penalty) for beams in (1, 3) for penalty in (1.0, 1.2, 2.0)]


def prompts(lm: LanguageModel, device: str) -> list[torch.Tensor]:
    """Embeddings of random tokens, with noise of their own size."""
    source = torch.Generator().manual_seed(0)
    rows = lm.model.get_input_embeddings().get_parameter("weight").shape[0]
    made = []
    for _ in range(PROMPTS):
        length = int(torch.randint(SHORTEST, LONGEST, (), generator=source))
        embeds_TE = lm.embed(torch.randint(3, rows, (1, length), generator=source).to(device))[0]
        noise_TE = torch.randn(embeds_TE.shape, generator=source).to(embeds_TE)
        made.append(embeds_TE + embeds_TE.std() * noise_TE)
    return made


def padded(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(row_TE) for row_TE in rows)
    embeds_BTE = rows[0].new_zeros(len(rows), longest, rows[0].shape[1])
    mask_BT = torch.zeros(len(rows), longest, dtype=torch.bool, device=rows[0].device)
    for row, embeds_TE in enumerate(rows):
        embeds_BTE[row, longest - len(embeds_TE) :], mask_BT[row, longest - len(embeds_TE) :] = embeds_TE, True
    return embeds_BTE, mask_BT


def reports(lm: LanguageModel, rows: list[torch.Tensor], decoding: Decoding, *, batch: int) -> list[tuple[int, ...]]:
    return [
        report.ids
        for first in range(0, len(rows), batch)
        for report in lm.generate(*padded(rows[first : first + batch]), decoding)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    where = f"{options.dtype} on {options.device}"
    print(f"reports of {PROMPTS} that differ between batches of 1 and of {BATCH}: {where}")
    heads = [f"{beams} beam x{penalty}" for beams, penalty in PROFILES]
    print(f"{'lm':<18}" + "".join(f"{head:>13}" for head in heads), flush=True)
    total = 0
    for folder in options.folders:
        lm = load_lm(folder, dtype=options.dtype, device_map={"": options.device})
        changed = []
        with torch.inference_mode():
            rows = prompts(lm, options.device)
            for beams, penalty in PROFILES:
                decoding = Decoding(
                    num_beams=beams, repetition_penalty=penalty, max_new_tokens=TOKENS, min_new_tokens=4
                )
                alone, together = (reports(lm, rows, decoding, batch=batch) for batch in (1, BATCH))
                changed.append(
                    sum(alone_ids != together_ids for alone_ids, together_ids in zip(alone, together, strict=True))
                )
        total += sum(changed)
        print(f"{folder.name:<18}" + "".join(f"{count:>13}" for count in changed), flush=True)
    possible = len(options.folders) * len(PROFILES) * PROMPTS
    print(f"{total} of {possible} reports ({total / possible:.1%})")


if __name__ == "__main__":
    main()
