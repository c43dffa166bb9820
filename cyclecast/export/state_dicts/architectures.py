"""Generators of well-known projects that `export` does not read, by their keys, so that an error can name them."""

from __future__ import annotations

import re
from collections.abc import Iterable

OTHERS: dict[str, tuple[str, ...]] = {  # name -> patterns, each of which is at the start of a key, or behind a dot
    "pix2pixHD's LocalEnhancer, which works at two scales": (r"model1_1\.\d", r"model1_2\.\d"),
    "a StyleGAN2 generator of CUT": (r"encoder\.convs\.\d", r"decoder\.convs\.\d"),
    "a U-Net of PyTorch-GAN": (r"down1\.model\.0\.weight", r"up1\.model\.\d", r"final\.\d"),
    "a generator of U-GAT-IT": (r"gap_fc\.weight", r"gmp_fc\.weight", r"UpBlock2\."),
    "a generator of MUNIT": (r"enc_content\.model\.", r"dec\.model\."),
    "a generator of AnimeGANv2": (r"block_a\.0\.1\.weight", r"out_layer\.0\.weight"),
    "a style network of pytorch/examples": (r"conv1\.conv2d\.weight", r"res1\.conv1\.conv2d\.weight"),
}
WAY = "write it with torch.onnx.export, and then use `cyclecast adopt`"


def name_architecture(keys: Iterable[str]) -> str | None:
    """Names the architecture that the keys belong to, and what to do instead, in one phrase; None if it is not in `OTHERS`."""
    text = "\n".join(keys)
    for name, patterns in OTHERS.items():
        if all(re.search(rf"(?m)(^|\.){pattern}", text) for pattern in patterns):
            return f"{name}, which export does not read: {WAY}"
    return None
