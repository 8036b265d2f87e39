"""The folder that task=export writes, checked before a rank has its job."""

from pathlib import Path

from r2gen.config import rules
from r2gen.config.schema import Config
from r2gen.errors import UserError
from r2gen.runs.files import check_folder, links_below, refuse_link
from r2gen.runs.folder import EXPORTED


def export_folder(config: Config) -> Path:
    return Path(config.out or config.folder / "export")


def check_export(config: Config) -> None:
    """Raise UserError if the run cannot be exported, or if the folder cannot be used, such as for its links."""
    if (config.folder / EXPORTED).is_file():
        raise UserError(f"run_dir={config.folder} is an exported folder already. Export the run that it came from")
    if config.quant.mode != "none" and config.tune.lm.mode == "lora":
        raise UserError(
            "task=export: LoRA cannot be merged into a quantised language model. Pass on the run folder, or train with "
            "quant=none"
        )
    if rules.findings_in_prompt(config):
        raise UserError(
            "task=export: a folder without R2Gen cannot predict the findings that objective=findings_prompt puts into "
            "the prompt. Pass on the run folder"
        )
    out = export_folder(config)
    refuse_link(out / EXPORTED)
    check_folder(out, option="out", known_by=EXPORTED)
    for link in links_below(out):
        refuse_link(link)
