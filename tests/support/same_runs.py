"""Whether two runs have the same result."""

import json
from pathlib import Path

from safetensors.numpy import load_file


def weights(run_dir: Path, name: str) -> dict[str, bytes]:
    tensors = load_file(run_dir / "checkpoints" / name / "trainable.safetensors")
    return {key: tensor.tobytes() for key, tensor in tensors.items()}


def same_result(first: Path, second: Path) -> bool:
    """Whether two runs ended with the same weights, the same reports and the same scores, bit for bit."""
    scores = [json.loads((run_dir / "metrics.json").read_text())["splits"] for run_dir in (first, second)]
    files = [run_dir / "predictions" / "test.greedy.jsonl" for run_dir in (first, second)]
    texts = [[json.loads(line)["report"] for line in file.read_text().splitlines()[1:]] for file in files]
    return (
        all(weights(first, name) == weights(second, name) for name in ("last", "best"))
        and scores[0] == scores[1]
        and texts[0] == texts[1]
    )
