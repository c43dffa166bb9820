"""What a style is to the recipe `style_transfer`: statistics of deep features of the style images, and their palette."""

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
    """Gram matrices and a descriptor for each style image, computed once. Buffers: checkpoints do not store them.

    images: (3, H, W) float in [-1, 1], RGB, of any size from 32x32 up. contents: the same for the images to be styled, whose
    spread of descriptors and colors is the reference for `nearest` and `recolor`. Full scale and half scale are kept apart,
    because strokes of both sizes count.
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
                maps, depthwise = features.with_depthwise(full, BLOCKS)
                depthwise += features.with_depthwise(halved(full), BLOCKS)[1]
                grams.append([gram_matrix(each)[0] for each in depthwise])
                descriptors.append(describe(full, maps)[0])
            own = [describe(full, features(full))[0] for full in (crop_to_unit(image[None]) for image in contents)]
        for layer, matrices in enumerate(zip(*grams, strict=True)):
            self.register_buffer(f"gram_{layer}", torch.stack(matrices), persistent=False)
        self.layers = len(grams[0])
        styles, sources = torch.stack(descriptors), torch.stack(own)
        self.register_buffer("descriptors", standardized(styles, styles), persistent=False)
        self.register_buffer("center", sources.mean(0), persistent=False)
        self.register_buffer("spread", deviation(sources), persistent=False)
        matrix, shift = optimal_transport(colors(contents), colors(images))
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def nearest(self, source: Tensor, maps: list[Tensor]) -> Tensor:
        """(N,) int64: the style image whose content is most like each of `source`, (N, 3, H, W); maps: its features.

        Both sets are standardized on their own first: what is dark for a photo corresponds to what is dark for a painting.
        """
        if self.count == 1:
            return torch.zeros(len(source), dtype=torch.long, device=source.device)
        own = (describe(source, maps) - self.center) / self.spread
        return torch.cdist(own, self.descriptors).argmin(1)

    def grams(self, index: Tensor) -> list[Tensor]:
        """(N,) -> the Gram matrices (N, C, C) of these style images, per layer: first at full scale, then at half of it."""
        return [getattr(self, f"gram_{layer}")[index] for layer in range(self.layers)]

    def recolor(self, source: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> the same in the palette of the style images."""
        moved = torch.einsum("ij,njhw->nihw", self.matrix, source) + self.shift[:, None, None]
        return moved.clamp(-1, 1)


def describe(images: Tensor, maps: list[Tensor]) -> Tensor:
    """(N, D) fp32: means of the deep features and of the colors, and the spread of the colors; it tells scenes apart."""
    pixels = images.float().flatten(2)
    deep = [each.float().mean((2, 3)) for each in maps[-2:]]
    color = torch.cat([pixels.mean(2), pixels.std(2)], 1)
    return torch.cat([*(part / part.shape[1] ** 0.5 for part in deep), color / color.shape[1] ** 0.5], 1)


def deviation(descriptors: Tensor) -> Tensor:
    """(N, D) -> (D,): the standard deviation that a descriptor is divided by; the weight of its part is kept."""
    return descriptors.std(0, correction=0).clamp_min(1e-6)


def standardized(descriptors: Tensor, reference: Tensor) -> Tensor:
    """(N, D) -> the same with the reference's mean removed and its spread divided out."""
    return (descriptors - reference.mean(0)) / deviation(reference)


def colors(images: Sequence[Tensor]) -> Tensor:
    """(3, H, W) each -> (N, 3): the colors of areas of an image, equally many of each image."""
    return torch.cat([functional.adaptive_avg_pool2d(image, 32).flatten(1).T for image in images])


def optimal_transport(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 3) and (M, 3) colors -> matrix (3, 3) and shift (3,) that give `source` the mean and covariance of `target`.

    The linear map that moves colors least (Monge-Kantorovich; Pitié and Kokaram 2007).
    """
    root_source, inverse = _roots(_covariance(source))
    middle, _ = _roots(root_source @ _covariance(target) @ root_source)
    matrix = inverse @ middle @ inverse
    return matrix, target.mean(0) - matrix @ source.mean(0)


def _covariance(values: Tensor) -> Tensor:
    return torch.cov(values.T, correction=0) + MIN_VARIANCE * torch.eye(values.shape[1])


def _roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The square root of a symmetric positive matrix, and the inverse of that."""
    values, vectors = torch.linalg.eigh(matrix)
    roots = values.clamp_min(1e-12).sqrt()
    return vectors * roots @ vectors.T, vectors / roots @ vectors.T


def halved(images: Tensor) -> Tensor:
    """(N, 3, H, W) -> half the size, rounded down to multiples of UNIT."""
    small = functional.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
    return crop_to_unit(small)


def crop_to_unit(images: Tensor) -> Tensor:
    """The middle of (N, C, H, W) whose sides are multiples of UNIT."""
    height, width = (side // UNIT * UNIT for side in images.shape[2:])
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]
