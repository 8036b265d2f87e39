"""Each error of Hydra and OmegaConf that has a message of ours, provoked by a command."""

from importlib.metadata import version
from pathlib import Path

import pytest
from run_in_process import run_in_process
from smallest_run import ROOT

MESSAGES = [
    (["trainer.epochs=abc"], "trainer.epochs=abc: give a number"),
    (["trainer.betas=3"], "trainer.betas=3: give a list such as [0.9,0.98]"),
    (["evaluate.splits={a: 1}"], "evaluate.splits={a: 1}: give a list such as [a,b]"),
    (["trainer.epochs.x=3"], "trainer.epochs is a number, there is nothing below it"),
    (
        ["tune.lora.r=4"],
        "tune.lora has no such key with the options chosen; it is null or a list there: use tune=delta",
    ),
    (["lm.stop.x=3"], "lm.stop has no such key with the options chosen"),
    (["~trainer.nothing"], "~trainer.nothing: there is no such entry to take out"),
    (["+seed=3"], "+seed=3: this option exists already: write seed=3"),
    (["lmm=3"], "unknown option lmm: did you mean lm?"),
    (["choices=3"], "unknown option choices: known here are audit, augment, checkpoint"),
    (["image=x.png"], "unknown option image: write images=[FILE]"),
    (["deepspeed=zero3"], "unknown option deepspeed: write trainer=zero2 or trainer=zero3"),
    (["metrics=[rougeL]"], "metrics=rougeL does not exist: use metrics=[rouge_l]"),
    (["metrics='???'"], "metrics=??? has no value: choose one of bleu, change,"),
    (["metrics=[bertscore]"], "use metrics=[findings], or chexbert and radgraph, which need weights"),
    (["trainer.epoch.x=3"], "unknown option trainer.epoch: did you mean trainer.epochs?"),
    (["lm.path.x.y=3"], "lm.path is a text or null, there is nothing below it"),
    (["evaluate={epoch: 3}"], "the dictionary has a key that is unknown here; pass each value as evaluate.KEY=VALUE"),
    (["hydra.sweeper.x=1"], "unknown option hydra.sweeper.x: docs/sweeps.md has those of launchers and sweepers"),
    (["hydra/nothing=3"], "hydra/nothing=3: of Hydra's own options R2Gen uses only"),
    (["tune/vision=3"], "tune/vision is not a group. The groups are lm, quant, vision"),
    (["lm=lama2"], "lm=lama2 does not exist: did you mean llama2?\noptions of lm: auto, baichuan,"),
    (["+sweeps=nothing"], "sweeps=nothing does not exist\noptions of sweeps: data_scaling,"),
    (["+sweeps=optuna_phantom"], "hydra.sweeper: these are options of a search; add hydra/sweeper=optuna"),
    (["seed=${nothing}"], "${NAME} is the value of another option"),
    (["data.seed=${oc.env:NO_SUCH_NAME}"], "Environment variable 'NO_SUCH_NAME' not found"),
    (["data.seed=${a:b}"], "Unsupported interpolation type a"),
    (
        ["data=mix", "data.sets=[own]"],
        "data.sets=[own]: give names with values instead of a list, as in 'data.sets={NAME: {root: DIR}}'",
    ),
    (["--config-dir", "/no/such/folder"], "/no/such/folder"),
]


@pytest.mark.parametrize(("words", "message"), MESSAGES, ids=[" ".join(words) for words, _ in MESSAGES])
def test_an_error_of_hydra_is_one_message(words: list[str], message: str, tmp_path: Path):
    status, output = run_in_process(*words, cwd=tmp_path)
    assert (status, output[:7], "Traceback" in output) == (2, "error: ", False), output
    assert message in output
    assert not list(tmp_path.iterdir())


def test_hydra_is_the_version_whose_messages_are_matched():
    assert version("hydra-core") == "1.3.8"
    assert '"hydra-core==1.3.8"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
