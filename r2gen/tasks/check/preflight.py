"""What a language model must do before a training is worth starting, tried on a few studies with the parts of build.py.

Each method of `Preflight` in `checks` is one check: it returns what it measured, or raises CheckFailed with a fix.
"""

import math
import time
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from r2gen import build
from r2gen.config import rules
from r2gen.config.decoding import Decoding
from r2gen.config.schema import Config
from r2gen.data.collate import Batch, collate
from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.lm.protocol import Generated, LanguageModel
from r2gen.lm.quantize import recorded_mode, weight_bytes, weight_count
from r2gen.model.report_generator import ReportGenerator
from r2gen.tasks.check.memory import check_memory
from r2gen.tasks.check.results import Check, CheckFailed
from r2gen.tasks.check.tensors import frozen_checksums, not_finite
from r2gen.train.optim import adamw

STUDIES = 8  # in the batch that is compared with single studies
COMPARED_TOKENS = 32  # of each report in that comparison
STEP_STUDIES = 4  # in the one training step
LARGEST_ERROR = 1e-4  # relative to the largest logit, in fp32
LARGEST_ERROR_HALF = 2e-2  # in half precision


class Preflight:
    """The checks of one configuration, in order. Later checks use the parts that earlier ones have built."""

    lm: LanguageModel
    data: ReportData
    model: ReportGenerator
    studies: StudyDataset

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.bf16 = build.uses_bf16(config, device)
        self.bytes_per_study: float | None = None  # GPU memory of a training step

    def checks(self) -> list[Check]:
        return [
            Check("weights", self.weights, vital=True),
            Check("tokenizer round trip", self.round_trip),
            Check("vocabulary", self.vocabulary),
            Check("special ids", self.special_ids),
            Check("prompt ids", self.prompt_ids, vital=True),
            Check("widths", self.widths, vital=True),
            Check("embedding identity", self.embedding_identity),
            Check("forward", self.forward, vital=True),
            Check("decoding profile", self.decoding_profile, vital=True),
            Check("generation", self.generation),
            Check("batch invariance", self.batch_invariance),
            Check("gradients", self.gradients),
            Check("memory", self.memory),
        ]

    def weights(self) -> str:
        """The weights are complete, finite, and quantised as configured; load_lm refuses everything else."""
        began = time.monotonic()
        self.data = build.build_data(self.config)
        tokenizer = build.build_tokenizer(self.config, self.data)
        self.lm = build.build_lm(self.config, tokenizer=tokenizer, bf16=self.bf16, device=self.device)
        if name := not_finite(self.transformer):
            raise CheckFailed(f"{name} has NaN or infinite values", fix=self.fix_of_infinite_values())
        parameters = list(self.transformer.parameters())
        return (
            f"{sum(weight_count(p) for p in parameters):,} in {len(parameters)} tensors, "
            f"{weight_bytes(self.transformer) / 2**30:.4g} GiB, {self.transformer.config.model_type}, {self.dtype}, "
            f"quant={recorded_mode(self.transformer, mode=self.config.quant.mode)}, in {time.monotonic() - began:.1f} s"
        )

    def round_trip(self) -> str:
        """Reports are unchanged after encoding and decoding, but for words that lm.vocabulary=words leaves out."""
        tokenizer, reports = self.lm.tokenizer, self.reports()
        tokens = unknown = 0
        for report in reports:
            ids = tokenizer.encode(report)
            tokens += len(ids)
            decoded, report = tokenizer.decode(ids).strip(), report.strip()
            unknown += sum(map(ids.count, tokenizer.never_ids))
            if decoded != report and not tokenizer.never_ids:
                at = next((i for i, (a, b) in enumerate(zip(decoded, report, strict=False)) if a != b), 0)
                part = slice(max(0, at - 20), at + 20)
                raise CheckFailed(
                    f"...{report[part]!r} comes back as {decoded[part]!r}",
                    fix="put the checkpoint's own tokenizer files into lm.path: these lose characters",
                )
        words = sum(len(report.split()) for report in reports)
        if tokenizer.never_ids:
            return f"{unknown} of {words} words in {len(reports)} reports have no token"
        return f"{len(reports)} reports are unchanged, {tokens / words:.2f} tokens per word"

    def vocabulary(self) -> str:
        """Every id of the tokenizer has an embedding and a logit."""
        ids, logits = self.lm.tokenizer.vocabulary_size, self.transformer.get_output_embeddings().weight.shape[0]
        sizes = f"the tokenizer has {ids:,} ids, the weights have {self.embeddings:,} embeddings and {logits:,} logits"
        if ids > min(self.embeddings, logits):
            raise CheckFailed(sizes, fix="tokenizer and weights are of two checkpoints: copy one whole folder")
        return sizes

    def special_ids(self) -> str:
        """Every special token has an embedding, and no report contains an EOS token."""
        tokenizer = self.lm.tokenizer
        ids = {"bos": tokenizer.bos_id, "pad": tokenizer.pad_id, **{f"eos {i}": i for i in tokenizer.eos_ids}}
        shown = f"bos {tokenizer.bos_id}, eos {', '.join(map(str, tokenizer.eos_ids))}, pad {tokenizer.pad_id}"
        for name, number in ids.items():
            if number is not None and not 0 <= number < self.embeddings:
                raise CheckFailed(
                    f"{shown}: {name} is outside the {self.embeddings:,} embeddings",
                    fix="set it in tokenizer_config.json, or with lm.special_tokens",
                )
        eos_ids = set(tokenizer.eos_ids)
        for report in self.reports():
            if eos_ids & set(tokenizer.encode(report)) or tokenizer.cut(report)[1]:
                raise CheckFailed(
                    f"{shown}: a report contains an EOS token", fix="correct lm.stop and lm.special_tokens"
                )
        return shown

    def prompt_ids(self) -> str:
        """The prompt can be encoded."""
        prompt = build.build_prompt(self.config, self.lm)
        before, after = prompt.before, prompt.after
        decode = self.lm.tokenizer.decode
        return (
            f"{len(before)} before the image {_shown(before)} {decode(before)!r}, {len(after)} after it "
            f"{_shown(after)} {decode(after)!r}"
        )

    def widths(self) -> str:
        """Encoder, projector and language model fit together."""
        self.model = build.build_report_generator(self.config, self.lm, bf16=self.bf16, device=self.device).eval()
        self.studies = build.build_datasets(self.config, self.data, self.model)["train"].first(STUDIES)
        batch = self.batch(0)
        with torch.no_grad():
            features, real = self.model.encode(batch)
            image, prompt = self.model.projector(features), self.model.wrap(batch)[0]
        if not bool(features.isfinite().all()):
            raise CheckFailed("the encoder's features are not finite", fix="fetch the weights at vision.path again")
        count = int(real[: len(batch.ids)].sum())  # without those of prior studies
        widths = (
            f"{count} features of width {features.shape[-1]} from the encoder, {image.shape[-1]} from the "
            f"projector, {self.lm.dim} in the language model; prompts of {prompt.shape[1]} positions"
        )
        if not image.shape[-1] == prompt.shape[-1] == self.lm.dim:
            raise CheckFailed(widths, fix="the projector must have the language model's width: see projector=linear")
        return widths

    def embedding_identity(self) -> str:
        """Embeddings give the same logits as the ids that they belong to, with their scale, positions and padding."""
        model, ids_BT = self.transformer, torch.tensor([self.lm.tokenizer.encode(self.reports()[0])]).to(self.device)
        decoder = {"decoder_input_ids": ids_BT[:, :4]} if model.config.is_encoder_decoder else {}
        with torch.no_grad():
            embeds = self.lm.embed(ids_BT).to(model.dtype)
            by_ids = model(input_ids=ids_BT, use_cache=False, **decoder).logits.float()
            by_embeds = model(inputs_embeds=embeds, use_cache=False, **decoder).logits.float()
        error = ((by_ids - by_embeds).abs().max() / by_ids.abs().max().clamp(min=1e-9)).item()
        shown = f"largest difference {error:.1e} of the largest logit, over {ids_BT.shape[1]} ids"
        if not error <= (LARGEST_ERROR if self.is_exact() else LARGEST_ERROR_HALF):
            raise CheckFailed(
                shown, fix="this family treats ids and embeddings differently: it needs a class of its own"
            )
        return shown

    def forward(self) -> str:
        """The loss is finite."""
        batch = self.batch(*range(min(STEP_STUDIES, len(self.studies))))
        with torch.no_grad():
            loss = self.model(batch).item() / batch.target_tokens
        shown = f"{loss:.3f} nats per token in {self.dtype}; a uniform guess has {math.log(self.embeddings):.3f}"
        if not math.isfinite(loss):
            raise CheckFailed(shown, fix=self.fix_of_infinite_values())
        return shown

    def decoding_profile(self) -> str:
        """This language model accepts every option of the profile, tried on one short report."""
        self.generate(self.batch(0), limit=max(2, self.decoding.min_new_tokens))
        usable = rules.usable_profile(self.config)
        shown = ", ".join(f"{key}={value}" for key, value in usable.items() if not key.startswith("_"))
        unused = sorted(self.config.generation.keys() - usable.keys())
        return shown + (f"; not used, since this family does not support it: {', '.join(unused)}" if unused else "")

    def generation(self) -> str:
        """A report has at least min_new_tokens."""
        began, smallest = time.monotonic(), max(1, self.decoding.min_new_tokens)
        report = self.generate(self.batch(0))[0]
        shown = f"{len(report.ids)} tokens ({report.finish}) in {time.monotonic() - began:.1f} s: {report.text[:60]!r}"
        if len(report.ids) < smallest:
            raise CheckFailed(
                f"{shown}; expected at least {smallest}",
                fix="increase generation.min_new_tokens, or correct the prompt, after which this model ends at once",
            )
        return shown

    def batch_invariance(self) -> str:
        """A report does not depend on the other studies of its batch."""
        together = self.generate(self.batch(*range(STUDIES)), limit=COMPARED_TOKENS)
        alone = [self.generate(self.batch(index), limit=COMPARED_TOKENS)[0] for index in range(STUDIES)]
        differing = sum(in_batch.ids != by_itself.ids for in_batch, by_itself in zip(together, alone, strict=True))
        shown = f"{differing} of {STUDIES} reports differ between a batch of 1 and of {STUDIES}"
        if self.is_exact():
            if differing:
                raise CheckFailed(shown, fix="this is a defect, since none may differ in fp32: please report it")
            return shown
        return f"{shown} (in this precision, rounding depends on the shape of the batch)"

    def gradients(self) -> str:
        """In one step, gradients reach the projector, and no byte of a frozen tensor changes."""
        model, studies = self.model.train(), min(STEP_STUDIES, self.config.trainer.micro_batch_size)
        batch, before = self.batch(*range(studies)), frozen_checksums(model)
        optimizer = adamw(model, learning_rate=1e-2, betas=(0.9, 0.98), weight_decay=0.0)
        allocated = _allocated(self.device)
        (model(batch) / batch.target_tokens).backward()
        if self.device.type == "cuda":
            self.bytes_per_study = (torch.cuda.max_memory_allocated(self.device) - allocated) / studies
        norms = {name: p.grad.float().norm().item() for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
        projector = [name for name, p in model.named_parameters() if p.requires_grad and name.startswith("projector")]
        without = [name for name in projector if not norms.get(name, 0.0) > 0]
        norm = math.sqrt(sum(norm**2 for norm in norms.values()))
        if without or not math.isfinite(norm):
            raise CheckFailed(
                f"norm {norm}; without a gradient: {', '.join(without) or 'none'}",
                fix="the loss does not reach the projector: use quant=none",
            )
        after = frozen_checksums(model)
        changed = [name for name, checksum in before.items() if after[name] != checksum]
        if changed:
            raise CheckFailed(
                f"a step changed frozen tensors: {', '.join(changed[:3])}", fix="this is a defect: please report it"
            )
        return (
            f"norm {norm:.3g} over {len(norms)} trained tensors, those of the projector included; {len(before)} frozen "
            "tensors are unchanged"
        )

    def memory(self) -> str:
        """The weights take the memory that quant= and lm.dtype promise, and a step fits the GPU."""
        return check_memory(self.model, self.config, device=self.device, bytes_per_study=self.bytes_per_study)

    # What the checks share

    @property
    def transformer(self) -> Any:
        """The model of transformers, which has no common type for what is used here."""
        return self.lm.model

    @property
    def embeddings(self) -> int:
        return int(self.transformer.get_input_embeddings().weight.shape[0])

    @property
    def dtype(self) -> str:
        return str(self.transformer.dtype).removeprefix("torch.")

    @cached_property
    def decoding(self) -> Decoding:
        return build.build_decoding(self.config)

    def is_exact(self) -> bool:
        return self.dtype == "float32" and self.config.quant.mode == "none"

    def fix_of_infinite_values(self) -> str:
        if self.dtype == "float16":
            return "use lm.dtype=bfloat16 or float32: float16 overflows beyond 65,504"
        return "the checkpoint is damaged: fetch lm.path again"

    def reports(self) -> list[str]:
        reports = [study.report for study in self.data.studies("train")[:STUDIES]]
        if not reports:
            raise UserError("the training split is empty: there is nothing to try")
        return reports

    def batch(self, *indices: int) -> Batch:
        return collate([self.studies[index % len(self.studies)] for index in indices]).to(self.device)

    def generate(self, batch: Batch, *, limit: int | None = None) -> list[Generated]:
        """Reports of at most `limit` tokens."""
        decoding = self.decoding
        if limit is not None and limit < decoding.max_new_tokens:
            decoding = replace(decoding, max_new_tokens=limit, min_new_tokens=min(limit, decoding.min_new_tokens))
        self.model.eval()
        return self.model.generate(batch, decoding)


def _allocated(device: torch.device) -> int:
    """GPU memory in use; from now on the peak is counted again."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _shown(ids: list[int]) -> str:
    return str(ids if len(ids) <= 12 else [*ids[:6], "...", *ids[-3:]]).replace("'", "")
