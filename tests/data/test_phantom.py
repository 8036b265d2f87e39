"""The phantom: the reader inverts the grammar, the images show the findings, and no constant report scores well."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2gen.data import phantom_studies
from r2gen.data.phantom import VERSION, Phantom
from r2gen.data.phantom_images import DRAW
from r2gen.data.phantom_reports import FINDINGS, read_findings, write_report
from r2gen.data.phantom_studies import PREVALENCE
from r2gen.data.reports import Study
from r2gen.errors import UserError


def phantom(*, seed: int = 0, size_px: int = 64, version: int = VERSION) -> Phantom:
    return Phantom(seed=seed, train_studies=1000, val_studies=50, test_studies=250, size_px=size_px, version=version)


@cache
def train() -> list[Study]:
    return list(phantom().studies("train"))


def micro_f1(pairs: list[tuple[frozenset[str], frozenset[str]]]) -> float:
    hits = sum(len(truth & stated) for truth, stated in pairs)
    return 2 * hits / max(1, sum(len(truth) + len(stated) for truth, stated in pairs))


def pixels(findings: set[str], view: str, *, seed: int = 5) -> np.ndarray:
    return DRAW[view](frozenset(findings), np.random.default_rng(seed), 64).astype(float)


@pytest.mark.parametrize(
    ("name", "number"), [("seed", -1), ("train_studies", 0), ("train_studies", -1), ("test_studies", -1)]
)
def test_an_impossible_number_is_refused_with_its_option(name: str, number: int) -> None:
    counts = {"seed": 0, "train_studies": 1, "val_studies": 0, "test_studies": 0, name: number}
    with pytest.raises(UserError, match=f"data.{name}={number}"):
        Phantom(**counts, size_px=64, version=VERSION)


def test_the_reader_inverts_the_grammar() -> None:
    rng = np.random.default_rng(7)
    for _ in range(10_000):
        findings = frozenset(name for name in FINDINGS if rng.random() < 0.3)
        report = write_report(findings, rng)
        assert read_findings(report) == findings, report


def test_a_study_has_its_findings_and_its_report_states_them() -> None:
    for study in train():
        assert study.findings is not None
        assert read_findings(study.report) == study.findings


def test_each_finding_is_neither_rare_nor_common() -> None:
    shares = [sum(name in (s.findings or ()) for s in train()) / len(train()) for name in FINDINGS]
    assert len(shares) >= 10
    assert all(0.10 <= share <= 0.40 for share in shares)


def test_reports_differ_and_are_in_cleaned_form() -> None:
    reports = [study.report for study in train()]
    assert len(set(reports)) >= 400
    for report in reports:
        assert report == report.lower()
        assert report.endswith(" .")
        assert all(word.isalpha() or word == "." for word in report.split(" "))
    assert 25 <= np.mean([len(report.split()) for report in reports]) <= 60


def test_a_study_depends_on_seed_split_and_number_only() -> None:
    few = Phantom(seed=0, train_studies=3, val_studies=0, test_studies=0, size_px=64, version=VERSION)
    assert list(few.studies("train")) == train()[:3]
    assert few.studies("val") == []
    view = train()[2].views[1]
    assert few.image(view).tobytes() == phantom().image(view).tobytes()


def test_seeds_splits_and_studies_differ() -> None:
    other = phantom(seed=1)
    assert [s.report for s in other.studies("train")] != [s.report for s in train()]
    images = [phantom().image("train-00000-frontal"), phantom().image("test-00000-frontal")]
    images += [phantom().image("train-00001-frontal"), other.image("train-00000-frontal")]
    assert len({image.tobytes() for image in images}) == 4
    reports = {split: [s.report for s in phantom().studies(split)][:50] for split in ("train", "val", "test")}
    assert reports["train"] != reports["val"] != reports["test"]


@pytest.mark.parametrize("size_px", [48, 96])
def test_images_are_gray_squares_of_the_requested_size(size_px: int) -> None:
    data = phantom(size_px=size_px)
    for view in data.studies("val")[0].views:
        image = data.image(view)
        assert (image.mode, image.size) == ("L", (size_px, size_px))


@pytest.mark.parametrize("view", ["frontal", "lateral"])
@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_changes_only_its_part_of_the_image(view: str, finding: str) -> None:
    changed = np.abs(pixels({finding}, view) - pixels(set(), view))
    assert (changed > 15).sum() >= 10, "a finding is well above the noise (sigma 6 of 255)"
    assert (changed == 0).mean() > 0.5, "noise and geometry do not change"


@pytest.mark.parametrize("finding", [name for name in FINDINGS if name.endswith(("left", "right"))])
def test_the_patients_left_is_the_right_half_of_the_frontal_image(finding: str) -> None:
    changed = np.abs(pixels({finding}, "frontal") - pixels(set(), "frontal"))
    halves = {"right": changed[:, :32].sum(), "left": changed[:, 32:].sum()}
    side = finding.split(":")[1]
    assert halves[side] > 0.7 * sum(halves.values())


@given(st.text(alphabet=st.sampled_from("effusion left right no nodule . <unk>\n\x00é")) | st.text())
def test_the_reader_accepts_any_text(text: str) -> None:
    assert read_findings(text) <= set(FINDINGS)


def test_negated_findings_and_findings_without_a_side_are_absent() -> None:
    assert read_findings("no left pleural effusion . without pneumothorax on the right .") == frozenset()
    assert read_findings("pleural effusion is seen . the heart is not enlarged .") == frozenset()
    assert read_findings("left effusion without pneumothorax") == {"effusion:left"}
    assert read_findings("LEFT pacemaker . pacemaker on the right") == {"pacemaker:left", "pacemaker:right"}


def test_no_constant_report_scores_well() -> None:
    truths = [study.findings or frozenset() for study in phantom().studies("test")]
    # The best constant report of n findings names the n most frequent ones, so it suffices to check these.
    common = sorted(FINDINGS, key=lambda name: -sum(name in truth for truth in truths))
    for n in range(len(common) + 1):
        assert micro_f1([(truth, frozenset(common[:n])) for truth in truths]) < 0.35
    shuffled = list(zip(truths, truths[1:] + truths[:1], strict=True))
    assert micro_f1(shuffled) < 0.30, f"another study's findings agree about as often as {PREVALENCE}"


def test_another_version_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.version"):
        phantom(version=VERSION + 1)


def test_an_image_is_drawn_once_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    draw = phantom_studies.draw_image
    monkeypatch.setattr(
        phantom_studies, "draw_image", lambda seed, view, px: drawn.append(view) or draw(seed, view, px)
    )
    monkeypatch.setattr("r2gen.data.phantom.STORED_BYTES", 64**2)
    data = phantom()
    first = data.image("val-00000-frontal")
    before = first.tobytes()
    first.paste(0, (0, 0, 64, 64))
    assert data.image("val-00000-frontal").tobytes() == before
    for _ in range(2):
        data.image("val-00001-frontal")
    assert drawn == ["val-00000-frontal", "val-00001-frontal", "val-00001-frontal"]
