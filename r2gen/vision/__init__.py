"""Image encoders: timm backbones with their preprocessing."""

from r2gen.unused import without

with without("wandb"):  # timm.utils.summary imports it, which takes a second
    import timm as timm
