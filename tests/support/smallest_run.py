"""Run `python run.py` as a user does, with overrides that make the run as small as possible."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Seconds instead of minutes: few small images, a language model of a few thousand weights, no Java.
SMALLEST = [
    "data.train_studies=48",
    "data.val_studies=8",
    "data.test_studies=8",
    "data.size_px=32",
    "vision.image_size_px=32",
    "vision.model_args={channels: [32, 32, 32], stem_chs: 32, drop_path_rate: 0.2}",
    "lm.architecture={hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64}",
    "lm.vocabulary_size=300",
    "trainer.batch_size=8",
    "trainer.micro_batch_size=4",
    "trainer.warmup_steps=2",
    "trainer.epochs=2",
    "trainer.log_every_steps=1",
    "metrics=[bleu,cider]",
    "generation.max_new_tokens=8",
]


def command(*overrides: str, smallest: bool = True) -> list[str]:
    words = {word.partition("=")[0]: word for word in (*(SMALLEST if smallest else []), *overrides)}
    return [sys.executable, str(ROOT / "run.py"), *words.values()]


def run(*overrides: str, cwd: Path, smallest: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `python run.py OVERRIDES` in the folder `cwd`, in a new Python."""
    return subprocess.run(command(*overrides, smallest=smallest), cwd=cwd, capture_output=True, text=True, timeout=600)
