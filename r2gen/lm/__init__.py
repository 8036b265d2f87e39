"""Language models: `load_lm` reads a checkpoint, `random_lm` draws weights, `train_tokenizer` makes their tokenizer."""

from r2gen.lm import library_logs as library_logs
from r2gen.lm.load import load_lm, random_lm
from r2gen.lm.prompt import Prompt
from r2gen.lm.protocol import Generated, LanguageModel
from r2gen.lm.tokenizer import ReportTokenizer, read_tokenizer, save_tokenizer, train_tokenizer

__all__ = [
    "Generated",
    "LanguageModel",
    "Prompt",
    "ReportTokenizer",
    "load_lm",
    "random_lm",
    "read_tokenizer",
    "save_tokenizer",
    "train_tokenizer",
]
