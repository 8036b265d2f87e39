"""Weights that are not on this machine and cannot be downloaded are refused at once."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from r2gen.errors import UserError
from r2gen.vision import hub
from r2gen.vision.hub import named_weights


def test_a_hub_that_cannot_be_reached_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"vision\.path=timm/resnet18 is not a folder on this machine and cannot be downloaded"
    ):
        hub.layout_folder("timm/resnet18")


def test_a_name_with_a_tag_says_which_weights_are_meant() -> None:
    name = "vit_base_patch16_dinov3.lvd1689m"
    assert named_weights(name, None) == (name, f"timm/{name}")
    assert named_weights(f"hf-hub:timm/{name}", None) == (name, f"timm/{name}")
    assert named_weights(name, "/a/folder") == (name, "/a/folder")
    assert named_weights("resnet50", None) == ("resnet50", None)


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("resnet50.tv_in1k", "timm/resnet50.a1_in1k", "name different weights: add vision.path=null"),
        ("resnet50.mine", None, r"timm has no weights mine for resnet50. It has resnet50\.a1_in1k"),
        ("resnet51.a1_in1k", None, "is not a timm model"),
    ],
)
def test_a_name_that_cannot_be_meant_is_refused(name: str, path: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        named_weights(name, path)
