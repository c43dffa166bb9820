"""A small classifier of digits, or of two domains, that is trained in a minute. FID and KID can use its features, too."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.errors import InputError


class SmallClassifier(nn.Module):
    """(N, 3, S, S) float in [-1, 1] -> (N, classes) logits; any S of 16 or more.

    Four convolutions with batch norm, three of them with stride 2, global average pooling, one linear layer.
    """

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.num_features = 4 * width
        layers: list[nn.Module] = []
        for before, after, kernel, stride in (
            (3, width, 5, 2),
            (width, 2 * width, 3, 2),
            (2 * width, 2 * width, 3, 1),
            (2 * width, 4 * width, 3, 2),
        ):
            layers += [
                nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(self.num_features, classes)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last layer, (N, num_features)."""
        out: Tensor = self.body(x).mean((2, 3))
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x))
        return out


def to_unit(images: Tensor) -> Tensor:
    """Converts uint8 to float32 in [-1, 1], the range of every network here."""
    return images.float() / 127.5 - 1.0


def device_of(network: nn.Module) -> torch.device:
    """Returns the device of a network's weights, which may all be buffers."""
    return next(chain(network.parameters(), network.buffers())).device


def random_shift(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Moves each of (N, 3, S, S) in [-1, 1] by up to `reach` pixels on each axis; the border is filled with black."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (reach,) * 4, value=-1.0).permute(0, 2, 3, 1)
    top, left = torch.randint(2 * reach + 1, (2, count, 1), generator=generator).to(images.device)
    ys = top + torch.arange(height, device=images.device)  # (N, H)
    xs = left + torch.arange(width, device=images.device)
    sample = torch.arange(count, device=images.device)[:, None, None]
    return padded[sample, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    classes: int,
    steps: int,
    batch_size: int = 128,
    seed: int = 0,
    learning_rate: float = 5e-3,
    width: int = 32,
    shift: int = 0,
    flip: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> SmallClassifier:
    """Trains a classifier on the device of the images and returns it in eval mode.

    images: (N, 3, S, S) uint8. labels: (N,) in [0, classes), on any device. AdamW with a one-cycle schedule that peaks at
    `learning_rate` (Smith and Topin 2018). Augmentation: `shift` moves each image by up to so many pixels, `flip` mirrors half
    of them. on_progress(step, steps) is called after each step. The same seed gives the same weights; torch's global random
    state does not change. Raises InputError if the labels do not fit the images.
    """
    _check(images, labels, classes)
    labels = labels.to(images.device)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = SmallClassifier(classes, width).to(images.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps)
    batch_size = min(batch_size, len(images))
    order = torch.empty(0, dtype=torch.long)
    network.train()
    for step in range(steps):
        if len(order) < batch_size:
            order = torch.randperm(len(images), generator=generator)
        batch, order = order[:batch_size].to(images.device), order[batch_size:]
        x = to_unit(images[batch])
        if shift:
            x = random_shift(x, shift, generator)
        if flip:
            mirrored = (torch.rand(batch_size, generator=generator) < 0.5).to(images.device)
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        loss = functional.cross_entropy(network(x), labels[batch].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_progress is not None:
            on_progress(step + 1, steps)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def classify(classifier: SmallClassifier, images: Tensor, batch_size: int = 500) -> Tensor:
    """Returns the most likely class of each of (N, 3, S, S) uint8: (N,) int64, on the device of the images.

    Computes on the classifier's device, `batch_size` images at a time.
    """
    device = device_of(classifier)
    return torch.cat([classifier(to_unit(batch.to(device))).argmax(1).to(images.device) for batch in images.split(batch_size)])


def accuracy(classifier: SmallClassifier, images: Tensor, labels: Tensor) -> float:
    """Returns the share of (N, 3, S, S) uint8 images whose predicted class is their label, (N,)."""
    _check(images, labels, classifier.head.out_features)
    return float((classify(classifier, images) == labels).double().mean())


def _check(images: Tensor, labels: Tensor, classes: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise InputError(f"a classifier needs one or more images as (N, 3, S, S) uint8, got {tuple(images.shape)} {images.dtype}")
    if labels.shape != images.shape[:1]:
        raise InputError(f"{len(images)} images need as many labels, got shape {tuple(labels.shape)}")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(f"labels run from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
