"""The smallest whole report generator there is, and studies for it: shared by the tests of model/ and train/."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch

from r2gen.config.context import ContextConfig
from r2gen.data.collate import Batch, collate
from r2gen.data.context import StudyContext
from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import Prior, Study
from r2gen.lm import random_lm, train_tokenizer
from r2gen.lm.prompt import Place
from r2gen.model.findings_prompt import FindingsPrompt
from r2gen.model.projector import LinearProjector
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import Lora, choose_trainable
from r2gen.train.objectives.findings import CLASSES
from r2gen.vision.encoder import TimmEncoder
from r2gen.vision.image_embedding import ImageEmbedding

torch.set_num_threads(1)  # matrices this small are slower on several threads, much slower on a busy machine
SIZE_PX = 32
SENTENCES = [
    "The heart is normal in size.",
    "The heart is large.",
    "The lungs are clear.",
    "No pneumothorax is seen.",
    "There is a small left effusion.",
    "Degenerative changes of the spine.",
]
# Reports of very different lengths, from one sentence to eight, and 1, 2 or 3 views.
STUDIES = [
    Study(
        id=f"study-{i}",
        views=tuple(f"{i}/{view}" for view in range(1 + i % 3)),
        report=" ".join(SENTENCES[(i * 5 + k) % len(SENTENCES)] for k in range(1 + (i * i) % 8)),
    )
    for i in range(24)
]
TOKENIZER = train_tokenizer([study.report for study in STUDIES], 300)
CONTEXT = ContextConfig(
    fields=["age", "indication", "prior_images", "prior_days", "prior_report"],
    texts={
        "age": "Age: {text} ",
        "indication": "Why: {text} ",
        "prior_images": "Before: {text} ",
        "prior_days": "Days: {text} ",
        "prior_report": "Then: {text} ",
    },
    missing={"prior_report": "No prior report. "},
    image_embeddings=True,
    max_tokens=60,
)


def in_context(number: int, study: Study) -> Study:
    """The same study; every second one has an indication, two of three have a prior, of which some have no images."""
    prior = Prior(
        id=f"prior-{number}",
        views=tuple(f"prior {number}/{view}" for view in range(number % 4)),
        report=None if number % 5 == 1 else STUDIES[number - 1].report,
        days=None if number % 4 == 3 else 0.5 + number,
        positions=("PA",) * (number % 4),
    )
    return replace(
        study,
        positions=tuple(("PA", "LATERAL", "")[view] for view in range(len(study.views))) if number % 7 else (),
        age=40.0 + number,
        indication=SENTENCES[number % 6] * (number % 3) if number % 2 else None,
        prior=prior if number % 3 else None,
    )


STUDIES_IN_CONTEXT = [in_context(number, study) for number, study in enumerate(STUDIES)]


def image(view: str) -> torch.Tensor:
    """A square of noise that depends on the view's name alone."""
    drawn = torch.Generator().manual_seed(int.from_bytes(view.encode(), "little") % 2**31)
    return torch.randint(256, (SIZE_PX, SIZE_PX), dtype=torch.uint8, generator=drawn)


def dataset(*, image: Callable[[str], torch.Tensor] = image, context: ContextConfig | None = None) -> StudyDataset:
    return StudyDataset(
        STUDIES if context is None else STUDIES_IN_CONTEXT,
        image=image,
        encode=lambda report: [*TOKENIZER.encode(report), TOKENIZER.eos_id],
        context=None if context is None else StudyContext(context, TOKENIZER.encode),
    )


def batch(*indices: int, context: ContextConfig | None = None) -> Batch:
    studies = dataset(context=context)
    return collate([studies[index] for index in indices])


def report_generator(
    *,
    views: Literal["mean", "concat"] = "mean",
    vision: str = "full",
    lm: str = "auto",
    lm_is_random: bool = True,
    vision_checkpointing: bool = False,
    lm_checkpointing: bool = False,
    lm_layers: int = 2,
    dropout: float = 0.0,
    lively: bool = False,
    tied: bool = False,
    lm_targets: tuple[str, ...] = ("q_proj", "v_proj"),
    vision_targets: tuple[str, ...] = ("fc1", "fc2"),
    moving_batch_norm: bool = False,
    context: bool = False,
    findings: bool = False,
) -> ReportGenerator:
    """A ConvNeXt and a LLaMA of a few thousand weights, always the same ones; without dropout unless it is passed.

    With `moving_batch_norm` the encoder is a ResNet instead, whose statistics move.

    With `context` prompts have one, after their first token, and images an embedding, which is not zero if `lively`.

    With `findings` the prompt says which there are.

    `lively` makes the language model's weights large, so that reports differ and end by themselves.
    """
    torch.manual_seed(0)
    convnext: dict[str, Any] = {"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 16]}
    resnet: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "output_stride": 8}
    encoder = TimmEncoder(
        name="resnet18" if moving_batch_norm else "convnext_atto",
        image_size_px=SIZE_PX,
        model_args=resnet if moving_batch_norm else convnext,
        batch_norm="moving" if moving_batch_norm else "frozen",
        views=views,
        lora_targets=list(vision_targets),
        gradient_checkpointing=vision_checkpointing,
    )
    llama: Any = random_lm(
        tokenizer=TOKENIZER,
        seed=1,
        hidden_size=32,
        num_hidden_layers=lm_layers,
        num_attention_heads=4,
        intermediate_size=48,
        tie_word_embeddings=tied,
        gradient_checkpointing=lm_checkpointing,
    )
    projector = LinearProjector(in_dim=encoder.dim, out_dim=llama.dim)
    if lively:
        with torch.no_grad():
            for parameter in llama.model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(10)
            llama.model.get_output_embeddings().weight[TOKENIZER.eos_id].mul_(1.5)
            projector.linear.weight.mul_(10)
    place = None
    if context:
        place, encoder.embedding = Place("before", 1), ImageEmbedding(encoder.dim)
        if lively:
            torch.manual_seed(2)
            torch.nn.init.normal_(encoder.embedding.rows.weight)
    model = ReportGenerator(vision=encoder, projector=projector, lm=llama, before=[1, 5, 6], after=[7], context=place)
    if findings:
        torch.manual_seed(3)
        model.findings = FindingsPrompt(dim=encoder.dim, lm_dim=llama.dim, findings=len(CLASSES), threshold=0.3)
    lora = Lora(r=2, alpha=4, dropout=dropout)
    choose_trainable(
        model,
        vision=vision,
        vision_lora=lora,
        lm=lm,
        lm_lora=lora,
        lm_lora_targets=list(lm_targets),
        lm_is_random=lm_is_random,
    )
    return model.train()
