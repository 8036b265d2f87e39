"""The code blocks of docs/add-a-language-model.md, which adds OLMo-2, are run as they are."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from golden_checkpoints import ROOT
from prompt_ids import prompt_ids

from r2gen.config.compose import compose
from r2gen.config.decoding import Decoding
from r2gen.config.prompt_pieces import MESSAGE
from r2gen.config.read import to_plain
from r2gen.config.schema import LmConfig
from r2gen.errors import UserError
from r2gen.lm import LanguageModel, Prompt, load_lm
from r2gen.runs.stored import checked

# B batch, T tokens
GUIDE = (ROOT / "docs/add-a-language-model.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(code)


LM_CONFIG: dict[str, Any] = yaml.safe_load(block("yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("guide")
    with pytest.MonkeyPatch.context() as moved:
        moved.chdir(here)
        exec(compile(block("python"), "docs/add-a-language-model.md", "exec"), {})
    return here / "tiny-arcee"


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    model = load_lm(folder, family=LM_CONFIG["family"], stop=LM_CONFIG["stop"])
    with torch.no_grad():  # random weights made large, so that texts differ
        for parameter in model.model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10)
    return model


def test_the_yaml_file_composes_and_its_layers_exist(lm: LanguageModel) -> None:
    defaults = to_plain(LmConfig())
    plain = compose(["lm=llama2"]).plain
    written = defaults | LM_CONFIG | {"prompt": defaults["prompt"] | LM_CONFIG["prompt"]}
    config = checked(plain | {"lm": written}, {})
    names = {name.rpartition(".")[2] for name, _ in lm.model.named_modules()}
    assert set(config.lm.lora_targets) <= names
    assert not (ROOT / "conf/lm/arcee.yaml").exists()  # the guide adds a family that is not there yet


def ids_of_prompt(lm: LanguageModel) -> list[int]:
    prompt = Prompt(before="", after="", **LM_CONFIG["prompt"])
    before, after = prompt_ids(prompt, lm.tokenizer, rows=lm.tokenizer.vocabulary_size)
    return before + after


def test_the_prompt_is_the_published_turn_around_the_image(lm: LanguageModel) -> None:
    ids = ids_of_prompt(lm)
    assert ids[0] == lm.tokenizer.bos_id
    assert lm.tokenizer.decode(ids) == f"<|user|>\n{MESSAGE.replace('{image}', '')}\n<|assistant|>\n"


def test_a_report_does_not_depend_on_its_batch(lm: LanguageModel) -> None:
    prompt_BT = torch.tensor([ids_of_prompt(lm)] * 3)
    prompt_BT[1:, 3] = torch.tensor([7, 9])
    mask_BT = torch.ones_like(prompt_BT)
    mask_BT[2, -5:] = 0
    decoding = Decoding(max_new_tokens=8, num_beams=2)
    together = [generated.text for generated in lm.generate(lm.embed(prompt_BT), mask_BT, decoding)]
    rows = [
        (lm.embed(row[None, : int(mask.sum())]), mask[None, : int(mask.sum())])
        for row, mask in zip(prompt_BT, mask_BT, strict=True)
    ]
    assert together == [lm.generate(*row, decoding)[0].text for row in rows]
    assert len(set(together)) > 1


def test_gradients_reach_the_prompt(lm: LanguageModel) -> None:
    prompt_BT = torch.tensor([[*ids_of_prompt(lm), 300, 301]])
    embeds_BTE = lm.embed(prompt_BT).detach().requires_grad_()
    loss = lm.loss(embeds_BTE, torch.ones_like(prompt_BT), prompt_BT[:, -2:])
    loss.backward()
    assert embeds_BTE.grad is not None
    assert bool(embeds_BTE.grad[:, :-2].abs().sum() > 0)


def test_the_messages_of_the_guide_are_those_of_the_code(folder: Path, lm: LanguageModel) -> None:
    with pytest.raises(UserError, match=r"lm\.family=llama, but .*/config\.json says model_type=arcee"):
        load_lm(folder, family="llama")
    with pytest.raises(UserError, match=r"'<\|user\|>' is not one token of this checkpoint"):
        prompt_ids(Prompt(before=[{"token": "<|user|>"}], after="", bos=False), lm.tokenizer)


def test_the_command_of_the_guide_writes_the_golden_prompt(tmp_path: Path) -> None:
    """In a copy of the repository to which only the YAML file was added."""
    for folder in ("conf", "r2gen", "tests/support", "tests/golden"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "conf/lm/arcee.yaml").write_text(block("yaml"))
    (command,) = re.findall(r"^python (tests/support/golden_prompts.py)$", GUIDE, re.MULTILINE)
    subprocess.run([sys.executable, command], cwd=tmp_path, check=True)
    written, before = (json.loads((root / "tests/golden/prompts.json").read_text()) for root in (tmp_path, ROOT))
    assert written["arcee"] == {"checkpoint": None, "before": "", "after": ""}
    assert written | before == written  # a config that has none yet gets one too
