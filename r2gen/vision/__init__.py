"""Image encoders: timm backbones with their preprocessing."""

import sys

# timm.utils.summary imports wandb where it is installed, which takes a second, for a function that is not called here.
if "wandb" not in sys.modules:
    sys.modules["wandb"] = None  # type: ignore[assignment]
    import timm as timm

    del sys.modules["wandb"]
