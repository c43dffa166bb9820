"""Computes what the recipe `style_transfer` learns: statistics of deep features of the style images, and their palette."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.training.losses import gram_matrix
from cyclecast.training.networks.features import EfficientNetFeatures

BLOCKS = 8  # whose depthwise outputs are compared: at 1/2 to 1/16 of the resolution
UNIT = 32  # pixels: sides of images that the features accept are multiples of it
MIN_VARIANCE = 1e-4  # of colors in [-1, 1], so that a gray image has an invertible covariance


class StyleTargets(nn.Module):
    """Gram matrices and a descriptor for each style image, computed once, in buffers that checkpoints do not store.

    images: (3, H, W) float in [-1, 1], RGB, of any size from 64x64 up. contents: the same for the images to be styled, whose
    descriptors and colors are the reference for `nearest` and `recolor`. Gram matrices of full scale and of half scale are
    separate, because strokes of both sizes count.
    """

    matrix: Tensor
    shift: Tensor
    descriptors: Tensor
    center: Tensor
    spread: Tensor

    def __init__(self, features: EfficientNetFeatures, images: Sequence[Tensor], contents: Sequence[Tensor]) -> None:
        super().__init__()
        self.count = len(images)
        grams: list[list[Tensor]] = []
        descriptors: list[Tensor] = []
        with torch.no_grad():
            for image in images:
                full = crop_to_unit(image[None])
                maps, depthwise = features.forward_with_depthwise(full, BLOCKS)
                depthwise += features.forward_with_depthwise(shrink_to_half(full), BLOCKS)[1]
                grams.append([gram_matrix(each)[0] for each in depthwise])
                descriptors.append(describe(full, maps)[0])
            own = [describe(full, features(full))[0] for full in (crop_to_unit(image[None]) for image in contents)]
        for layer, matrices in enumerate(zip(*grams, strict=True)):
            self.register_buffer(f"gram_{layer}", torch.stack(matrices), persistent=False)
        self.layers = len(grams[0])
        styles, sources = torch.stack(descriptors), torch.stack(own)
        self.register_buffer("descriptors", standardize(styles, styles), persistent=False)
        self.register_buffer("center", sources.mean(0), persistent=False)
        self.register_buffer("spread", deviation(sources), persistent=False)
        matrix, shift = optimal_transport(sample_colors(contents), sample_colors(images))
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def nearest(self, source: Tensor, maps: list[Tensor]) -> Tensor:
        """Returns the index of the style image whose content is most like each source: (N, 3, H, W) -> (N,) int64.

        maps: the source's features. Both sets are standardized separately first, so that a photo that is dark among photos
        corresponds to a painting that is dark among paintings.
        """
        if self.count == 1:
            return torch.zeros(len(source), dtype=torch.long, device=source.device)
        own = (describe(source, maps) - self.center) / self.spread
        return torch.cdist(own, self.descriptors).argmin(1)

    def grams(self, index: Tensor) -> list[Tensor]:
        """Returns the Gram matrices of the style images `index`, (N,): (N, C, C) per layer, at full scale, then at half scale."""
        return [getattr(self, f"gram_{layer}")[index] for layer in range(self.layers)]

    def recolor(self, source: Tensor) -> Tensor:
        """Converts (N, 3, H, W) in [-1, 1] to the palette of the style images."""
        moved = torch.einsum("ij,njhw->nihw", self.matrix, source) + self.shift[:, None, None]
        return moved.clamp(-1, 1)


def describe(images: Tensor, maps: list[Tensor]) -> Tensor:
    """Describes the content of images, (N, D) fp32: means of deep features and of colors, and the spread of the colors."""
    pixels = images.float().flatten(2)
    deep = [each.float().mean((2, 3)) for each in maps[-2:]]
    color = torch.cat([pixels.mean(2), pixels.std(2)], 1)
    return torch.cat([*(part / part.shape[1] ** 0.5 for part in deep), color / color.shape[1] ** 0.5], 1)


def deviation(descriptors: Tensor) -> Tensor:
    """Returns the standard deviation of descriptors, never 0: (N, D) -> (D,)."""
    return descriptors.std(0, correction=0).clamp_min(1e-6)


def standardize(descriptors: Tensor, reference: Tensor) -> Tensor:
    """Subtracts the mean of the reference, (M, D), from descriptors, (N, D), and divides by its standard deviation."""
    return (descriptors - reference.mean(0)) / deviation(reference)


def sample_colors(images: Sequence[Tensor]) -> Tensor:
    """Averages the colors of the areas of a 32x32 grid over each image: (3, H, W) each -> (1024 * images, 3)."""
    return torch.cat([functional.adaptive_avg_pool2d(image, 32).flatten(1).T for image in images])


def optimal_transport(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the matrix (3, 3) and shift (3,) that map colors (N, 3) to the mean and covariance of others, (M, 3).

    Of all such maps, it moves colors least (Monge-Kantorovich; Pitié and Kokaram 2007).
    """
    root_source, inverse = _square_roots(_covariance(source))
    middle, _ = _square_roots(root_source @ _covariance(target) @ root_source)
    matrix = inverse @ middle @ inverse
    return matrix, target.mean(0) - matrix @ source.mean(0)


def _covariance(values: Tensor) -> Tensor:
    return torch.cov(values.T, correction=0) + MIN_VARIANCE * torch.eye(values.shape[1])


def _square_roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the square root of a symmetric positive matrix, and its inverse."""
    values, vectors = torch.linalg.eigh(matrix)
    roots = values.clamp_min(1e-12).sqrt()
    return vectors * roots @ vectors.T, vectors / roots @ vectors.T


def shrink_to_half(images: Tensor) -> Tensor:
    """Shrinks (N, 3, H, W) to half the size, and crops the sides to multiples of UNIT."""
    small = functional.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    return crop_to_unit(small)


def crop_to_unit(images: Tensor) -> Tensor:
    """Crops (N, C, H, W) to its middle, with sides that are multiples of UNIT."""
    height, width = (side // UNIT * UNIT for side in images.shape[2:])
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]
