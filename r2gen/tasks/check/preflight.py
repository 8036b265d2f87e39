"""What a language model must do before a run is worth starting, tried on a few studies with what build.py makes."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from r2gen import build
from r2gen.config import rules
from r2gen.config.schema import Config
from r2gen.data.collate import Batch, collate
from r2gen.data.dataset import StudyDataset
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.lm.protocol import Generated, LanguageModel
from r2gen.lm.quantize import stored_tensors, weight_bytes, weight_count
from r2gen.model.report_generator import ReportGenerator
from r2gen.tasks.check.memory import memory_found
from r2gen.tasks.check.rows import Check, Fails
from r2gen.train.optim import adamw

STUDIES = 8  # in the batch that single studies are compared with
COMPARED_TOKENS = 32  # of each report then
STEP_STUDIES = 4  # in the one training step
SMALL = 1e-4  # of the largest logit, in fp32: rounding
SMALL_HALF = 2e-2  # in 16 bits


class Preflight:
    """The checks of one configuration, in order; each builds on what those before it made."""

    lm: LanguageModel
    data: ReportData
    model: ReportGenerator
    studies: StudyDataset

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.bf16 = build.uses_bf16(config, device)
        self.peak_bytes_a_study: float | None = None

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

    @property
    def model_inside(self) -> Any:
        return self.lm.model

    @property
    def rows(self) -> int:
        return int(self.model_inside.get_input_embeddings().weight.shape[0])

    def exact(self) -> bool:
        return self.model_inside.dtype == torch.float32 and self.config.quant.mode == "none"

    def weights(self) -> str:
        """Found, complete, read strictly, quantised as asked: load_lm refuses everything else."""
        began = time.monotonic()
        self.data = build.build_data(self.config)
        tokenizer = None if self.config.lm.path else build.run_tokenizer(self.config, self.data)
        self.lm = build.build_lm(self.config, tokenizer=tokenizer, bf16=self.bf16, device=self.device)
        broken = next((name for name, part in stored_tensors(self.model_inside) if not _finite(part)), None)
        if broken:
            raise Fails(f"{broken} has values that are not finite", fix=_broken_fix(self.model_inside.dtype))
        parameters = list(self.model_inside.parameters())
        return (
            f"{sum(weight_count(p) for p in parameters):,} in {len(parameters)} tensors, "
            f"{weight_bytes(self.model_inside) / 2**30:.4g} GiB, {self.model_inside.config.model_type}, "
            f"{str(self.model_inside.dtype).removeprefix('torch.')}, quant={self.config.quant.mode}, in "
            f"{time.monotonic() - began:.1f} s"
        )

    def reports(self) -> list[str]:
        found = [study.report for study in self.data.studies("train")[:STUDIES]]
        if not found:
            raise UserError("the training split is empty: there is nothing to try")
        return found

    def round_trip(self) -> str:
        tokenizer, reports = self.lm.tokenizer, self.reports()
        tokens = 0
        for report in reports:
            ids = tokenizer.encode(report)
            tokens += len(ids)
            again = tokenizer.decode(ids).strip()
            if again != report.strip():
                at = next((i for i, (a, b) in enumerate(zip(again, report.strip(), strict=False)) if a != b), 0)
                raise Fails(
                    f"...{report.strip()[max(0, at - 20) : at + 20]!r} comes back as "
                    f"{again[max(0, at - 20) : at + 20]!r}",
                    fix="give lm.path the tokenizer's own files: these lose letters",
                )
        words = sum(len(report.split()) for report in reports)
        return f"{len(reports)} reports come back unchanged, {tokens / words:.2f} tokens a word"

    def vocabulary(self) -> str:
        ids, out = self.lm.tokenizer.vocabulary_size, self.model_inside.get_output_embeddings().weight.shape[0]
        found = f"tokenizer {ids:,} ids, embeddings {self.rows:,} rows, logits {out:,}"
        if ids > min(self.rows, out):
            raise Fails(found, fix="the tokenizer and the weights are of two checkpoints: copy one whole folder")
        return found

    def special_ids(self) -> str:
        tokenizer = self.lm.tokenizer
        ids = {"bos": tokenizer.bos_id, "pad": tokenizer.pad_id, **{f"eos {i}": i for i in tokenizer.eos_ids}}
        found = f"bos {tokenizer.bos_id}, eos {', '.join(map(str, tokenizer.eos_ids))}, pad {tokenizer.pad_id}"
        for name, number in ids.items():
            if number is not None and not 0 <= number < self.rows:
                raise Fails(
                    f"{found}: {name} is beyond the {self.rows:,} rows of the weights",
                    fix="set it in tokenizer_config.json, or lm.special_tokens",
                )
        ends = set(tokenizer.eos_ids)
        for report in self.reports():
            if ends & set(tokenizer.encode(report)) or tokenizer.cut(report)[1]:
                raise Fails(f"{found}: an end sign stands within a report", fix="look at lm.stop and lm.special_tokens")
        return found

    def prompt_ids(self) -> str:
        before, after = build.build_prompt(self.config, self.lm)
        decode = self.lm.tokenizer.decode
        return (
            f"{len(before)} before the image {_shown(before)} {decode(before)!r}, {len(after)} after it "
            f"{_shown(after)} {decode(after)!r}"
        )

    def widths(self) -> str:
        self.model = build.build_report_generator(self.config, self.lm, bf16=self.bf16, device=self.device).eval()
        self.studies = build.build_datasets(self.config, self.data, self.model)["train"].first(STUDIES)
        batch = self.batch(0)
        with torch.no_grad():
            features, real = self.model.vision(batch.images_BVHW, batch.views_BV)
            image, whole = self.model.projector(features), self.model.wrap(batch)[0]
        if not bool(features.isfinite().all()):
            raise Fails("the encoder's features are not finite", fix="give vision.path weights that are whole")
        found = (
            f"{int(real.sum())} features of {features.shape[-1]} from the encoder, {image.shape[-1]} from the "
            f"projector, {self.lm.dim} in the language model, prompts of {whole.shape[1]} positions"
        )
        if not image.shape[-1] == whole.shape[-1] == self.lm.dim:
            raise Fails(found, fix="the projector must give the language model's width: see projector=linear")
        return found

    def batch(self, *indices: int) -> Batch:
        return collate([self.studies[index % len(self.studies)] for index in indices]).to(self.device)

    def embedding_identity(self) -> str:
        """Embeddings handed in give the logits of the ids they were looked up for: scaling, positions, special rows."""
        model, ids_BT = self.model_inside, torch.tensor([self.lm.tokenizer.encode(self.reports()[0])]).to(self.device)
        more: dict[str, Any] = {"use_cache": False}
        if model.config.is_encoder_decoder:
            more["decoder_input_ids"] = ids_BT[:, :4]
        with torch.no_grad():
            by_ids = model(input_ids=ids_BT, **more).logits.float()
            by_embeds = model(inputs_embeds=self.lm.embed(ids_BT).to(model.dtype), **more).logits.float()
        off = ((by_ids - by_embeds).abs().max() / by_ids.abs().max().clamp(min=1e-9)).item()
        found = f"largest difference {off:.1e} of the largest logit, over {ids_BT.shape[1]} ids"
        if not off <= (SMALL if self.exact() else SMALL_HALF):
            raise Fails(found, fix="this family treats ids and embeddings differently: it needs a class of its own")
        return found

    def forward(self) -> str:
        batch = self.batch(*range(min(STEP_STUDIES, len(self.studies))))
        with torch.no_grad():
            loss = self.model(batch).item() / batch.target_tokens
        found = (
            f"{loss:.3f} nats a token in {str(self.model_inside.dtype).removeprefix('torch.')}; guessing would be "
            f"{math.log(self.rows):.3f}"
        )
        if not math.isfinite(loss):
            raise Fails(found, fix=_broken_fix(self.model_inside.dtype))
        return found

    def decoding_profile(self) -> str:
        """Every key is accepted by this language model, tried on one short report."""
        decoding = build.build_decoding(self.config)
        kept = rules.usable_profile(self.config)
        self.generated(self.batch(0), limit=max(2, decoding.min_new_tokens))
        dropped = sorted(self.config.generation.keys() - kept.keys())
        said = ", ".join(f"{key}={value}" for key, value in kept.items() if not key.startswith("_"))
        return said + (f"; dropped, as this family cannot do it: {', '.join(dropped)}" if dropped else "")

    def generated(self, batch: Batch, *, limit: int | None = None) -> list[Generated]:
        decoding = build.build_decoding(self.config)
        if limit is not None and limit < decoding.max_new_tokens:
            decoding = replace(decoding, max_new_tokens=limit, min_new_tokens=min(limit, decoding.min_new_tokens))
        self.model.eval()
        return self.model.generate(batch, decoding)

    def generation(self) -> str:
        decoding = build.build_decoding(self.config)
        began = time.monotonic()
        one = self.generated(self.batch(0))[0]
        found = f"{len(one.ids)} tokens ({one.finish}) in {time.monotonic() - began:.1f} s: {one.text[:60]!r}"
        if len(one.ids) < decoding.min_new_tokens or not one.ids:
            raise Fails(
                f"{found}; at least {max(1, decoding.min_new_tokens)} are asked for",
                fix="raise generation.min_new_tokens, or look at the prompt: it ends first",
            )
        return found

    def batch_invariance(self) -> str:
        together = self.generated(self.batch(*range(STUDIES)), limit=COMPARED_TOKENS)
        alone = [self.generated(self.batch(index), limit=COMPARED_TOKENS)[0] for index in range(STUDIES)]
        differ = sum(one.ids != other.ids for one, other in zip(together, alone, strict=True))
        found = f"{differ} of {STUDIES} reports differ between a batch of 1 and of {STUDIES}"
        if differ and self.exact():
            raise Fails(found, fix="in fp32 none may: padding or neighbours reach the report; please report it")
        return found + ("" if self.exact() else " (rounding follows the batch's shape here)")

    def gradients(self) -> str:
        """One step: what trains gets a gradient and moves, everything else keeps its bytes."""
        model, count = self.model.train(), min(STEP_STUDIES, self.config.trainer.micro_batch_size)
        batch, before = self.batch(*range(count)), _checksums(model)
        optimizer = adamw(model, learning_rate=1e-2, betas=(0.9, 0.98), weight_decay=0.0)
        base = _allocated(self.device)
        (model(batch) / batch.target_tokens).backward()
        if self.device.type == "cuda":
            self.peak_bytes_a_study = (torch.cuda.max_memory_allocated(self.device) - base) / count
        norms = {name: p.grad.float().norm().item() for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
        free = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        silent = [name for name in free if name.startswith("projector") and not norms.get(name, 0.0) > 0]
        total = math.sqrt(sum(norm**2 for norm in norms.values()))
        if silent or not math.isfinite(total):
            raise Fails(
                f"norm {total}; without a gradient: {', '.join(silent) or 'none'}",
                fix="the loss does not reach the projector: use quant=none",
            )
        after = _checksums(model)
        moved = [name for name, one in before.items() if after[name] != one]
        if moved:
            raise Fails(f"frozen, but changed by a step: {', '.join(moved[:3])}", fix="please report this: a defect")
        return (
            f"norm {total:.3g} over {len(norms)} trained tensors, the projector's among them; {len(before)} frozen "
            "ones keep their bytes"
        )

    def memory(self) -> str:
        return memory_found(self.model, self.config, device=self.device, bytes_a_study=self.peak_bytes_a_study)


def _finite(part: torch.Tensor) -> bool:
    return not part.is_floating_point() or bool(torch.stack(part.aminmax()).isfinite().all())  # without a copy


def _broken_fix(dtype: torch.dtype) -> str:
    if dtype == torch.float16:
        return "use lm.dtype=bfloat16 or float32: float16 overflows beyond 65,504"
    return "the checkpoint is damaged: fetch lm.path again"


def _checksums(model: nn.Module) -> dict[str, int]:
    """A number for the bytes of every frozen tensor."""
    free = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    found: dict[str, int] = {}
    for name, part in _frozen(model, free):
        flat = part.contiguous().flatten().view(torch.uint8)
        wide = flat[: len(flat) // 8 * 8].view(torch.int64)  # sums of whole words, which wrap
        found[name] = hash((found.get(name, 0), int(wide.sum()), int(flat[len(wide) * 8 :].sum())))
    return found


def _frozen(model: nn.Module, free: set[str]) -> Iterator[tuple[str, torch.Tensor]]:
    yield from ((name, part) for name, part in stored_tensors(model) if name not in free)
    yield from ((name, buffer) for name, buffer in model.named_buffers() if buffer.numel())


def _allocated(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _shown(ids: list[int]) -> str:
    return str(ids if len(ids) <= 12 else [*ids[:6], "...", *ids[-3:]]).replace("'", "")
