"""A command before it starts anything: composition, messages, exit statuses, and no import of torch."""

import itertools
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from composed import composed, composed_plain
from run_in_process import run_in_process
from smallest_run import ROOT, run

from r2gen.cli import help
from r2gen.config import rules, targets, task_table
from r2gen.config.lm_rules import ENCODER_DECODERS
from r2gen.config.overrides import as_passed, for_hydra
from r2gen.config.schema import Config
from r2gen.errors import UserError

GROUPS = ("lm", "quant", "vision", "projector", "tune", "tune/lm", "generation", "trainer")


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (ROOT / "conf" / group).glob("*.yaml"))


def test_every_option_of_every_group_composes_with_every_language_model():
    """No option changes the group lm, so each language model can be put into what an option composes to."""
    models = {lm: composed(f"lm={lm}", *(["lm.path=a"] if lm == "auto" else [])).lm for lm in options("lm")}
    for group in GROUPS[1:]:
        for option in options(group):
            delta = ["vision=swin_base"] if (group, option) == ("tune", "delta") else []
            config = composed("lm=llama2", f"{group}={option}", *delta)
            assert config.lm == models["llama2"]
            for lm in models.values():
                both = replace(config, lm=lm)
                random_quantised = lm.path is None and both.quant.mode != "none"
                contrastive = both.generation.get("penalty_alpha") is not None
                if random_quantised or (contrastive and lm.family in ENCODER_DECODERS):
                    with pytest.raises(
                        UserError, match=r"quantise a checkpoint|\(contrastive search\) is for decoder-only"
                    ):
                        rules.check(both)
                else:
                    rules.check(both)


def test_an_option_that_a_language_model_drops_is_left_out_of_the_profile_or_refused_with_both_files():
    config = composed("generation=r2gengpt_iu", "lm.generation.length_penalty=null", "lm.generation.seed=null")
    assert rules.dropped_keys(config) == {"length_penalty"}
    assert set(config.generation) - set(rules.usable_profile(config)) == {"length_penalty"}
    for override, message in (
        ("lm.generation.do_sample=null", "conf/generation/nucleus.yaml .* conf/lm/tiny.yaml .*generation.temperature"),
        ("lm.generation.max_new_tokens=null", "lm.generation drops max_new_tokens"),
        ("lm.generation.beams=null", "unknown option lm.generation.beams: did you mean lm.generation.num_beams"),
        ("lm.generation.num_beams=3", "only null is accepted"),
        ("generation.penalty_alpha=0.5", "generation.penalty_alpha .contrastive search. chooses among candidates"),
    ):
        with pytest.raises(UserError, match=message):
            composed("generation=nucleus", override)


def test_vision_tune_and_projector_compose_in_every_combination():
    """These options change no other group, so their groups can be put together; one combination shows it."""
    config = composed()
    names = ("vision", "projector", "tune", "tune/lm")
    groups: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name in names:
        for option in options(name):
            other = composed("vision=swin_base", f"{name}={option}")  # its lora_targets, which tune=delta needs
            groups[name][option] = other.tune.lm if name == "tune/lm" else getattr(other, name)
            if name != "tune/lm":
                changed = {spec.name for spec in fields(config) if differ(config, other, spec.name)}
                assert changed <= {"vision", name, "choices"}, option

    def together(vision: str, projector: str, tune: str, tune_lm: str) -> Config:
        return replace(
            config,
            vision=groups["vision"][vision],
            projector=groups["projector"][projector],
            tune=replace(groups["tune"][tune], lm=groups["tune/lm"][tune_lm]),
        )

    combinations = list(itertools.product(*(options(name) for name in names)))
    for combination in combinations:
        both = together(*combination)
        if combination[0] == "tiny" and combination[2] == "delta":
            with pytest.raises(UserError, match=r"tune=delta needs vision\.lora_targets"):
                rules.check(both)
        else:
            rules.check(both)
    overrides = [f"{name}={option}" for name, option in zip(names, combinations[-1], strict=True)]
    whole = composed(*overrides)
    assert replace(whole, choices={}) == replace(together(*combinations[-1]), choices={})


def differ(first: Config, second: Config, name: str) -> bool:
    return bool(getattr(first, name) != getattr(second, name))


def test_a_passed_dictionary_replaces_the_one_of_the_yaml():
    overrides = ["vision.name=resnet18", "vision.model_args={}", "lm=tiny"]
    assert composed_plain(*overrides)["vision"]["model_args"] == {}
    assert composed_plain("vision.model_args={stem_width: 8}")["vision"]["model_args"] == {"stem_width": 8}
    assert (
        composed_plain("vision=resnet50", "vision.model_args={stem_width: 8}")["vision"]["model_args"]["stem_width"]
        == 8
    )
    overrides += ["lm.generation={num_beams: null}", "trainer.deepspeed={dump_state: true}"]
    assert composed_plain(*overrides)["lm"]["generation"] == {"num_beams": None}
    assert composed_plain(*overrides)["trainer"]["deepspeed"]["dump_state"] is True
    assert as_passed(for_hydra(overrides)) == overrides


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes(experiment: str):
    composed(f"experiment={experiment}", "data.root=/data")


@pytest.mark.parametrize("file", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda file: str(file.relative_to(ROOT)))
def test_a_yaml_is_short_and_begins_with_its_purpose(file: Path):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert file.name == "config.yaml" or len(lines) <= 30
    assert help.headline(file)


def test_run_py_imports_no_torch():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import run; "
        "heavy = {'torch', 'transformers', 'timm', 'peft', 'deepspeed', 'wandb'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT)], check=True)


def test_cfg_job_prints_the_configuration_and_starts_nothing(tmp_path: Path):
    done = run("--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0
    assert "micro_batch_size: 4" in done.stdout
    assert not list(tmp_path.iterdir())


def test_help_lists_every_option_and_five_examples(tmp_path: Path):
    text = run("--help", cwd=tmp_path).stdout
    for group in (*GROUPS, "data", "metrics", "logger", "experiment"):
        assert f"  {group}=\n" in text
        for option in options(group):
            assert f"\n    {option} " in text
    for task in task_table.BY_NAME:
        assert f"\n  task={task:<10} " in text
    assert text.partition("examples")[2].count("  python run.py") == 5


REFUSED = [
    (["lm=lama2"], "did you mean llama2?"),
    (["quant=int3"], "options of quant: fp8, int8, int8_weight_only, nf4, none"),
    (["quant=int8"], "give lm.path, or use quant=none"),
    (["lm=llama2", "quant=nf4", "tune/lm=full"], "a quantised language model cannot be trained in full"),
    (["lm=llama2", "quant=int8", "quant.double_quant=true"], "quant.double_quant is for quant=nf4"),
    (["lm=llama2", "lm.device_map=auto", "trainer.devices=2"], "it needs lm.path, trainer.devices=1"),
    (["lm=llama2", "lm.dtype=float16", "tune/lm=full"], "which keeps fp32 masters"),
    (["lmm=3"], "unknown option lmm: did you mean lm?"),
    (["+lmm=3"], "unknown option lmm: did you mean lm?"),
    (["++lm.dtipe=3"], "unknown option lm.dtipe"),
    (["trainer.epoch=3"], "unknown option trainer.epoch: did you mean trainer.epochs?"),
    (["trainer.epochs=abc"], "trainer.epochs=abc"),
    (["trainer.epochs=0"], "trainer.epochs=0"),
    (["trainer.precision=fp8"], "choose one of auto, fp32, bf16"),
    (["vision.nam=x"], "unknown option vision.nam: did you mean vision.name?"),
    (["vision.image_size_px=big"], "vision.image_size_px=big"),
    (["vision._target_=os.system"], "not in r2gen"),
    (["vision._target_=r2gen.vision.encoder.Nothing"], "has no class Nothing"),
    (["generation.num_beam=3"], "did you mean generation.num_beams?"),
    (["trainer.deepspeed.gradient_clipping=1"], "trainer.gradient_clipping"),
    (["trainer.deepspeed.zero_optimisation={stage: 1}"], "did you mean trainer.deepspeed.zero_optimization?"),
    (["trainer.batch_size=30"], "must be a multiple"),
    (["evaluate.best=bleu_5"], "evaluate.best names bleu_5"),
    (["metrics=[findings]", "metrics.findings.uncertain=maybe"], "one of positive, negative, ignore"),
    (["evaluate.splits=[dev]"], "train, val and test"),
    (["evaluate.splits=[]"], "evaluate.splits is empty: name val, test or both"),
    (["evaluate.drop=[priors]"], "evaluate.drop=priors: not an input"),
    (["evaluate.drop=[prior]"], "evaluate.drop=prior: this model does not read it"),
    (["metrics=[phantom_story]"], "metrics.phantom_story reads the wording of data=phantom_story"),
    (["evaluate.every=nan"], "evaluate.every=nan: give a finite number"),
    (["evaluate.best=nan*bleu_4"], "bleu_4 weighs nan, give a finite number"),
    (["trainer.learning_rate=nan"], "trainer.learning_rate=nan: give a finite number"),
    (["trainer.epochs=inf"], "trainer.epochs=inf: give a finite number"),
    (["trainer.betas=[nan,0.9]"], "trainer.betas=nan: give a finite number"),
    (["tune.lora.r=4"], "tune.lora.r=4: tune.lora has no such key with the options chosen; it is null"),
    (["lm=llama2", "tune.lm.lora.r=2", "tune/lm=frozen"], "use tune/lm=lora"),
    (["lm=llama2", "tune.lm.mode=lora"], "choose them instead of tune.lm.mode=lora"),
    (["lm=llama2", "lm.architecture.hidden_size=64"], "use lm=tiny"),
    (["lm.stop.x=3"], "lm.stop.x=3: lm.stop has no such key"),
    (["generation={num_beam: 3}"], "pass each value as generation.KEY=VALUE"),
    (["seed=-1"], "seed=-1 must not be negative"),
    (["data.seed=-1"], "data.seed=-1 must not be negative"),
    (["lm.architecture.hidden_size=0"], "lm.architecture.hidden_size=0 must be more than 0"),
    (["lm.architecture.hidden_size=132"], "must be a multiple of twice lm.architecture.num_attention_heads"),
    (["data=iu_xray", "~metrics.phantom_findings"], ""),
    (["data=iu_xray"], "data.root"),
    (["data=iu_xray", "data.root=/nope"], "data.root=/nope"),
    (["task=evaluate"], "run_dir=DIR"),
    (["task=prepare"], "task=prepare: data=phantom needs no preparation. Train on it as it is"),
    (["task=prepare", "data=mimic_cxr", "data.root=/nope"], "data.root=/nope does not exist"),
    (["task=prepare", "data=mimic_cxr", "data.root=/"], "needs one mimic-cxr-2.0.0-split.csv.gz there: there is none"),
    (["task=prepare", "data=iu_xray", "data.root=/"], "there is no XML report in NLMCXR_reports/ecgen-radiology"),
    (["task=prepare", "data=mimic_cxr", "data.root=/", "lm=llama2"], "task=prepare trains nothing"),
    (["prepare.sections=impression"], "prepare.sections=impression is for task=prepare"),
    (["data=mimic_cxr", "data.root=/", "data.check=slow"], "one of fast, full, none"),
    (["task=generate", "run_dir=/nope", "images=[a.png]"], "not a run folder"),
    (["images=[a.png]"], "task=generate"),
    (["lm.path=/nope"], "set one of them to null"),
    (["tune/lm=lora", "lm.lora_targets=[]"], "lm.lora_targets"),
    (["experiment=nothing"], "experiment=nothing"),
    (["objective.weight=2"], "unknown option objective.weight: nothing can be set there"),
    (["objective=align", "objective.weight=2"], "unknown option objective.weight: known here are temperature, width"),
    (["trainer.epochs=[1"], "trainer.epochs=[1: "),
    (["-m", "seed=1,2", "--cfg", "job"], "--cfg and -m exclude each other"),
]


@pytest.mark.parametrize(
    ("overrides", "words"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_an_invalid_command_has_one_message_and_status_2(overrides: list[str], words: str, tmp_path: Path):
    status, output = run_in_process(*overrides, cwd=tmp_path)
    assert status == 2, output
    assert output.startswith("error: ")
    assert words in output
    assert not list(tmp_path.iterdir()), "nothing was made"


def test_the_process_of_an_invalid_command_exits_with_status_2(tmp_path: Path):
    done = run("trainer.epochs=[1", cwd=tmp_path, smallest=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: trainer.epochs=[1: ")
    assert "Traceback" not in done.stderr


def test_a_target_outside_r2gen_is_refused_also_in_python():
    with pytest.raises(UserError, match="not in r2gen"):
        targets.parameters("torch.hub.load")
