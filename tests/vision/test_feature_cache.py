"""A frozen encoder computes the features of an image once."""

import torch

from r2gen.vision.feature_cache import FeatureCache


def test_an_image_is_encoded_once_also_if_a_batch_has_it_twice():
    encoded: list[int] = []

    def encode(images_NHW: torch.Tensor) -> torch.Tensor:
        encoded.append(len(images_NHW))
        return images_NHW.flatten(1)[:, None].double()

    cache = FeatureCache(3)
    images = {key: torch.full((2, 2), number) for number, key in enumerate("abc")}
    for keys in ("ab", "aca", "cb", "bbb"):
        features_NPD = cache.features(keys, torch.stack([images[key] for key in keys]), encode)
        assert features_NPD[:, 0, 0].tolist() == ["abc".index(key) for key in keys]
    assert encoded == [2, 1]
