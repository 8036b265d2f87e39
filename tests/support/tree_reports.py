"""Prompts of different lengths, and what a language model writes after them."""

from collections.abc import Iterable

import torch

from r2gen.config.decoding import Decoding
from r2gen.lm import LanguageModel
from r2gen.lm.protocol import DecoderName, DecodingPlan, Generated, Prompts

# B batch, T positions of a prompt, E width
STUDIES, WIDTH, TOKENS = 7, 17, 12
PROFILES = {
    "greedy": Decoding(max_new_tokens=TOKENS),
    "greedy penalty": Decoding(max_new_tokens=TOKENS, repetition_penalty=2.0),
    "greedy n-grams": Decoding(max_new_tokens=TOKENS, no_repeat_ngram_size=2, min_new_tokens=8),
    "greedy no token twice": Decoding(max_new_tokens=TOKENS, no_repeat_ngram_size=1),
    "beam3": Decoding(max_new_tokens=TOKENS, num_beams=3),
    "beam3 penalty": Decoding(
        max_new_tokens=TOKENS, num_beams=3, repetition_penalty=2.0, length_penalty=2.0, min_new_tokens=5
    ),
    "beam3 never": Decoding(max_new_tokens=TOKENS, num_beams=3, early_stopping="never", length_penalty=0.0),
    "beam3 early": Decoding(
        max_new_tokens=TOKENS, num_beams=3, early_stopping=True, repetition_penalty=1.2, no_repeat_ngram_size=3
    ),
    "beam5": Decoding(max_new_tokens=TOKENS, num_beams=5, early_stopping="never", length_penalty=1.3),
    "nucleus": Decoding(max_new_tokens=TOKENS, do_sample=True, top_p=0.9, repetition_penalty=1.2),
    "top-k": Decoding(max_new_tokens=TOKENS, min_new_tokens=5, do_sample=True, top_k=20, temperature=1.5, seed=3),
}
WINDOW = 6  # shorter than most prompts
FAMILIES = [
    "baichuan2_7b", "baichuan_7b", "chatglm2", "chatglm3", "gemma2", "gemma3", "glm4", "glm4_hf", "internlm",
    "internlm2", "internlm3", "llama2_json", "llama2_spm", "llama3", "mistral", "phi3", "qwen", "qwen2", "qwen3",
    "stablelm", "yi",
]  # fmt: skip

WITH_WINDOWS = ["mistral", "gemma2", "gemma3"]


def prompts_of(lm: LanguageModel) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Prompts of different lengths, with padding at random positions."""
    source = torch.Generator().manual_seed(5)
    rows = lm.model.get_input_embeddings().get_parameter("weight").shape[0]
    embeds_BTE = lm.embed(torch.randint(3, rows, (STUDIES, WIDTH), generator=source)).detach()
    embeds_BTE += 3 * embeds_BTE.std() * torch.randn(embeds_BTE.shape, generator=source)
    mask_BT = torch.zeros(STUDIES, WIDTH, dtype=torch.bool)
    for study in range(STUDIES):
        mask_BT[study, torch.randperm(WIDTH, generator=source)[: WIDTH - 2 * (study % 4)]] = True
    return [f"study {number}" for number in range(STUDIES)], embeds_BTE, mask_BT


def reports(
    lm: LanguageModel,
    decoding: Decoding,
    batches: Iterable[Iterable[int]],
    *,
    slots: int = STUDIES,
    decoder: DecoderName = "tree",
) -> dict[str, Generated]:
    ids, embeds_BTE, mask_BT = prompts_of(lm)
    prompts = (
        Prompts([ids[i] for i in batch], embeds_BTE[[*batch]], mask_BT[[*batch]]) for batch in map(list, batches)
    )
    return dict(lm.stream(prompts, decoding, DecodingPlan(slots=slots, decoder=decoder)))


def narrow_windows(lm: LanguageModel) -> None:
    lm.model.config.sliding_window = WINDOW
    for module in lm.model.modules():
        if module.__dict__.get("sliding_window"):
            module.sliding_window = WINDOW  # type: ignore[assignment]
