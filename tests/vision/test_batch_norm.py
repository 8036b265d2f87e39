"""BatchNorm: when its statistics move, and what they then are."""

from typing import Any

import pytest
import torch
from composed import composed_plain
from torch import nn

from r2gen.config.batch_norm import moves
from r2gen.errors import UserError
from r2gen.vision.batch_norm import MovingBatchNorm, let_statistics_move, moving, moving_statistics
from r2gen.vision.encoder import TimmEncoder

torch.set_num_threads(1)
RANDOM = {"vision": {"name": "resnet50", "path": None, "batch_norm": "auto"}, "tune": {"vision": "full"}}
SMALL = {"channels": [8, 8, 8, 8]}


def resnet(**options: Any) -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder(**{"name": "resnet18", "image_size_px": 64, "model_args": SMALL, **options}).train()


def images(studies: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (studies, 2, 64, 64), dtype=torch.uint8, generator=drawn)
    return pixels, torch.arange(2) < 1 + torch.arange(studies)[:, None] % 2


@pytest.mark.parametrize(
    ("vision", "tune", "expected"),
    [
        ({}, "full", True),
        ({}, "lora", False),
        ({}, "frozen", False),
        ({"path": "timm/resnet50.a1_in1k"}, "full", False),
        ({"name": "resnet50.a1_in1k"}, "full", False),
        ({"name": "hf-hub:timm/resnet50.a1_in1k"}, "full", False),
        ({"model_args": {"norm_layer": "groupnorm"}}, "full", False),
        ({"model_args": {"norm_layer": "batchnorm2d"}}, "full", True),
        ({"path": "weights", "batch_norm": "moving"}, "full", True),
        ({"batch_norm": "frozen"}, "full", False),
    ],
)
def test_auto_moves_the_statistics_of_an_encoder_that_trains_in_full_from_random_weights(
    vision: dict[str, Any], tune: str, expected: bool
):
    assert moves({"vision": {**RANDOM["vision"], **vision}, "tune": {"vision": tune}}) is expected


def test_an_encoder_from_before_the_option_has_frozen_statistics():
    stored = composed_plain("vision=resnet50", "vision.path=null")
    assert moves(stored)
    del stored["vision"]["batch_norm"]
    assert not moves(stored)
    assert not moving_statistics(resnet())


def test_the_encoder_of_the_default_run_has_none_that_could_move():
    assert not moves(composed_plain())
    encoder = TimmEncoder(**{key: value for key, value in composed_plain()["vision"].items() if key != "_target_"})
    assert let_statistics_move(encoder.backbone) == 0
    with pytest.raises(UserError, match=r"vision\.batch_norm=moving: convnext_atto has no BatchNorm"):
        TimmEncoder(name="convnext_atto", image_size_px=32, batch_norm="moving")


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])  # with timm's activation in the layer too
def test_moving_statistics_are_those_of_torch_and_have_the_names_of_timm(name: str):
    encoder = resnet(name=name, batch_norm="moving", model_args={} if name != "resnet18" else SMALL)
    plain = resnet(name=name, model_args={} if name != "resnet18" else SMALL)
    assert encoder.state_dict().keys() == plain.state_dict().keys()
    plain.backbone.train()  # as torch's own, which the encoder otherwise prevents
    features = [model(*images())[0] for model in (encoder, plain)]
    assert torch.equal(*features)
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in encoder.state_dict().items())
    assert not torch.equal(encoder.backbone.bn1.running_mean, torch.zeros(1))
    assert encoder.backbone.bn1.num_batches_tracked == 1
    after = [model.eval()(*images())[0] for model in (encoder, plain)]
    assert torch.equal(*after)
    assert encoder.backbone.bn1.num_batches_tracked == 1, "an evaluation leaves them"


def test_activations_that_are_computed_again_leave_the_statistics():
    def trained(checkpointing: bool) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        encoder = resnet(batch_norm="moving", gradient_checkpointing=checkpointing)
        encoder(*images())[0].square().sum().backward()
        return moving_statistics(encoder), [p.grad for p in encoder.parameters() if p.grad is not None]

    (once, gradients), (twice, again) = trained(False), trained(True)
    assert len(once) == 3 * 21
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert all(torch.equal(*pair) for pair in zip(gradients, again, strict=True))


def test_statistics_stay_in_fp32_in_a_bf16_model():
    encoder = resnet(batch_norm="moving")
    encoder.backbone.bn1.running_mean.fill_(1 + 2**-12)
    encoder.to(torch.bfloat16)
    assert encoder.backbone.bn1.weight.dtype == torch.bfloat16
    assert encoder.backbone.bn1.running_mean.unique().tolist() == [1 + 2**-12]
    features_BQD, _ = encoder(*images())
    assert features_BQD.dtype == torch.bfloat16
    features_BQD.sum().backward()
    assert encoder.backbone.bn1.running_var.dtype == torch.float32
    assert encoder.eval()(*images())[0].isfinite().all()


def test_statistics_move_only_within_the_encoders_own_forward_pass():
    layer = nn.Sequential(nn.BatchNorm2d(3)).train()
    assert let_statistics_move(layer) == 1
    assert isinstance(layer[0], MovingBatchNorm)
    layer(torch.randn(2, 3, 4, 4))
    assert layer[0].num_batches_tracked == 0
    with moving(layer):
        layer(torch.randn(2, 3, 4, 4))
    assert layer[0].num_batches_tracked == 1


def test_a_kind_of_batch_norm_that_is_not_known_is_refused():
    class Other(nn.BatchNorm2d):
        pass

    with pytest.raises(UserError, match=r"vision\.batch_norm: 0 of this encoder is a Other.*vision\.batch_norm=frozen"):
        let_statistics_move(nn.Sequential(Other(3)))
