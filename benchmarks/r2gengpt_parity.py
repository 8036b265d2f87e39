"""Compare R2GenGPT's own figures with ours, through task=import and load_run.

    python benchmarks/r2gengpt_parity.py ../shared/r2gengpt ../shared/lm/golden/llama2_spm

The first folder holds shallow/, delta/ and deep/, each with swin/, delta.pth, golden.json and golden.safetensors,
written by the original's program in fp32 on the CPU (its README says how); the second is the language model they used.
LoRA's alpha is taken from golden.json, since the tiny checkpoints do not contain it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from r2gengpt_original import MODES, errors, golden, same_reports  # noqa: E402

from r2gen import load_run  # noqa: E402


def main(folder: Path, lm: Path) -> None:
    print(f"{'':<8} {'loss':>10} {'projector':>10} {'LayerNorm':>10} {'all':>10}  reports, relative errors before")
    total, equal = 0, 0
    for mode in MODES:
        facts, tensors = golden(folder, mode)
        with tempfile.TemporaryDirectory() as place:
            alpha = [f"tune.lora.alpha={facts['lora']['alpha']}"] if facts["lora"] else []
            overrides = [
                "task=import",
                f"checkpoint={folder / mode}/delta.pth",
                f"run_dir={place}/run",
                f"vision.path={folder / mode}/swin",
                f"lm.path={lm}",
                *alpha,
            ]
            command = [sys.executable, str(ROOT / "run.py"), *overrides]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            model = load_run(f"{place}/run", device="cpu").model
        errors_of_mode, same = errors(model, facts, tensors), same_reports(model, facts, tensors)
        total, equal = total + len(same), equal + sum(same)
        figures = " ".join(f"{errors_of_mode[name]:>10.1e}" for name in ("loss", "llama_proj", "layer_norm", "norm"))
        print(f"{mode:<8} {figures}  {sum(same)} of {len(same)} the same string")
    print(f"reports: {equal} of {total}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
