"""The loss and the report of a study do not depend on its batch and on padding."""

import pytest
import torch
from small_model import STUDIES, TOKENIZER, batch, report_generator

from r2gen.config.decoding import Decoding
from r2gen.data.collate import NO_TARGET
from r2gen.model.report_generator import ReportGenerator

EIGHT = list(range(8))  # 1, 2, 3, 1, 2, 3, 1, 2 views


@pytest.fixture(scope="module", params=["mean", "concat"])
def model(request: pytest.FixtureRequest) -> ReportGenerator:
    return report_generator(views=request.param, lively=True).eval()


@torch.no_grad()
def test_the_loss_of_a_batch_is_the_sum_over_its_studies(model: ReportGenerator):
    alone = torch.stack([model(batch(index)) for index in EIGHT])
    assert alone.dtype == torch.float32
    torch.testing.assert_close(model(batch(*EIGHT)), alone.sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(model(batch(*reversed(EIGHT))), alone.sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(model(batch(0, 2)), alone[0] + alone[2], rtol=1e-5, atol=0)


@torch.no_grad()
def test_the_loss_does_not_depend_on_padding(model: ReportGenerator):
    whole = batch(*EIGHT)
    expected = model(whole).clone()
    whole.images_RVHW[~whole.views_RV] = 255
    torch.testing.assert_close(model(whole), expected, rtol=1e-6, atol=0)


def test_gradients_of_a_batch_are_the_sum_over_its_studies():
    model = report_generator(views="concat")
    model(batch(*EIGHT)).backward()
    whole = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for index in EIGHT:
        model(batch(index)).backward()
    assert len(whole) > 20
    for name, parameter in model.named_parameters():
        if name in whole:
            torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-5 * whole[name].abs().max())


@torch.no_grad()
def test_the_image_is_inserted_into_the_prompt(model: ReportGenerator):
    embeds_BTE, mask_BT = model.wrap(batch(0, 2))  # 1 and 3 views
    patches = model.vision.num_tokens
    concat = mask_BT.shape[1] == 3 + 3 * patches + 1
    assert mask_BT.sum(dim=1).tolist() == [3 + patches + 1, 3 + (3 if concat else 1) * patches + 1]
    assert torch.equal(embeds_BTE[0, :3], model.lm.embed(torch.tensor([1, 5, 6])))
    assert torch.equal(embeds_BTE[:, -1], model.lm.embed(torch.tensor([7, 7])))
    assert mask_BT[:, -1].all()


@torch.no_grad()
def test_the_loss_depends_on_the_image():
    model = report_generator(lively=True).eval()
    changed = batch(0)
    before = model(changed)
    changed.images_RVHW.fill_(0)
    assert not torch.isclose(model(changed), before)


@pytest.mark.parametrize("penalty", [1.0, 2.0])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_report_does_not_depend_on_its_batch(model: ReportGenerator, beams: int, penalty: float):
    decoding = Decoding(max_new_tokens=16, num_beams=beams, repetition_penalty=penalty)

    def reports(*batches: list[int]) -> dict[int, tuple[tuple[int, ...], str, str]]:
        return {
            index: (generated.ids, generated.text, generated.finish)
            for indices in batches
            for index, generated in zip(indices, model.generate(batch(*indices), decoding), strict=True)
        }

    alone = reports(*([index] for index in EIGHT))
    assert len({text for _, text, _ in alone.values()}) > 4  # otherwise this test would be trivial
    assert reports(EIGHT) == alone
    assert reports([5, 0, 7, 2, 1, 6, 3, 4]) == alone
    assert reports([0, 3, 6], [1, 4, 7, 2, 5]) == alone  # without and with padding views


def test_one_view_with_two_absent_ones_gives_the_report_of_the_view_alone(model: ReportGenerator):
    decoding = Decoding(max_new_tokens=16, repetition_penalty=2.0)
    padded = model.generate(batch(2, 0, 3), decoding)
    assert [padded[1], padded[2]] == [model.generate(batch(i), decoding)[0] for i in (0, 3)]


def test_a_tiny_model_can_memorise_its_reports():
    """A wrong shift, mask or prompt would prevent it."""
    model = report_generator()
    two = batch(0, 5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        optimizer.zero_grad()
        loss = model(two) / two.target_tokens
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    written = model.eval().generate(two, Decoding(max_new_tokens=120))
    assert [report.text for report in written] == [STUDIES[0].report, STUDIES[5].report]
    assert all(report.finish == "stop" for report in written)
    assert (two.report_BT == NO_TARGET).any()
    assert TOKENIZER.eos_id in two.report_BT
