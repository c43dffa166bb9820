"""FID and KID: the distance of a set of generated images from a set of real ones, in the features of a chosen network."""

from __future__ import annotations

import importlib
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.errors import InputError, MissingExtraError, MissingInputError
from cyclecast.training.checkpoint_sizes import check_sizes
from cyclecast.training.evaluate.classifier import SmallClassifier, device_of, to_unit
from cyclecast.training.networks.features import EfficientNetFeatures, FrozenConvolution, load_pretrained

log = logging.getLogger(__name__)

Space = Literal["inception", "imagenet", "classifier"]

MIN_IMAGES = 8
"""Images that each set needs. Figures to publish need hundreds."""


@dataclass(frozen=True, kw_only=True)
class DistributionScores:
    """Both distances of two sets of images. Lower is closer."""

    fid: float
    """Fréchet distance of two Gaussians (Heusel et al. 2017). Few images bias it upwards: compare equal counts only."""

    kid_mean: float
    """Squared MMD with a cubic kernel (Bińkowski et al. 2018), mean over subsets. Unbiased: near 0 it can be negative."""

    kid_std: float
    """Standard deviation over those subsets."""

    features: Space
    """The feature space. Figures of different spaces cannot be compared."""

    real: int
    fake: int

    def named(self) -> dict[str, float]:
        """Returns the figures by name: fid, kid_mean and kid_std in Inception's features, otherwise imagenet_fid and so on."""
        prefix = "" if self.features == "inception" else f"{self.features}_"
        return {f"{prefix}{name}": getattr(self, name) for name in ("fid", "kid_mean", "kid_std")}


class ClassifierFeatures(nn.Module):
    """(N, 3, S, S) uint8 -> (N, num_features) float32: the features of a classifier that was trained here."""

    space: Literal["classifier"] = "classifier"

    def __init__(self, classifier: SmallClassifier) -> None:
        super().__init__()
        self.classifier = classifier.eval()
        self.num_features = classifier.num_features

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier.features(to_unit(images))


class InceptionFeatures(nn.Module):
    """(N, 3, H, W) uint8 -> (N, 2048) float32: FID's own Inception v3, images resized with antialiasing to 299x299."""

    space: Literal["inception"] = "inception"
    num_features = 2048

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.network(images)
        return out


class ImageNetFeatures(nn.Module):
    """(N, 3, H, W) uint8 -> (N, 1280) float32: the input of EfficientNet-Lite2's last layer, images resized to 256x256.

    The discriminator `projected` uses another network (Lite0): with the same one, the distance would favor generators that were
    trained against it. MissingExtraError if the weights are not installed.
    """

    space: Literal["imagenet"] = "imagenet"
    side = 256

    def __init__(self) -> None:
        super().__init__()
        self.network = EfficientNetFeatures("lite2").eval()
        self.head = FrozenConvolution(load_pretrained("lite2"), "_conv_head", "_bn1")
        self.num_features = len(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        size = (self.side, self.side)
        resized = functional.interpolate(to_unit(images), size, mode="bicubic", antialias=True)
        out: Tensor = self.head(self.network(resized.clamp(-1, 1))[-1]).mean((2, 3))
        return out


Extractor = ClassifierFeatures | ImageNetFeatures | InceptionFeatures


def inception_features(path: Path) -> InceptionFeatures:
    """Loads Inception v3 from a local file of FID's weights in torch-fidelity's format (pt_inception-2015-12-05-6726825d.pth).

    Raises InputError if the file is missing or holds something else, MissingExtraError if torch-fidelity is not installed.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; expected Inception weights in torch-fidelity's format")
    _import_or_explain("torch_fidelity")
    fid = _import_or_explain("torchmetrics.image.fid")
    try:
        check_sizes(path)
        torch.load(path, map_location="meta", weights_only=True)  # torch-fidelity unpickles, and so runs, anything
        network = fid.NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
    except Exception as error:  # unpickling and load_state_dict raise errors of any type
        log.debug("%s: cannot be read as Inception weights", path, exc_info=True)
        raise InputError(
            f"{path}: not Inception weights; expected torch-fidelity's pt_inception-2015-12-05-6726825d.pth"
        ) from error
    return InceptionFeatures(network)


def fid_kid(
    real: Tensor,
    fake: Tensor,
    extractor: Extractor,
    *,
    subset_size: int | None = None,
    subsets: int = 100,
    seed: int = 0,
    batch_size: int = 64,
) -> DistributionScores:
    """Computes FID and KID of (N, 3, H, W) and (M, 3, H, W) uint8 with torchmetrics, from features in float64.

    subset_size: images in each of KID's subsets; the default is half of the smaller set, at most 1,000. seed: of the subsets.
    Raises InputError if a set is too small or the sizes differ, MissingExtraError if torchmetrics is not installed.
    """
    for name, images in (("real", real), ("fake", fake)):
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != real.shape[1:]:
            raise InputError(
                f"the {name} images must be (N, 3, H, W) uint8 of one size, got {tuple(images.shape)} {images.dtype}"
            )
        if len(images) < (needed := max(MIN_IMAGES, subset_size or 0)):
            raise InputError(f"FID and KID need {needed} or more images in each set, got {len(images)} {name}")
    of_real, of_fake = (extract_features(images, extractor, batch_size) for images in (real, fake))
    return fid_kid_of_features(of_real, of_fake, extractor.space, subset_size=subset_size, subsets=subsets, seed=seed)


def fid_kid_of_features(
    real: Tensor, fake: Tensor, space: Space, *, subset_size: int | None = None, subsets: int = 100, seed: int = 0
) -> DistributionScores:
    """Computes `fid_kid` from features (N, D) and (M, D) in float64, so that those of one set can be used several times."""
    smallest = min(len(real), len(fake))
    rotated_real, rotated_fake = _rotate_into_span(real, fake)
    fid_metric, kid_metric = _metrics(rotated_real.shape[1], real.shape[1], subset_size or min(1000, smallest // 2), subsets)
    for metric, of_real, of_fake in ((fid_metric, rotated_real, rotated_fake), (kid_metric, real, fake)):
        metric.update(of_real, real=True)
        metric.update(of_fake, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        fid, (kid_mean, kid_std) = fid_metric.compute(), kid_metric.compute()
    return DistributionScores(
        fid=float(fid), kid_mean=float(kid_mean), kid_std=float(kid_std), features=space, real=len(real), fake=len(fake)
    )


def _rotate_into_span(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the features with one dimension for each image at most: FID does not change, and small sets are quick.

    A rotation and a shift of all features change neither the distance of the means nor the covariances' eigenvalues, and a
    dimension in which all are equal adds nothing.
    """
    if len(real) + len(fake) >= real.shape[1]:
        return real, fake
    both = torch.cat([real, fake])
    both = both - both.mean(0)
    rotated = both @ torch.linalg.qr(both.T)[0]
    return rotated[: len(real)], rotated[len(real) :]


def _metrics(fid_features: int, kid_features: int, subset_size: int, subsets: int) -> tuple[Any, Any]:
    """Returns torchmetrics' FID and KID for features that are extracted already, with so many dimensions."""

    def identity(num_features: int) -> nn.Identity:
        network = nn.Identity()
        network.num_features = num_features  # type: ignore[assignment]
        return network

    fid, kid = _import_or_explain("torchmetrics.image.fid"), _import_or_explain("torchmetrics.image.kid")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Metric `Kernel Inception Distance` will save", UserWarning
        )  # about memory: it keeps all features
        return (
            fid.FrechetInceptionDistance(feature=identity(fid_features)),
            kid.KernelInceptionDistance(feature=identity(kid_features), subset_size=subset_size, subsets=subsets),
        )


@torch.no_grad()
def extract_features(images: Tensor, extractor: nn.Module, batch_size: int = 64) -> Tensor:
    """Returns the features of (N, 3, H, W) uint8 as (N, num_features) float64 on the CPU; computes on the extractor's device."""
    device = device_of(extractor)
    return torch.cat([extractor(batch.to(device)).cpu().double() for batch in images.split(batch_size)])


def _import_or_explain(module: str) -> ModuleType:
    """Imports a module. Raises MissingExtraError, with the command that installs it, if it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0].replace("_", "-")
        raise MissingExtraError(f"{package} is not installed: pip install {package}") from error
