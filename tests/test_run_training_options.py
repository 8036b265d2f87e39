"""Runs with training options that are off by default: interrupted and resumed, they end as the unbroken run."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from forked_run import run
from PIL import Image
from same_runs import same_result

from r2gen.trained_run import TrainedRun, load_run


def assert_resumes(options: Sequence[str], folder: Path, *, at: str = "step 12 of 24") -> None:
    """Train two epochs and two more; the result must be that of the run `once`, which trained four."""
    assert run(*options, "trainer.epochs=2", "run_dir=twice", cwd=folder).returncode == 0
    done = run(*options, "trainer.epochs=4", "run_dir=twice", cwd=folder)
    assert f"resuming from {at}" in done.stdout
    assert same_result(folder / "once", folder / "twice")


def exported(folder: Path) -> list[TrainedRun]:
    """The run `once`, and its export."""
    done = run("task=export", "run_dir=once", "out=exported", cwd=folder, smallest=False)
    assert done.returncode == 0, done.stderr
    return [load_run(folder / name, device="cpu") for name in ("once", "exported")]


@pytest.mark.slow
def test_a_run_with_every_option_of_regularisation_resumes_to_the_same_result(tmp_path: Path):
    options = (
        "lm.vocabulary=words",
        "lm.architecture.tie_word_embeddings=true",
        "lm.architecture.attention_dropout=0.1",
        "lm.dropout=0.1",
        "trainer.label_smoothing=0.1",
        "trainer.learning_rate_scale.vision=0.3",
        "trainer.weight_decay=0.05",
        "trainer.ema=0.9",
        "trainer.repeat_threshold=0.9",
        "trainer.schedule=constant",
        "evaluate.every=1",
    )
    once = run(*options, "trainer.epochs=4", "run_dir=once", cwd=tmp_path)
    assert once.returncode == 0, once.stderr
    assert "trainer.label_smoothing=0.1: the losses below have it" in once.stdout
    assert "trainer.ema=0.9: " in once.stdout
    assert "trainer.repeat_threshold=0.9: an epoch draws" in once.stdout
    assert_resumes(options, tmp_path, at="step 19 of 38")
    checked = run(*options, "task=check", cwd=tmp_path)
    assert "13 of 13 pass" in checked.stdout


@pytest.mark.slow
def test_a_run_with_changed_images_and_moving_statistics_resumes_to_the_same_result_and_is_exported(tmp_path: Path):
    options = (
        "vision=resnet50",
        "vision.name=resnet18",
        "vision.path=null",
        "vision.model_args={layers: [1, 1, 1, 1], channels: [8, 8, 16, 16], output_stride: 8}",
        "vision.drop_path=0.1",
        "augment=chest",
        "trainer.schedule=constant",
        "evaluate.every=1",
    )
    once = run(*options, "trainer.epochs=4", "trainer.workers=2", "run_dir=once", cwd=tmp_path)
    assert once.returncode == 0, once.stderr
    assert "training images are changed at random: shift 0.1, degrees 5.0" in once.stdout
    assert "BatchNorm statistics move, over the images of 4 studies on each of 1 rank(s)" in once.stdout
    assert_resumes(options, tmp_path)
    other = run(*options, "trainer.epochs=4", "trainer.micro_batch_size=2", "run_dir=once", cwd=tmp_path)
    assert other.returncode == 2
    assert "trainer.micro_batch_size: 4 -> 2" in other.stderr

    runs = exported(tmp_path)
    reports = [loaded.generate([Image.radial_gradient("L")]) for loaded in runs]
    assert reports[0] == reports[1]
    statistics = [loaded.model.vision.backbone.bn1.running_mean for loaded in runs]
    assert statistics[0].equal(statistics[1])
    assert statistics[0].any()


@pytest.mark.slow
def test_a_run_with_the_whole_context_resumes_to_the_same_result_and_is_exported(tmp_path: Path):
    options = (
        "data=phantom_story",
        "context=all",
        "vision.views=concat",
        "lm.vocabulary_size=400",
        "trainer.schedule=constant",
        "evaluate.every=1",
    )
    once = run(*options, "trainer.epochs=4", "trainer.workers=2", "run_dir=once", cwd=tmp_path)
    assert once.returncode == 0, once.stderr
    assert "context: of 48 training studies 48 have age" in once.stdout
    assert_resumes(options, tmp_path)
    checked = run(*options, "task=check", cwd=tmp_path)
    assert "13 of 13 pass" in checked.stdout
    other = run(*options, "trainer.epochs=4", "context.max_tokens=20", "run_dir=once", cwd=tmp_path)
    assert other.returncode == 2
    assert "context.max_tokens: 300 -> 20" in other.stderr

    runs = exported(tmp_path)
    image = Image.radial_gradient("L")
    prior = {"prior_images": [image], "prior_days": 30, "prior_report": "The heart is large."}
    reports = [loaded.generate([image], indication="Cough.", positions=["PA"], **prior) for loaded in runs]
    assert reports[0] == reports[1]
    embeddings = [loaded.model.vision.embedding for loaded in runs]
    assert embeddings[0] is not None
    assert embeddings[1] is not None
    assert embeddings[0].rows.weight.equal(embeddings[1].rows.weight)
    assert embeddings[0].rows.weight.any()
