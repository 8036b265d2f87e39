"""The members of every data set, and the cost of one in another format: one class and one YAML file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from PIL import Image
from smallest_run import ROOT, SMALLEST

from r2gen.config.targets import Target, class_constant, members
from r2gen.data.annotation import AnnotatedReports
from r2gen.data.phantom import VERSION, Phantom
from r2gen.data.reports import DataSource, ReportData, data_digest
from r2gen.data.share import TrainShare

PHANTOM: dict[str, Any] = yaml.safe_load((ROOT / "conf/data/phantom.yaml").read_text())["data"]
IU_XRAY: dict[str, Any] = yaml.safe_load((ROOT / "conf/data/iu_xray.yaml").read_text())
PHANTOM_CLASS, IU_XRAY_CLASS = PHANTOM.pop("_target_"), IU_XRAY.pop("_target_")
ANNOTATION = '{"val": [{"id": "a", "report": "Clear lungs.", "image_path": ["a.png"]}]}'


def without(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in names}


@pytest.mark.parametrize(
    ("arguments", "digest"),
    [
        (PHANTOM, "7a4092684d5281f0"),
        (without(PHANTOM, "seed"), "179560a4ab1534f0"),
        (IU_XRAY, "ef7ca55040a24606"),
        (IU_XRAY | {"root": "another root", "check": "none", "section": None}, "ef7ca55040a24606"),
        (IU_XRAY | {"gray_bits": 12}, "6b8c73399b774cfb"),
        (IU_XRAY | {"gray_bits": None}, "c8c65c09ab47384b"),
        (without(IU_XRAY, "images", "check", "section"), "6a240ec361abb00e"),
    ],
)
def test_the_digest_is_that_of_runs_on_disk_also_for_configurations_that_lack_arguments(
    arguments: dict[str, Any], digest: str, tmp_path: Path
) -> None:
    if "root" in arguments:
        root = tmp_path / arguments["root"].replace("?", "x")
        root.mkdir()
        (root / "annotation.json").write_text(ANNOTATION)
        arguments = arguments | {"root": str(root)}
    assert data_digest(Target(IU_XRAY_CLASS if "root" in arguments else PHANTOM_CLASS, arguments)) == digest


def test_the_digest_changes_with_the_annotation(tmp_path: Path) -> None:
    (tmp_path / "annotation.json").write_text(ANNOTATION.replace("Clear", "Dark"))
    assert data_digest(Target(IU_XRAY_CLASS, IU_XRAY | {"root": str(tmp_path)})) != "ef7ca55040a24606"


def test_a_share_of_the_training_studies_keeps_section_and_cleaner(tmp_path: Path) -> None:
    (tmp_path / "annotation.json").write_text(ANNOTATION)
    annotated: DataSource = AnnotatedReports(root=str(tmp_path), cleaner="iu_xray", section="findings")
    phantom: DataSource = Phantom(train_studies=4, val_studies=1, test_studies=1, size_px=32, version=VERSION)
    for source, facts in ((annotated, ("findings", "iu_xray")), (phantom, ("whole", "none"))):
        share: ReportData = TrainShare(source, 0.5)
        assert (share.section, share.cleaner) == (source.section, source.cleaner) == facts
    assert len(TrainShare(phantom, 0.5).studies("train")) == 2
    assert annotated.splits() == {"entries": 1, "study_id": 0, "subject_id": 0}
    assert phantom.splits() is None


def test_members_and_constants_of_a_class_are_read_without_importing_it() -> None:
    assert {"studies", "image", "section", "cleaner", "check", "splits", "digest"} <= members(IU_XRAY_CLASS)
    assert class_constant(PHANTOM_CLASS, "phantom_wording") is True
    assert class_constant(IU_XRAY_CLASS, "phantom_wording") is None


def test_a_phantom_is_built_and_identified_without_numpy_and_pillow() -> None:
    program = dedent(f"""
        import sys
        from r2gen.config.targets import Target, instantiate
        from r2gen.data.reports import data_digest
        phantom = Target("{PHANTOM_CLASS}", {PHANTOM})
        data_digest(phantom)
        instantiate(phantom).check()
        print({{"numpy", "PIL", "torch"}} & set(sys.modules))
    """)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


JSON_LINES = '''
"""Studies as JSON lines: {"id", "split", "report", "image"}."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from r2gen.data.images import read_image
from r2gen.data.reports import Study, digest_of
from r2gen.errors import UserError


class JsonLines:
    """One study per line of studies.jsonl, with one image each."""

    section = "impression"
    cleaner = "none"

    def __init__(self, *, root: str) -> None:
        self.root = Path(root)
        self.lines = [json.loads(line) for line in (self.root / "studies.jsonl").read_text().splitlines()]

    @classmethod
    def digest(cls, arguments: Mapping[str, Any]) -> str:
        return digest_of(cls, {}, contents=(Path(arguments["root"]) / "studies.jsonl").read_bytes())

    def check(self) -> None:
        for line in self.lines:
            if not (self.root / line["image"]).is_file():
                raise UserError(f"data.root={self.root}: there is no {line['image']}. Copy it there.")

    def splits(self) -> Mapping[str, int]:
        return {"entries": len(self.lines), "study_id": 0, "subject_id": 0}

    def studies(self, split: str) -> Sequence[Study]:
        lines = [line for line in self.lines if line["split"] == split]
        return [Study(id=line["id"], views=(line["image"],), report=line["report"]) for line in lines]

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        return read_image(self.root / view, at_least_px=at_least_px)
'''


def test_a_data_set_in_another_format_is_one_class_and_one_yaml(tmp_path: Path) -> None:
    code, data = tmp_path / "code", tmp_path / "data"
    for folder in ("r2gen", "conf", "sweeps"):
        shutil.copytree(ROOT / folder, code / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", code)
    (code / "r2gen/data/json_lines.py").write_text(JSON_LINES)
    (code / "conf/data/json_lines.yaml").write_text("_target_: r2gen.data.json_lines.JsonLines\nroot: ???\n")
    data.mkdir()
    lines = []
    for number in range(24):
        Image.new("L", (32, 32), 10 * number).save(data / f"{number}.png")
        split = "train" if number < 16 else "val" if number < 20 else "test"
        report = f"opacity number {number} is seen ."
        lines.append({"id": f"s{number}", "split": split, "report": report, "image": f"{number}.png"})
    (data / "studies.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(code / "run.py"), "data=json_lines", f"data.root={data}", *words]
        environment = os.environ | {"PYTHONPATH": str(code)}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    smallest = [word for word in SMALLEST if not word.startswith("data.")]
    trained = run(*smallest, "trainer.max_steps=1", "run_dir=run")
    assert trained.returncode == 0, trained.stderr
    recipe = json.loads((tmp_path / "run/metrics.json").read_text())["recipe"]
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (recipe["section"], recipe["cleaner"], recipe["data"]) == ("impression", "none", record["data_hash"])
    assert "is finished" in run(*smallest, "trainer.max_steps=1", "run_dir=run").stdout
    audited = run("task=audit")
    assert "splits: no id is in two splits" in audited.stdout, audited.stderr
    wrong_metric = run("metrics=[phantom_findings]")
    assert (wrong_metric.returncode, "phantom's own wording" in wrong_metric.stderr) == (2, True)
    (data / "0.png").unlink()
    refused = run(*smallest, "run_dir=other")
    assert (refused.returncode, "there is no 0.png" in refused.stderr) == (2, True)
    assert not (tmp_path / "other").exists()
