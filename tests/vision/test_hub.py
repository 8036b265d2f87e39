"""Weights that are not on this machine and cannot be downloaded are refused at once."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from r2gen.errors import UserError
from r2gen.vision import hub


def test_a_hub_that_cannot_be_reached_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"vision\.path=timm/resnet18 is not a folder on this machine and cannot be downloaded"
    ):
        hub.swin_folder("timm/resnet18")
