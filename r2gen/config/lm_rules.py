"""Rules about what a language model is. The options decide them, or else the config.json of the checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass

from r2gen.config.schema import Config
from r2gen.errors import Code, UserError

# The families whose checkpoints are encoder-decoders, so that a rule refuses them before anything is loaded.
ENCODER_DECODERS = frozenset({"t5"})
# The package that reads or writes weights of a quant.mode.
QUANT_PACKAGES = {"int8": "bitsandbytes", "nf4": "bitsandbytes", "int8_weight_only": "torchao"}


@dataclass(frozen=True)
class LmFacts:
    """What the rules need to know about a language model."""

    quantised: bool
    encoder_decoder: bool
    quantised_before: bool = False  # in the files of the checkpoint


RULES: list[tuple[str, Callable[[Config, LmFacts], bool]]] = [
    (
        "lm.path: this checkpoint is quantised already, and quant= quantises one in full precision: use quant=none, or "
        "the checkpoint from which it was made",
        lambda c, lm: lm.quantised_before and c.quant.mode != "none",
    ),
    (
        "a quantised language model cannot be trained in full: use tune/lm=lora, tune/lm=frozen or quant=none",
        lambda c, lm: lm.quantised and c.tune.lm.mode == "full",
    ),
    (
        "trainer=zero3 splits every weight over the ranks, which quantised or spread weights do not allow: use "
        "trainer=zero2, or quant=none and lm.device_map=null",
        lambda c, lm: c.zero_stage == 3 and (lm.quantised or c.lm.device_map is not None),
    ),
    (
        "trainer=zero3 compiles the layers of a frozen language model only: use tune/lm=frozen, lm.compile=false or "
        "trainer=zero2",
        lambda c, lm: (
            c.zero_stage == 3
            and bool(c.lm.compile)
            and (c.tune.lm.mode in ("lora", "full") or (c.tune.lm.mode == "auto" and c.lm.path is None))
        ),
    ),
    (
        "lm.dropout is for decoder-only language models, and this one is an encoder-decoder: use lm.dropout=0",
        lambda c, lm: lm.encoder_decoder and c.lm.dropout > 0,
    ),
    (
        "generation.penalty_alpha (contrastive search) is for decoder-only language models, and this one is an "
        "encoder-decoder: use generation=greedy, beam3 or nucleus",
        lambda c, lm: lm.encoder_decoder and c.generation.get("penalty_alpha") is not None,
    ),
]


def check_options(config: Config) -> None:
    """Check the rules with what the options say about the language model."""
    facts = LmFacts(quantised=config.quant.mode != "none", encoder_decoder=config.lm.family in ENCODER_DECODERS)
    check(config, facts)


def check(config: Config, facts: LmFacts) -> None:
    """Raise UserError with the sentence of the first rule that the configuration breaks."""
    for sentence, broken in RULES:
        if broken(config, facts):
            raise UserError(sentence, code=Code.INCOMPATIBLE)
