"""Semantic segmentation to score labels -> photo: a network that was trained on real photos labels the generated ones.

It replaces the FCN-8 of the FCN score (Isola et al. 2017, section 4.1): it is smaller and trains from scratch in minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.errors import InputError
from cyclecast.training.evaluate.classifier import device_of, to_unit
from cyclecast.training.machine import cpu_features


def _conv(before: int, after: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """A residual block of two convolutions (He et al. 2016); stride 2 in the first halves the size."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(before, after, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))
        self.side = nn.Conv2d(before, after, 1, stride=stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.side(x))


class SegmentationNet(nn.Module):
    """(N, 3, H, W) float in [-1, 1] -> (N, classes, H, W) logits; H and W multiples of `stride`.

    A U-Net (Ronneberger et al. 2015) with a residual encoder. Encoder and decoder work at half the resolution and below.
    """

    stride = 32

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        sizes = (width, 2 * width, 4 * width, 6 * width, 6 * width)  # channels at H / 2, H / 4, ... H / 32
        self.stem = _conv(3, width, 5, stride=2)
        self.down = nn.ModuleList(
            nn.Sequential(_Residual(before, after, 2), _Residual(after, after, 1))
            for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.up = nn.ModuleList(
            _conv(deep + shallow, shallow) for shallow, deep in reversed(list(zip(sizes, sizes[1:], strict=False)))
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = self.stem(x)
        passed = []
        for block in self.down:
            passed.append(x)
            x = block(x)
        for block, skip in zip(self.up, reversed(passed), strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0, mode="bilinear"), skip], 1))
        return functional.interpolate(self.head(x), size=(height, width), mode="bilinear")


def class_weights(labels: Tensor, classes: int, power: float) -> Tensor:
    """Computes class weights, (K,) float32: frequency ** -power, scaled to a mean of 1 per labeled pixel; 0 for absent classes.

    labels: any shape, any integer type; values outside [0, classes) do not count.
    """
    flat = labels.flatten().long()
    counts = torch.bincount(flat[(flat >= 0) & (flat < classes)], minlength=classes).float()
    weights = torch.where(counts > 0, counts.clamp(min=1) ** -power, 0.0)
    return weights * counts.sum() / (weights * counts).sum()


def train_segmentation(
    photos: Tensor,
    labels: Tensor,
    *,
    classes: int,
    ignore: int | None,
    steps: int,
    crop: int,
    batch_size: int = 16,
    seed: int = 0,
    learning_rate: float = 4e-3,
    width: int = 32,
    balance: float = 0.4,
    zoom: float = 1.3,
    on_progress: Callable[[int, int], None] | None = None,
) -> SegmentationNet:
    """Trains a segmentation network on the device of the photos and returns it in eval mode.

    photos: (N, 3, H, W) uint8. labels: (N, H, W) integers in [0, classes) or `ignore`, on any device. A batch holds squares of
    `crop` pixels, resized from random windows of crop / zoom to crop * zoom pixels (at most H and W), mirrored at random and
    made brighter or darker. Classes weigh frequency ** -balance: 0 favors per-pixel accuracy, 1 per-class accuracy. AdamW with
    a one-cycle schedule; bf16 where the processor has matrix units for it (AMX) or on CUDA, else fp32. torch's global random
    state does not change. Raises InputError if the labels do not fit the photos.
    """
    _check(photos, labels, classes, ignore, crop)
    device, reach = photos.device, min(photos.shape[-2:])
    labels = labels.to(device)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = SegmentationNet(classes, width).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = class_weights(labels if ignore is None else labels[labels != ignore], classes, balance).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps)
    network.train()
    for step in range(steps):
        chosen = torch.randint(len(photos), (batch_size,), generator=generator).tolist()
        stretch = zoom ** (2 * torch.rand(1, generator=generator).item() - 1)
        side = min(round(crop * stretch), reach)
        x, truth = _windows(photos, labels, chosen, side, generator)
        x = functional.interpolate(to_unit(x), size=(crop, crop), mode="bilinear", antialias=side > crop)
        truth = functional.interpolate(truth[:, None].float(), size=(crop, crop), mode="nearest-exact")[:, 0].long()
        gain, offset = (torch.rand(2, batch_size, 1, 1, 1, generator=generator) - 0.5).to(device)
        x = (x * (1 + 0.6 * gain) + 0.4 * offset).clamp(-1, 1).contiguous(memory_format=torch.channels_last)
        with _autocast(device):
            logits = network(x)
        loss = functional.cross_entropy(logits.float(), truth, weights, ignore_index=-100 if ignore is None else ignore)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_progress is not None:
            on_progress(step + 1, steps)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def predict(network: SegmentationNet, photos: Tensor, batch_size: int = 16) -> Tensor:
    """Returns the most likely class of every pixel of (N, 3, H, W) uint8: (N, H, W) int64, on the device of the photos.

    Computes on the network's device, `batch_size` photos at a time. H and W must be multiples of 32.
    """
    device = device_of(network)
    return torch.cat([network(to_unit(batch.to(device))).argmax(1).to(photos.device) for batch in photos.split(batch_size)])


def _windows(photos: Tensor, labels: Tensor, chosen: list[int], side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cuts random squares of `side` pixels from the chosen photos and from their labels; mirrors half of them."""
    height, width = photos.shape[-2:]
    tops = torch.randint(height - side + 1, (len(chosen),), generator=generator).tolist()
    lefts = torch.randint(width - side + 1, (len(chosen),), generator=generator).tolist()
    mirrored = (torch.rand(len(chosen), generator=generator) < 0.5).tolist()
    cut, truth = [], []
    for index, y, x, mirror in zip(chosen, tops, lefts, mirrored, strict=True):
        photo, label = photos[index, :, y : y + side, x : x + side], labels[index, y : y + side, x : x + side]
        cut.append(photo.flip(-1) if mirror else photo)
        truth.append(label.flip(-1) if mirror else label)
    return torch.stack(cut), torch.stack(truth)


def _autocast(device: torch.device) -> torch.autocast:
    has_bf16 = device.type == "cuda" or (device.type == "cpu" and "amx_tile" in cpu_features())
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16)


def _check(photos: Tensor, labels: Tensor, classes: int, ignore: int | None, crop: int) -> None:
    if photos.dtype != torch.uint8 or photos.ndim != 4 or photos.shape[1] != 3 or not len(photos):
        raise InputError(f"photos must be (N, 3, H, W) uint8, got {tuple(photos.shape)} {photos.dtype}")
    if labels.shape != (len(photos), *photos.shape[-2:]):
        raise InputError(f"labels must be one per pixel of the photos, {tuple(photos.shape)}, got {tuple(labels.shape)}")
    counted = labels if ignore is None else labels[labels != ignore]
    if not counted.numel() or not 0 <= int(counted.min()) <= int(counted.max()) < classes:
        raise InputError(f"labels must be 0 to {classes - 1}, or {ignore} to ignore; got other values, or no label at all")
    if crop % SegmentationNet.stride or crop > min(photos.shape[-2:]):
        raise InputError(f"crop must be a multiple of {SegmentationNet.stride} within {tuple(photos.shape[-2:])}, got {crop}")
