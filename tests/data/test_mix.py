"""data=mix: the union of data sets, with ids of their own, draws by weight, scores of each set, and what is refused."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked_run import run
from PIL import Image
from run_in_process import run_in_process
from smallest_run import SMALLEST

from r2gen.config.mixed import choices_of, roots, with_roots
from r2gen.config.read import read_target
from r2gen.config.targets import Target, instantiate
from r2gen.data.loader import TrainingOrder, epoch_length
from r2gen.data.mix import Mix
from r2gen.data.reports import SPLITS, data_digest
from r2gen.data.share import TrainShare
from r2gen.errors import UserError
from r2gen.evaluate.frames import scores_frame
from r2gen.train.published import summary_of

SMALL = {"data": "phantom", "train_studies": 12, "val_studies": 6, "test_studies": 4, "size_px": 32}


def target(**sets: Any) -> Target:
    return read_target({"_target_": "r2gen.data.mix.Mix", "sets": sets}, "data")


def mix(**sets: Any) -> Mix:
    made: Mix = instantiate(target(**sets))
    return made


def write_own(root: Path, splits: dict[str, list[str]], *, prefix: str = "") -> Path:
    """A data set in R2Gen's format with one image for each name; equal names have equal pixels."""
    (root / "images" / prefix).mkdir(parents=True)
    annotation = {}
    for split, names in splits.items():
        entries = annotation[split] = []
        for name in names:
            file = f"{prefix}{name}.png"
            Image.new("L", (32, 32), 5 * len(name) + ord(name[-1]) % 50).save(root / "images" / file)
            report = f"Opacity {name} is seen. The heart is normal."
            entries.append({"id": name, "subject_id": f"p{name}", "report": report, "image_path": [file]})
    (root / "annotation.json").write_text(json.dumps(annotation))
    return root


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, **splits: list[str]) -> str:
        return str(write_own(tmp_path / name, splits))

    return write


def test_a_set_is_the_yaml_that_it_names_with_the_options_that_are_passed(own: Callable[..., str]) -> None:
    root = own("a", train=["x"])
    node = target(own={"root": root}, second={"data": "own", "root": root, "cleaner": "iu_xray", "weight": 2})
    first, second = node.arguments["sets"].values()
    assert (first["_target_"], first["cleaner"], first["weight"]) == (
        "r2gen.data.annotation.AnnotatedReports",
        "none",
        1,
    )
    assert choices_of(node, "mix") == {"own": "own", "second": "own"}
    assert (second["cleaner"], second["weight"], second["root"]) == ("iu_xray", 2.0, root)
    assert read_target({"_target_": node.name, **node.arguments}, "data") == node, "as config.yaml has it"
    assert roots(node) == {"data.sets.own.root": root, "data.sets.second.root": root}
    assert set(roots(with_roots(node, str.upper)).values()) == {root.upper()}


def test_ids_images_and_priors_name_their_set_and_each_set_has_its_cleaner(own: Callable[..., str]) -> None:
    first, second = own("a", train=["x", "y"], val=["v"]), own("b", train=["x"], test=["t"])
    annotation = json.loads((Path(first) / "annotation.json").read_text())
    annotation["train"][1] |= {"subject_id": "px", "prior": {"id": "x", "days": 3}}
    (Path(first) / "annotation.json").write_text(json.dumps(annotation))
    data = mix(a={"data": "own", "root": first}, b={"data": "own", "root": second, "cleaner": "iu_xray"})
    data.check()
    assert {split: [study.id for study in data.studies(split)] for split in SPLITS} == {
        "train": ["a/x", "b/x", "a/y"],
        "val": ["a/v"],
        "test": ["b/t"],
    }
    unchanged, lowered, later = data.studies("train")
    assert (unchanged.report, lowered.report) == (
        "Opacity x is seen. The heart is normal.",
        "opacity x is seen . the heart is normal .",
    )
    assert later.prior is not None
    assert (later.prior.id, later.prior.views, later.patient) == ("a/x", ("a/x.png",), "a/px")
    assert data.image("b/x.png").size == (32, 32)
    assert (data.cleaner, data.section) == ("none+iu_xray", "not stated")
    assert data.splits() == {"entries": 5, "study_id": 0, "subject_id": 5}


def test_every_part_of_a_split_has_the_sets_in_proportion() -> None:
    data = mix(a=SMALL | {"val_studies": 60}, b=SMALL | {"val_studies": 20, "seed": 1})
    for count in (4, 8, 40):
        assert Counter(study.set for study in data.studies("val")[:count]) == {"a": count * 3 // 4, "b": count // 4}


def test_the_digest_changes_with_names_weights_and_studies_and_not_with_folders(own: Callable[..., str]) -> None:
    root = own("a", train=["x"])
    node = {"data": "own", "root": root}
    digest = data_digest(target(a=node, b=SMALL))
    moved = shutil.copytree(root, Path(root).with_name("moved"))
    assert data_digest(target(a=node | {"root": str(moved), "check": "none"}, b=SMALL)) == digest
    others = [
        target(c=node, b=SMALL),
        target(a=node, b=SMALL | {"seed": 3}),
        target(a=node | {"weight": 2}, b=SMALL),
        target(a=node | {"cleaner": "iu_xray"}, b=SMALL),
        target(a=node),
    ]
    assert len({digest, *map(data_digest, others)}) == 6


@pytest.mark.parametrize("weight", [0.1, 0.5, 1.0, 2.0, 2.3])
def test_an_epoch_draws_each_set_by_its_weight_and_every_study_equally_often(weight: float) -> None:
    weights = [1.0] * 30 + [weight] * 20
    order = TrainingOrder(50, seed=3, shuffle=True, weights=weights)
    assert order.studies == epoch_length(50, weights) == 30 + round(20 * weight)
    total = Counter[int]()
    for epoch in range(10):
        drawn = Counter(order(epoch * order.studies + index) for index in range(order.studies))
        assert all(drawn[study] == 1 for study in range(30)) or weight == 1
        assert sum(drawn[study] for study in range(30, 50)) == round(20 * weight)
        total += drawn
    assert {total[study] for study in range(30)} == {10}
    times = {total[study] for study in range(30, 50)}
    assert max(times) - min(times) <= 1


def test_the_order_with_weights_depends_on_seed_and_position_only() -> None:
    weights = [1.0] * 7 + [0.5] * 6
    order, other = (TrainingOrder(13, seed=1, shuffle=True, weights=weights) for _ in range(2))
    forwards = [order(position) for position in range(60)]
    assert [other(position) for position in reversed(range(60))] == forwards[::-1]
    assert [TrainingOrder(13, seed=2, shuffle=True, weights=weights)(position) for position in range(60)] != forwards
    plain = TrainingOrder(13, seed=1, shuffle=False, weights=weights)
    assert [plain(position) for position in range(7)] == list(range(7))


def test_a_share_of_the_training_studies_keeps_sets_and_weights() -> None:
    studies = TrainShare(mix(a=SMALL | {"train_studies": 40}, b=SMALL | {"seed": 1, "weight": 3}), 0.5).studies("train")
    assert {(study.set, study.weight) for study in studies} == {("a", 1.0), ("b", 3.0)}
    assert len(studies) == 26


def test_an_image_that_one_set_trains_on_and_another_scores_is_refused(tmp_path: Path) -> None:
    names = [f"scan{number}" for number in range(6)]
    first = write_own(tmp_path / "a", {"train": names}, prefix="12/")
    second = write_own(tmp_path / "b", {"train": ["other"], "test": names[:2]})
    sets = {"a": {"data": "own", "root": str(first)}, "b": {"data": "own", "root": str(second)}}
    with pytest.raises(UserError, match=r"image 12/scan0\.png of the training of a is also in test of b, and 2 images"):
        mix(**sets).check()
    for file in (second / "images").glob("scan*.png"):
        Image.new("L", (32, 32), 250).save(file)
    mix(**sets).check()


WRONG = [
    ("{}", "data=mix: name its data sets, as in"),
    ("{own: 3}", "data.sets.own=3: give the options of a data set, such as {root: DIR}"),
    ("{own: {}}", "data.sets.own.root has no value: give data.sets.own.root=..."),
    ("{chest: {root: a}}", "data.sets.chest: there is no conf/data/chest.yaml. Add data: NAME, one of "),
    ("{own: {root: a, colour: 3}}", "unknown option data.sets.own.colour"),
    ("{own: {root: a, cleaner: soap}}", "data.sets.own.cleaner=soap: give one of iu_xray, mimic_cxr, none"),
    ("{own: {root: a, weight: 0}}", "data.sets.own.weight=0: give a number above 0 and up to 1,000"),
    ("{own: {root: a, weight: many}}", "data.sets.own.weight=many: give a number"),
    ("{own: {root: nowhere}}", "data.sets.own.root="),
    ("{own: {root: ''}}", "data.sets.own.root is empty"),
    ("{a/b: {data: own, root: a}}", "a name has letters, digits, _ and - only"),
    ("{mix: {sets: {own: {root: a}}}}", "data.sets.mix: a mix cannot contain another one"),
    ("{own: {_target_: os.system}}", "data.sets.own: _target_=os.system is not in r2gen"),
    ("{own: {root: a}, again: {data: own, root: a}}", "data.sets: own and again are the same data"),
]


@pytest.mark.parametrize(("sets", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_mix_is_refused_in_one_line(sets: str, message: str, tmp_path: Path) -> None:
    write_own(tmp_path / "a", {"train": ["x"]})
    status, output = run_in_process("task=compose", "data=mix", f"data.sets={sets}", cwd=tmp_path)
    assert (status, output.count("\n")) == (2, 1), output
    assert output.startswith("error: ")
    assert message in output


@pytest.mark.slow
def test_a_mix_is_trained_scored_by_set_and_evaluated_again(tmp_path: Path) -> None:
    own = write_own(tmp_path / "own", {split: [f"{split}{number}" for number in range(8)] for split in SPLITS})
    first = "{data: phantom, train_studies: 24, val_studies: 6, test_studies: 6, size_px: 32}"
    sets = f"data.sets={{drawn: {first}, own: {{root: own, weight: 2.5}}}}"
    small = [word for word in SMALLEST if not word.startswith(("data.", "trainer.epochs"))]
    words = ("data=mix", sets, *small, "trainer.max_steps=20", "trainer.epochs=99", "run_dir=run")
    done = run(*words, cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert "an epoch draws 44 studies: 24 of drawn x 1, 8 of own x 2.5" in done.stdout
    assert "the model by data set (studies)" in done.stdout
    split = json.loads((tmp_path / "run/metrics.json").read_text())["splits"]["test"]
    assert {name: of_set["studies"] for name, of_set in split["sets"].items()} == {"drawn": 6, "own": 8}
    assert split["studies"] == 14
    assert {"model", "constant", "nearest", "random", "shuffled"} == set(split["sets"]["own"]["systems"])
    assert '"sets"' in (tmp_path / "run/report.html").read_text()
    compared = run("task=compare", "runs=[run]", "out=compared", cwd=tmp_path, smallest=False)
    assert compared.returncode == 0, compared.stderr
    strata = json.loads((tmp_path / "compared/comparison.json").read_text())["strata"]
    model = {name: of_set["systems"]["model"] for name, of_set in split["sets"].items()}
    assert {"bleu_4", "cider"} < model["own"].keys()
    of_compare = {part["name"]: part["scores"]["run"] for part in strata if part["kind"] == "set"}
    for name, scores in model.items():
        own_values = {score: of_compare[name][score]["value"] for score in scores}
        assert own_values == pytest.approx(scores), "as if the set had been scored alone"
    frame = scores_frame(tmp_path / "run")
    summary = summary_of(json.loads((tmp_path / "run/metrics.json").read_text()), {}, ranks=1)
    for name, scores in model.items():
        assert frame.loc[("test", name, "model"), "cider"] == summary[f"best/test/{name}/cider"] == scores["cider"]
    assert frame.loc[("test", "", "model"), "cider"] == split["systems"]["model"]["cider"]
    assert "is finished" in run(*words, cwd=tmp_path, smallest=False).stdout
    moved = own.rename(tmp_path / "moved")
    elsewhere = [words[0], sets.replace("root: own", f"root: {moved}"), *words[2:]]
    assert "is finished" in run(*elsewhere, cwd=tmp_path, smallest=False).stdout, "folders are no part of a run"
    weighted = [words[0], elsewhere[1].replace("weight: 2.5", "weight: 2"), *words[2:]]
    refused = run(*weighted, cwd=tmp_path, smallest=False)
    assert refused.returncode == 2
    assert "data.sets: their data, names or weights have changed" in refused.stderr
    words = ("task=evaluate", "run_dir=run", "data=mix", elsewhere[1], "evaluate.splits=[val]", "verbose=true")
    done = run(*words, cwd=tmp_path, smallest=False)
    assert done.returncode == 0, done.stderr
    assert "val, own: 8 studies" in done.stdout
    exported = run("task=export", "run_dir=run", "out=exported", cwd=tmp_path, smallest=False)
    assert exported.returncode == 0, exported.stderr
    card = (tmp_path / "exported/README.md").read_text()
    assert "`data=phantom`: Chest phantoms" in card
    assert "`data=own`: Your own studies" in card
    assert not any(str(tmp_path) in file.read_text(errors="replace") for file in (tmp_path / "exported").glob("*.yaml"))
