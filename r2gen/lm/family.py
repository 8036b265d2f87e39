"""What R2Gen must know about a family of language models beyond what the files of its checkpoints say."""

from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import WeightConverter, WeightRenaming

# How GPT-4's tokenizer (cl100k_base) splits a text before it merges byte pairs.
GPT4_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, kw_only=True)
class TokenizerFormat:
    """What only the Python code of a published tokenizer says; by default its files say everything."""

    name: str = ""  # tokenizer_class in tokenizer_config.json
    file: str | None = None  # the name of the tokenizer file, if only this format uses it
    split: str | None = None  # of a tiktoken file: the regular expression that splits a text before merging
    nfc: bool = False  # of a tiktoken file: characters are composed (Unicode NFC) first
    following: tuple[str, ...] = ()  # special tokens whose ids follow those of the tokenizer file, in this order
    eos: tuple[str, ...] = ()  # where no file names the EOS tokens; the first one ends a report in training
    pad: tuple[str, ...] = ()  # where no file names the padding token


@dataclass(frozen=True, kw_only=True)
class Family:
    """What R2Gen knows about one model_type; by default transformers reads the family without help.

    A published format that transformers cannot read has a `config` class that reads the fields of its config.json, a
    `model` class, and `tensors`, which maps the published tensors to those of the model and back, so that
    save_pretrained writes the published names.
    """

    config: type[PreTrainedConfig] | None = None
    model: type[PreTrainedModel] | None = None
    tensors: tuple[WeightRenaming | WeightConverter, ...] = ()
    tokenizers: tuple[TokenizerFormat, ...] = ()  # the first is that of a checkpoint that does not name its own

    @property
    def splits_tensors(self) -> bool:
        """Whether some published tensor becomes several while the weights are read."""
        return any(isinstance(step, WeightConverter) for step in self.tensors)
