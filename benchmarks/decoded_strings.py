"""Count the reports in which tree decoding and transformers differ:  python benchmarks/decoded_strings.py FOLDER [...]

For each checkpoint, the reports of seven prompts of random embeddings and of different lengths, with padding at random
positions, are decoded by transformers' generate() and as trees: by eleven profiles, in 7, 3 and 2 slots, with the
prompts in other batches and another order. Some frequent tokens end a report, so that reports have different lengths.
In fp32 no report may differ (r2gen/lm/tree_decoding.py); `--bf16` shows what rounding changes.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from r2gen.config.decoding import Decoding
from r2gen.lm import LanguageModel, load_lm
from r2gen.lm.protocol import DecoderName, DecodingPlan, Generated, Prompts

# B batch, T positions of a prompt, E width
STUDIES, WIDTH, TOKENS = 7, 17, 24
PROFILES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, penalty 2": {"repetition_penalty": 2.0},
    "greedy, 2-grams": {"no_repeat_ngram_size": 2, "min_new_tokens": 8},
    "beam 3": {"num_beams": 3},
    "beam 3, penalty 1.2, early": {"num_beams": 3, "early_stopping": True, "repetition_penalty": 1.2},
    "beam 3, R2GenGPT": {"num_beams": 3, "repetition_penalty": 2.0, "length_penalty": 2.0, "min_new_tokens": 10},
    "beam 3, never": {"num_beams": 3, "early_stopping": "never", "length_penalty": 0.0},
    "beam 3, 3-grams": {"num_beams": 3, "no_repeat_ngram_size": 3, "min_new_tokens": 4},
    "beam 5, never": {"num_beams": 5, "early_stopping": "never", "length_penalty": 1.3},
    "nucleus": {"do_sample": True, "top_p": 0.9, "repetition_penalty": 1.2},
    "top-k": {"do_sample": True, "top_k": 20, "temperature": 1.5, "seed": 3, "min_new_tokens": 5},
}
ORDERS: Sequence[tuple[int, Sequence[Iterable[int]]]] = (
    (7, [range(7)]),
    (3, [range(4), range(4, 7)]),
    (2, [range(5, 7), range(5)]),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    compared = differ = 0
    for folder in options.folders:
        lm = load_lm(folder, dtype="bfloat16" if options.bf16 else "float32")
        decoder = lm.decoder_for(Decoding(max_new_tokens=TOKENS))
        if decoder != "tree":
            print(f"{folder.name:16s} decoded by {decoder}", flush=True)
            continue
        let_reports_end(lm)
        counts = {name: differing(lm, Decoding(max_new_tokens=TOKENS, **keys)) for name, keys in PROFILES.items()}
        compared += len(ORDERS) * STUDIES * len(counts)
        differ += sum(counts.values())
        wrong = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        print(f"{folder.name:16s} {len(ORDERS) * STUDIES * len(counts)} compared; {wrong or 'none differ'}", flush=True)
    print(f"{compared} compared, {differ} differ")
    return 0 if options.bf16 or not differ else 1


def differing(lm: LanguageModel, decoding: Decoding) -> int:
    """How many reports differ from transformers' in any of the orders."""
    expected = reports(lm, decoding, [range(STUDIES)], slots=STUDIES, decoder="transformers")
    decoded = [reports(lm, decoding, batches, slots=slots, decoder="tree") for slots, batches in ORDERS]
    return sum(report != other[id] for other in decoded for id, report in expected.items())


def reports(
    lm: LanguageModel, decoding: Decoding, batches: Sequence[Iterable[int]], *, slots: int, decoder: DecoderName
) -> dict[str, Generated]:
    source = torch.Generator().manual_seed(5)
    rows = lm.model.get_input_embeddings().get_parameter("weight").shape[0]
    embeds_BTE = lm.embed(torch.randint(3, rows, (STUDIES, WIDTH), generator=source)).detach()
    embeds_BTE += 3 * embeds_BTE.std() * torch.randn(embeds_BTE.shape, generator=source).to(embeds_BTE)
    mask_BT = torch.zeros(STUDIES, WIDTH, dtype=torch.bool)
    for study in range(STUDIES):
        mask_BT[study, torch.randperm(WIDTH, generator=source)[: WIDTH - 2 * (study % 4)]] = True
    taken = [list(batch) for batch in batches]
    prompts = (Prompts([str(i) for i in batch], embeds_BTE[batch], mask_BT[batch]) for batch in taken)
    return dict(lm.stream(prompts, decoding, DecodingPlan(slots=slots, decoder=decoder)))


def let_reports_end(lm: LanguageModel) -> None:
    """Let three frequent tokens end a report."""
    beams = Decoding(max_new_tokens=TOKENS, num_beams=3)
    written = reports(lm, beams, [range(STUDIES)], slots=STUDIES, decoder="transformers").values()
    count = Counter(token for report in written for token in set(report.ids))
    ends = [token for token, _ in count.most_common(9)][6:]
    lm.tokenizer.eos_ids = tuple(dict.fromkeys([*lm.tokenizer.eos_ids, *ends]))


if __name__ == "__main__":
    sys.exit(main())
