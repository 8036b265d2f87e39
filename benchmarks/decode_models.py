"""The three stacks of benchmarks/decode.py over one random LLaMA: R2GenGPT's recipe, transformers' generate(), ours."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, SwinConfig, SwinModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from r2gen.config.decoding import Decoding
from r2gen.data.dataset import StudyDataset
from r2gen.data.loader import evaluation_loader
from r2gen.data.phantom_reports import FINDINGS, write_report
from r2gen.data.reports import Study
from r2gen.evaluate.generate import predict
from r2gen.lm.causal import CausalLM
from r2gen.lm.codecs import TokenizerJson
from r2gen.lm.fp8 import to_fp8
from r2gen.lm.prompt import Prompt
from r2gen.lm.tokenizer import ReportTokenizer, train_tokenizer
from r2gen.model.projector import LinearProjector
from r2gen.model.report_generator import ReportGenerator
from r2gen.vision.encoder import TimmEncoder

# B batch, V views, H height, W width, T positions of the prompt, G generated tokens, E width of the language model
BEFORE = "Human: <Img>"  # R2GenGPT's prompt, as in conf/lm/llama2.yaml
AFTER = "</Img> Generate a comprehensive and detailed diagnosis report for this chest xray image. \nAssistant:"
IMAGES = 64  # different ones; the studies share them
ENCODED = 32  # studies at a time, the default of evaluate.batch_size
STD = 0.02  # of the weights, as transformers draws them


@dataclass(frozen=True)
class Size:
    """The shapes of language model and encoder, and how much shorter the reports are than the published recipe's."""

    llama: dict[str, int]
    swin: dict[str, Any]  # as SwinConfig names them
    vocabulary: int
    shorter: int = 1

    @property
    def encoder(self) -> dict[str, Any]:
        """The same shape as timm names it."""
        return {
            "img_size": self.swin["image_size"],
            **{key: self.swin[key] for key in ("embed_dim", "depths", "num_heads", "window_size")},
        }


SIZES = {
    "7b": Size(
        llama={
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
        },
        swin={
            "image_size": 224,
            "embed_dim": 128,
            "depths": [2, 2, 18, 2],
            "num_heads": [4, 8, 16, 32],
            "window_size": 7,
        },
        vocabulary=32_000,
    ),
    "tiny": Size(
        llama={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 256,
        },
        swin={"image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2},
        vocabulary=1_000,
        shorter=10,
    ),
}


def build_tokenizer(vocabulary: int) -> ReportTokenizer:
    """A tokenizer that knows the words of prompt and reports, as LLaMA's does, and has a text for every id."""
    tokenizer: Any = tokenizer_of_reports(min(vocabulary, 2_000))
    codec = tokenizer.codec.tokenizer
    codec.add_tokens([f" word{i}" for i in range(vocabulary - codec.get_vocab_size())])
    return ReportTokenizer(TokenizerJson(codec), bos_id=1, eos_ids=(2,), pad_id=0)


def tokenizer_of_reports(vocabulary: int) -> ReportTokenizer:
    """A tokenizer trained on reports of phantoms and on R2GenGPT's prompt, which has 26 tokens then."""
    random = np.random.default_rng(0)
    reports = [write_report(frozenset(n for n in FINDINGS if random.random() < 0.15), random) for _ in range(500)]
    return train_tokenizer([*reports, *[BEFORE, AFTER] * 100], vocabulary)


def random_llama(size: Size, *, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A LLaMA with random weights, drawn on the device: seconds for 7 B weights."""
    config = LlamaConfig(**size.llama, vocab_size=size.vocabulary, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    model.to_empty(device=device)
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to(device)  # its buffers are computed, not drawn
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=STD) if parameter.ndim > 1 else torch.nn.init.ones_(parameter)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def quantise(llama: Any, mode: str) -> None:
    """Quantise the layers of a model in memory, as loading it with quant=MODE does."""
    if mode == "int8_weight_only":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(llama.model, Int8WeightOnlyConfig(set_inductor_config=False))
    elif mode == "fp8":
        to_fp8(llama)
    elif mode != "none":
        raise ValueError(f"--quant {mode}: choose none, int8_weight_only or fp8")


def report_generator(model: PreTrainedModel, tokenizer: ReportTokenizer, size: Size) -> ReportGenerator:
    """The product's model around the LLaMA, in its dtype and on its device."""
    encoder = TimmEncoder(
        name="swin_base_patch4_window7_224", image_size_px=size.swin["image_size"], model_args=size.encoder
    )
    prompt = Prompt(before=BEFORE, after=AFTER, bos=True).around(tokenizer, context=False)
    lm = CausalLM(model, tokenizer)
    lm.opening = prompt.opening
    projector = LinearProjector(in_dim=encoder.dim, out_dim=lm.dim)
    made = ReportGenerator(vision=encoder, projector=projector, lm=lm, before=prompt.before, after=prompt.after)
    for part in (made.vision, made.projector):
        part.to(dtype=model.dtype)  # type: ignore[attr-defined]
    return made.to(model.device).eval().requires_grad_(False)


class Studies:
    """Studies of one random image each, held in memory; the loader still reads, stacks and copies them."""

    def __init__(self, size: Size, tokenizer: ReportTokenizer) -> None:
        side = size.swin["image_size"]
        drawn = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (IMAGES, side, side), dtype=torch.uint8, generator=drawn)
        self.eos_id = tokenizer.eos_id

    def first(self, count: int) -> StudyDataset:
        studies = [Study(id=f"study-{i}", views=(str(i),), report="") for i in range(count)]
        return StudyDataset(
            studies, image=lambda view: self.images[int(view) % IMAGES], encode=lambda report: [self.eos_id]
        )

    def normalised(self, count: int) -> torch.Tensor:
        """[N, 3, H, W] float32 on the CPU, as the image processor of the original prepares them in its workers."""
        images_N1HW = self.images[torch.arange(count) % IMAGES][:, None].float() / 255
        return ((images_N1HW - 0.45) / 0.225).expand(-1, 3, -1, -1)


class Reference:
    """The test step of R2GenGPT, written from its description.

    Swin-B of transformers with fp32 weights, one Linear, LayerNorm, the prompt tokenised and embedded in every step,
    generate() on the embeddings without a mask, all under autocast. The original's LLaMA is in float16 under float16
    autocast; here both are in the dtype of the shared LLaMA, which costs the same.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: ReportTokenizer, size: Size) -> None:
        self.model: Any = model
        self.tokenizer = tokenizer
        device = model.device
        self.swin: Any = SwinModel(SwinConfig(**size.swin, patch_size=4)).to(device).eval()
        width = model.config.hidden_size
        self.linear = nn.Linear(self.swin.num_features, width, device=device)
        self.norm = nn.LayerNorm(width, device=device)

    @torch.no_grad()
    def __call__(self, studies: Studies, count: int, *, batch: int, decoding: Decoding) -> list[int]:
        """Generate the reports of `count` studies; the tokens of each."""
        images_N3HW = studies.normalised(count)
        lengths = []
        for first in range(0, count, batch):
            lengths += self.step(images_N3HW[first : first + batch], decoding)
        return lengths

    def step(self, images_B3HW: torch.Tensor, decoding: Decoding) -> list[int]:
        device, dtype = self.model.device, self.model.dtype
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            features = [self.swin(images_B3HW.to(device))["last_hidden_state"]]  # of each view
            image_BPE = self.norm(self.linear(torch.stack(features).mean(0)))
            pieces = [torch.tensor([self.tokenizer.encode(text)], device=device) for text in (BEFORE, AFTER)]
            embed, size = self.model.get_input_embeddings(), len(images_B3HW)
            bos = torch.tensor([[self.tokenizer.bos_id]], device=device)
            before, after, start = (embed(ids).expand(size, -1, -1) for ids in (*pieces, bos))
            ids_BG = self.model.generate(
                inputs_embeds=torch.cat([start, before, image_BPE.to(before.dtype), after], dim=1),
                **options(decoding, self.tokenizer),
            )
        return report_lengths(ids_BG, self.tokenizer)


class Transformers:
    """transformers' own generate() behind the product's encoder, in the dtype of the weights, without autocast."""

    def __init__(self, model: ReportGenerator) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(self, studies: Studies, count: int, *, batch: int, decoding: Decoding) -> list[int]:
        lm: Any = self.model.lm
        device = lm.model.device
        loader = evaluation_loader(
            studies.first(count), batch_size=batch, rank=0, world=1, workers=0, pin=device.type == "cuda"
        )
        lengths = []
        for loaded in loader:
            embeds_BTE, _ = self.model.wrap(loaded.to(device))
            ids_BG = lm.model.generate(inputs_embeds=embeds_BTE, **options(decoding, lm.tokenizer))
            lengths += report_lengths(ids_BG, lm.tokenizer)
        return lengths


class Ours:
    """The product: an evaluation by `predict` in `batch` slots, or a study as task=generate does if the batch is 1.

    A batch of 0 leaves the number of slots to `predict`.
    """

    def __init__(self, model: ReportGenerator, *, workers: int, compiled: bool | None) -> None:
        self.model, self.workers, self.compiled = model, workers, compiled

    def __call__(self, studies: Studies, count: int, *, batch: int, decoding: Decoding) -> list[int]:
        device = self.model.lm.model.device
        dataset = studies.first(count)
        lm: Any = self.model.lm
        lm.keeps_slots = batch == 1  # between studies
        if batch == 1:
            loader = evaluation_loader(dataset, batch_size=1, rank=0, world=1, workers=0, pin=False)
            reports = [self.model.generate(loaded.to(device), decoding)[0] for loaded in loader]
            return [len(report.ids) for report in reports]
        lm.free_slots()
        predictions = predict(
            self.model,
            dataset,
            decoding,
            batch_size=ENCODED,
            slots=batch or None,
            compiled=self.compiled,
            workers=self.workers,
            device=torch.device(device),
        )
        return [prediction.tokens for prediction in predictions]


def options(decoding: Decoding, tokenizer: ReportTokenizer) -> dict[str, Any]:
    """A profile as arguments of transformers' generate()."""
    chosen = {key: value for key, value in asdict(decoding).items() if value is not None and key != "penalty_alpha"}
    if decoding.num_beams == 1:
        del chosen["length_penalty"], chosen["early_stopping"]
    return {**chosen, "bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": 0}


def report_lengths(ids_BG: torch.Tensor, tokenizer: ReportTokenizer) -> list[int]:
    """Tokens before the EOS token; the texts are decoded too, since an evaluation needs them."""
    lengths = []
    for row in ids_BG.tolist():
        end = row.index(tokenizer.eos_id) if tokenizer.eos_id in row else len(row)
        tokenizer.decode(row[:end])
        lengths.append(end)
    return lengths


@torch.inference_mode()
def let_reports_end(model: ReportGenerator, studies: Studies, decoding: Decoding, *, mean: float) -> float:
    """Scale the output weights of the EOS token so that greedy reports end after `mean` tokens on average.

    Random weights give the EOS token a probability of 1 to the size of the vocabulary, so that no report would end by
    itself. Scaled, it is the likeliest token at moments that depend on study and text, as hidden states do. Returns the
    scale; with min_new_tokens equal to max_new_tokens it has no effect.
    """
    lm: Any = model.lm
    model.eval()
    (batch,) = evaluation_loader(studies.first(24), batch_size=24, rank=0, world=1, workers=0, pin=False)
    prompt_BTE, _ = model.wrap(batch.to(lm.model.device))
    fixed = replace(decoding, num_beams=1, min_new_tokens=decoding.max_new_tokens)
    ids_BG = lm.model.generate(inputs_embeds=prompt_BTE, **options(fixed, lm.tokenizer))
    hidden_BTE = lm.model.model(inputs_embeds=torch.cat([prompt_BTE, lm.embed(ids_BG)[:, :-1]], dim=1))[0]
    hidden_BGE = hidden_BTE[:, -ids_BG.shape[1] :]
    weight_VE = lm.model.lm_head.weight
    chosen_BG = (hidden_BGE * weight_VE[ids_BG]).sum(-1).float().cpu()
    eos_BG = (hidden_BGE @ weight_VE[lm.tokenizer.eos_id]).float().cpu()

    def mean_length(scale: float) -> float:
        ends_BG = eos_BG * scale > chosen_BG
        ends_BG[:, : decoding.min_new_tokens] = False
        ends_BG[:, -1] = True
        return float(ends_BG.float().argmax(dim=1).float().mean()) + 1

    low, high = 1.0, 256.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_length(middle) > mean else (low, middle)
    weight_VE[lm.tokenizer.eos_id].mul_(high)
    return high
