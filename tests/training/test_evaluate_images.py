"""Distances of sets of images, and what clips do over time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from cyclecast.errors import CyclecastError, InputError
from cyclecast.training.evaluate.classifier import SmallClassifier
from cyclecast.training.evaluate.distribution import (
    ClassifierFeatures,
    DistributionScores,
    fid_kid,
    fid_kid_of_features,
    inception_features,
)
from cyclecast.training.evaluate.flicker import Image, structure_kept, warping_error
from tests.conftest import shared


@pytest.fixture(scope="module")
def extractor() -> ClassifierFeatures:
    torch.manual_seed(0)
    return ClassifierFeatures(SmallClassifier(2, width=4))


def random_images(count: int, seed: int, brighter: int = 0) -> Tensor:
    """Draws smooth random images, (N, 3, 32, 32) uint8."""
    coarse = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (110 + brighter + 40 * torch.nn.functional.interpolate(coarse, size=32, mode="bicubic")).clamp(0, 255).byte()


def test_fid_and_kid_are_0_for_equal_sets_and_grow_with_the_difference(extractor: ClassifierFeatures) -> None:
    real = random_images(200, 1)
    same, alike, moved, far = (
        fid_kid(real, fake, extractor)
        for fake in (real, random_images(200, 2), random_images(200, 2, 30), random_images(200, 2, 80))
    )
    assert same.fid == pytest.approx(0, abs=1e-4)
    assert same.fid < alike.fid < moved.fid < far.fid
    assert abs(alike.kid_mean) < 0.2 * moved.kid_mean < 0.2 * far.kid_mean
    assert (moved.real, moved.fake) == (200, 200)


def test_fid_and_kid_equal_the_formulas_of_their_papers(extractor: ClassifierFeatures) -> None:
    real, fake = random_images(60, 1), random_images(50, 2, 30)
    scores = fid_kid(real, fake, extractor, subset_size=50, subsets=3)
    with torch.no_grad():
        x, y = extractor(real).double().numpy(), extractor(fake).double().numpy()
    roots = np.sqrt(np.linalg.eigvals(np.cov(x.T) @ np.cov(y.T)).astype(complex)).real
    fid = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T)) - 2 * roots.sum()
    assert scores.fid == pytest.approx(fid, rel=1e-4)
    kid = fid_kid(fake, real[:50], extractor, subset_size=50, subsets=1)  # the one subset is everything
    kernels = [(a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((y, y), (x[:50], x[:50]), (y, x[:50]))]
    within = sum((k.sum() - np.trace(k)) / (50 * 49) for k in kernels[:2])
    assert kid.kid_mean == pytest.approx(within - 2 * kernels[2].mean(), rel=1e-4)


def test_fid_of_fewer_images_than_dimensions_is_that_of_the_dimensions_they_span() -> None:
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(count, 20, generator=generator).double() + shift for count, shift in ((15, 0.0), (12, 0.5)))
    directions = torch.linalg.qr(torch.randn(400, 20, generator=generator).double())[0].T
    expected = fid_kid_of_features(real, fake, "imagenet")
    got = fid_kid_of_features(real @ directions, fake @ directions, "imagenet")
    assert got.fid == pytest.approx(expected.fid, rel=1e-6) and expected.fid > 4


def test_kid_depends_on_the_seed_and_keeps_the_random_state(extractor: ClassifierFeatures) -> None:
    real, fake = random_images(40, 1), random_images(40, 2)
    state = torch.get_rng_state()
    first, again, other = (fid_kid(real, fake, extractor, subsets=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert first == again and first.kid_mean != other.kid_mean and first.fid == other.fid


def test_only_figures_of_inception_are_named_fid_and_kid(extractor: ClassifierFeatures) -> None:
    ours = fid_kid(random_images(8, 1), random_images(8, 2), extractor, subsets=2)
    assert list(ours.named()) == ["classifier_fid", "classifier_kid_mean", "classifier_kid_std"]
    theirs = DistributionScores(fid=1.0, kid_mean=2.0, kid_std=3.0, features="inception", real=8, fake=8)
    assert theirs.named() == {"fid": 1.0, "kid_mean": 2.0, "kid_std": 3.0}


def test_sets_that_are_too_small_or_do_not_match_are_errors(extractor: ClassifierFeatures) -> None:
    with pytest.raises(InputError, match="need 8 or more images in each set, got 7 fake"):
        fid_kid(random_images(8, 1), random_images(7, 2), extractor)
    with pytest.raises(InputError, match="need 30 or more images in each set, got 20 real"):
        fid_kid(random_images(20, 1), random_images(30, 2), extractor, subset_size=30)
    with pytest.raises(InputError, match="fake images must be"):
        fid_kid(random_images(8, 1), random_images(8, 2)[..., :16], extractor)
    with pytest.raises(InputError, match="real images must be"):
        fid_kid(random_images(8, 1).float(), random_images(8, 2), extractor)


def test_inception_names_the_missing_package_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "inception.pth"
    with pytest.raises(InputError, match="inception.pth: no such file"):
        inception_features(weights)
    weights.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(CyclecastError, match="torch-fidelity is not installed: pip install torch-fidelity"):
        inception_features(weights)


def test_without_torchmetrics_the_error_names_the_command_to_type(
    extractor: ClassifierFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(CyclecastError, match="torchmetrics is not installed: pip install torchmetrics"):
        fid_kid(random_images(8, 1), random_images(8, 2), extractor)


def test_other_figures_do_not_need_torchmetrics() -> None:
    rooms = ", ".join(f"cyclecast.training.evaluate.{room}" for room in ("labels", "classifier", "segmentation", "flicker"))
    code = f"import sys; sys.modules['torchmetrics'] = None\nimport {rooms}, cyclecast.training.evaluate.distribution"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def texture(height: int = 96, width: int = 160) -> Image:
    coarse = torch.randn(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return np.ascontiguousarray((127 + 50 * fine[0]).clamp(0, 255).byte().permute(1, 2, 0).numpy())


def panning(frames: int) -> list[Image]:
    """Slides a window over a texture, 2 pixels right and 1 down a frame: a motion without any error."""
    whole = texture()
    return [np.ascontiguousarray(whole[i : i + 72, 2 * i : 2 * i + 128]) for i in range(frames)]


def test_a_still_clip_has_no_warping_error() -> None:
    still = [texture()] * 3
    flicker = warping_error(still, still)
    assert (flicker.mean, flicker.frames, flicker.occluded) == (0.0, 2, 0.0)


def test_motion_has_a_small_warping_error_and_noise_a_large_one() -> None:
    clip = panning(6)
    random = np.random.default_rng(0)
    noise = [np.clip(frame + random.normal(0, 0.1 * 255, frame.shape), 0, 255).astype(np.uint8) for frame in clip]
    moving, noisy = warping_error(clip, clip), warping_error(clip, noise)
    assert moving.mean < 1e-4
    assert 0.01 < noisy.mean < 0.02  # two independent draws of variance 0.01, the older one softened by the warp
    assert moving.frames == noisy.frames == 5
    assert 0 < moving.occluded == noisy.occluded < 0.2


def test_a_style_that_does_not_move_with_the_frame_has_a_warping_error() -> None:
    clip = panning(5)
    stuck = [np.clip(frame.astype(int) + texture(72, 128) // 2 - 60, 0, 255).astype(np.uint8) for frame in clip]
    negative = [255 - frame for frame in clip]  # moves as the frame does
    assert warping_error(clip, negative).mean == pytest.approx(warping_error(clip, clip).mean, rel=0.01)
    assert warping_error(clip, stuck).mean > 10 * warping_error(clip, clip).mean


def test_flicker_raises_the_warping_error_of_a_real_clip() -> None:
    with av.open(str(shared("media/clips/realshort.mp4"))) as container:
        frames = [frame.to_ndarray(format="bgr24") for _, frame in zip(range(10), container.decode(video=0), strict=False)]
    clip = [np.asarray(frame, np.uint8) for frame in frames]
    lamps = [np.clip(f.astype(int) + (10 if i % 2 else -10), 0, 255).astype(np.uint8) for i, f in enumerate(clip)]
    own, flickering = warping_error(iter(clip), iter(clip)), warping_error(iter(clip), iter(lamps))
    assert own.mean < 0.001
    assert flickering.mean == pytest.approx((20 / 255) ** 2, rel=0.2)


def test_a_cut_is_not_flicker() -> None:
    clip = panning(3)
    other = [np.ascontiguousarray(np.rot90(frame, 2)[..., ::-1]) for frame in clip]
    random = np.random.default_rng(1)
    unlike = [random.integers(0, 255, clip[0].shape, np.uint8)]  # nothing in it can be followed
    with_cut = warping_error(clip + unlike + other, clip + unlike + other)
    assert with_cut.frames == 4 and with_cut.mean < 1e-4 and with_cut.occluded > 0.3


def test_clips_that_do_not_match_are_errors() -> None:
    clip = panning(3)
    with pytest.raises(InputError, match="the styled clip ends at frame 2"):
        warping_error(clip, clip[:2])
    with pytest.raises(InputError, match="must have one size"):
        warping_error(clip, [frame[:-2] for frame in clip])
    with pytest.raises(InputError, match="needs two or more frames"):
        warping_error(clip[:1], clip[:1])
    with pytest.raises(InputError, match="uint8 BGR"):
        warping_error([frame[..., 0] for frame in clip], clip)


def test_structure_kept_is_ssim() -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure  # takes a second

    source = panning(1)[0]
    random = np.random.default_rng(0)
    noisy = np.clip(source + random.normal(0, 25, source.shape), 0, 255).astype(np.uint8)
    assert structure_kept(source, source) == pytest.approx(1)
    assert structure_kept(source, np.clip(source * 0.8, 0, 255).astype(np.uint8)) > structure_kept(source, noisy)
    gray = [np.repeat(frame[..., :1], 3, 2) for frame in (source, noisy)]  # whose luminance is any channel of it
    x, y = (torch.from_numpy(frame[..., 0].astype(np.float64))[None, None] for frame in gray)
    _, everywhere = structural_similarity_index_measure(x, y, data_range=255.0, return_full_image=True)
    assert structure_kept(gray[0], gray[1]) == pytest.approx(everywhere[..., 5:-5, 5:-5].mean().item(), abs=1e-6)
    with pytest.raises(InputError, match="11x11"):
        structure_kept(source[:8], noisy[:8])
