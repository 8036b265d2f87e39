"""A token or password of the environment is in no file and no message, however a command or its YAML gives it."""

from pathlib import Path

import pytest
from run_in_process import run_in_process
from tiers import fast_only

from r2gen.config.secrets import secrets_of

VALUE = "zq7-not.a_real+value"
NAMES = (
    *("HF_TOKEN", "WANDB_API_KEY", "GITHUB_PAT", "DB_PWD", "PASSWORD", "PGPASSWORD", "GPG_PASSPHRASE", "PRIVATE_KEY"),
    *("CLIENT_SECRET", "AWS_SECRET_ACCESS_KEY", "AZURE_CREDENTIALS", "SSHPASS", "MYSQL_PASS", "OPENAI_KEY", "NPM_AUTH"),
)
OTHER_NAMES = ("TOKENIZERS_PARALLELISM", "PWD", "OLDPWD", "PATH", "HF_TOKEN_PATH", "SSH_AUTH_SOCK", "AWS_ACCESS_KEY_ID")
SWEEP = ("-m", "seed=1,2", "hydra.sweep.dir=sweep")
PLACES = {
    "train": ["lm.revision=@"],
    "part of a value": ["data.root=/data/@/x", "data=iu_xray"],
    "a list": ["images=[a.png,@]", "task=generate", "run_dir=nowhere"],
    "a key": ["+trainer.@=1"],
    "read from the environment": ["lm.revision=${oc.env:SOME_VARIABLE}"],
    "a wrong type": ["trainer.epochs=${oc.env:SOME_VARIABLE}"],
    "an option that does not exist": ["lm=@"],
    "run_dir": ["run_dir=@"],
    "compose": ["task=compose", "lm.revision=@"],
    "audit": ["task=audit", "out=@"],
    "compare": ["task=compare", "runs=[@=run]"],
    "prepare": ["task=prepare", "data=mimic_cxr", "data.root=@"],
    "status": ["task=status", "sweep=@"],
    "dashboard": ["task=dashboard", "sweep=@"],
    "evaluate": ["task=evaluate", "run_dir=@"],
    "export": ["task=export", "run_dir=nowhere", "out=@"],
    "import": ["task=import", "checkpoint=@", "run_dir=a", "vision.path=b", "lm.path=c"],
    "a sweep": [*SWEEP, "lm.revision=@"],
    "a value of a sweep": ["-m", "hydra.sweep.dir=sweep", "lm.revision=@,main"],
    "a quoted value of a sweep": ["-m", "hydra.sweep.dir=sweep", "lm.revision='@','main'"],
    "the folder of a sweep": ["-m", "seed=1,2", "hydra.sweep.dir=@"],
    "the parameters of a sweep": ["-m", "hydra.sweep.dir=sweep", "+hydra.sweeper.params={lm.revision: '@,b'}"],
    "a search": [*SWEEP, "hydra/sweeper=optuna", "lm.revision=@"],
    "a choice of a search": ["-m", "hydra.sweep.dir=sweep", "hydra/sweeper=optuna", "lm.revision=choice(a,@)"],
    "env_set": [*SWEEP, "+hydra.job.env_set.SOME=@"],
    "env_copy": [*SWEEP, "hydra.job.env_copy=[SOME_VARIABLE]"],
    "the queue": [*SWEEP, "hydra/launcher=slurm", "+hydra.launcher.options.slurm_comment=@"],
    "--config-dir": ["--config-dir", "@"],
    "an experiment": ["--config-dir", "conf", "experiment=literal"],
    "an experiment in a sweep": ["--config-dir", "conf", *SWEEP, "experiment=literal"],
    "experiments in a sweep": ["--config-dir", "conf", "-m", "hydra.sweep.dir=sweep", "experiment=literal,reading"],
    "an experiment that reads": ["--config-dir", "conf", *SWEEP, "experiment=reading"],
    "a sweep file": ["--config-dir", "conf", "-m", "+sweeps=literal", "hydra.sweep.dir=sweep"],
    "a sweep file that reads": ["--config-dir", "conf", "-m", "+sweeps=reading", "hydra.sweep.dir=sweep"],
    "the queue of a sweep file": ["--config-dir", "conf", "-m", "+sweeps=queue", "hydra.sweep.dir=sweep"],
}
HEAD = "# @package _global_\n"
FILES = {
    "experiment/literal": "lm: {revision: '@'}\n",
    "experiment/reading": "lm: {revision: '${oc.env:SOME_VARIABLE}'}\n",
    "sweeps/literal": "hydra: {sweeper: {params: {seed: '1,2', lm.revision: '@,b'}}}\n",
    "sweeps/reading": "hydra: {sweeper: {params: {seed: '1,2', lm.revision: '${oc.env:SOME_VARIABLE},b'}}}\n",
    "sweeps/queue": "defaults: [{override /hydra/launcher: slurm}]\n"
    "hydra: {launcher: {options: {slurm_comment: '@'}}}\n",
}
# Such a word is refused before Hydra composes.
FAST = ("train", "a key", "a value of a sweep", "a wrong type", "an experiment in a sweep", "a sweep file that reads")


@pytest.mark.parametrize("place", fast_only(PLACES, *FAST))
def test_a_secret_is_refused_before_any_file_is_written(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    check(tmp_path, monkeypatch, PLACES[place], variable="SOME_VARIABLE_TOKEN")


@pytest.mark.parametrize("variable", NAMES)
def test_each_kind_of_variable_is_a_secret(variable: str):
    assert secrets_of({variable: VALUE}) == {variable: VALUE}


@pytest.mark.parametrize("variable", OTHER_NAMES)
def test_other_variables_are_not(variable: str):
    assert secrets_of({variable: VALUE}) == {}


def test_the_password_in_an_address_is_a_secret():
    assert secrets_of({"HTTPS_PROXY": f"http://me:{VALUE}@proxy:80"}) == {"HTTPS_PROXY": VALUE}


def test_a_secret_of_another_name_for_the_jobs_is_not_shown(tmp_path: Path):
    status, output = run_in_process("+hydra.job.env_set.HF_TOKEN=typed_value", cwd=tmp_path)
    assert (status, "typed_value" in output) == (2, False)


def test_a_short_password_is_refused_as_a_whole_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DB_PWD", "zq7xy9")
    status, output = run_in_process("lm.revision=zq7xy9", cwd=tmp_path)
    assert (status, "zq7xy9" in output) == (2, False)


def check(folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], *, variable: str) -> None:
    for name, content in FILES.items():
        file = folder / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(HEAD + content.replace("@", VALUE).replace("SOME_VARIABLE", variable))
    monkeypatch.setenv(variable, VALUE)
    before = sorted(folder.rglob("*"))
    given = [word.replace("@", VALUE).replace("SOME_VARIABLE", variable) for word in words]
    status, output = run_in_process(*given, cwd=folder)
    assert status == 2, output
    assert output.startswith("error: "), output
    assert VALUE not in output
    assert sorted(folder.rglob("*")) == before
