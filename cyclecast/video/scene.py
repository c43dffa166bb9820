"""A procedural landscape video for the demo: a lake under moving clouds, with a sailing boat and sound."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cyclecast.video.frame import Color, Frame, Image, StreamInfo

FloatImage = NDArray[np.float32]  # (H, W, 3) BGR or (H, W), in [0, 1]
SAMPLE_RATE = 48_000  # Hz


class Scene:
    """A lake landscape with drifting clouds, passing hills, rippling water and a sailing boat. Iterating yields `Frame`s.

    width, height: pixels. rate: frames per second. The same seed gives the same frames.
    """

    def __init__(self, width: int = 960, height: int = 540, seconds: float = 4.0, rate: int = 25, seed: int = 7) -> None:
        self.info = StreamInfo(
            width, height, Fraction(rate), Fraction(1, rate), round(seconds * rate), Color(1, 1, 1, 1), Fraction(1)
        )
        random = np.random.default_rng(seed)
        self.horizon = int(height * 0.56)
        wide = width + int(width * 0.5)
        self.clouds = _noise(random, self.horizon, wide, octaves=7, first=(3, 5))
        self.leaves = _noise(random, height, wide, octaves=8, first=(12, 20))
        ridges = [_noise(random, 1, wide, octaves=8, first=(1, n))[0] for n in (4, 6, 9)]
        tops = ((0.20, 0.19), (0.36, 0.13), (0.47, 0.07))  # top and relief of each ridge, as fractions of the image's height
        self.ridges = [(top - relief * (2 * r - 1)) * height for r, (top, relief) in zip(ridges, tops, strict=True)]
        self.blooms = np.stack([random.uniform(0, wide, 260), random.uniform(0.88, 1.0, 260), random.uniform(1, 4, 260)], 1)

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.info.frames or 0):
            yield Frame(self.draw(float(index / self.info.rate)), index, 1)

    def draw(self, seconds: float) -> Image:
        """Draws the image at this time: (H, W, 3) uint8 BGR."""
        width, height = self.info.width, self.info.height
        land = self._land(seconds)
        image = np.zeros((height, width, 3), np.float32)
        image[: self.horizon] = land
        self._sail(image[: self.horizon], seconds)
        image[self.horizon :] = self._water(image[: self.horizon], seconds)
        self._bank(image, seconds)
        return np.asarray((image.clip(0, 1) * 255).round(), np.uint8)

    def _land(self, seconds: float) -> FloatImage:
        """Returns sky, clouds and three ridges, each of which moves at its own speed: (horizon, W, 3)."""
        width, height = self.info.width, self.horizon
        down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        sky = _blend(_bgr(70, 120, 190), _bgr(246, 214, 170), down**1.3)
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        glow = np.exp(-((x - 0.7 * width) ** 2 + (y - 0.62 * height) ** 2) / (0.13 * width) ** 2).astype(np.float32)[..., None]
        sky = _blend(sky, _bgr(255, 236, 190), glow * 0.9)
        cover = _shift(self.clouds, 14 * seconds * width / 960, width)[..., None]
        cover = np.clip((cover - 0.47) * 4.0, 0, 1) * (1 - 0.6 * down)
        image = _blend(sky, _blend(_bgr(178, 172, 190), _bgr(255, 247, 232), cover), cover * 0.9)
        leaves = _shift(self.leaves[:height], 20 * seconds * width / 960, width)[..., None]
        colors = (_bgr(128, 146, 180), _bgr(92, 128, 112), _bgr(74, 104, 48))
        for ridge, color, speed, grain in zip(self.ridges, colors, (6, 14, 26), (0.1, 0.35, 0.8), strict=True):
            top = _shift(ridge[None], speed * seconds * width / 960, width)[0]
            inside = np.clip(y - top[None] + 0.5, 0, 1).astype(np.float32)[..., None]
            depth = np.clip((y - top[None]) / height, 0, 1)[..., None]  # below the ridge: darker downhill
            lit = color * (1 + grain * (leaves - 0.5)) * (1.12 - 0.3 * depth)
            image = _blend(image, lit.astype(np.float32), inside)
        return image

    def _sail(self, land: FloatImage, seconds: float) -> None:
        """Draws a boat with two sails on the far shore into `land`."""
        width, height = self.info.width, self.horizon
        x, size = width * (0.22 + 0.045 * seconds), width * 0.055
        lean = 0.05 * np.sin(1.7 * seconds) * size

        def polygon(points: list[tuple[float, float]], color: FloatImage) -> None:
            corners = np.array([[(x + px * size + lean * -py) * 16, (height + py * size) * 16] for px, py in points])
            cv2.fillPoly(land, [corners.round().astype(np.int32)], color.tolist(), cv2.LINE_AA, 4)

        polygon([(0.05, -0.12), (0.05, -1.5), (0.75, -0.12)], _bgr(250, 240, 225))
        polygon([(-0.02, -0.12), (-0.02, -1.25), (-0.5, -0.12)], _bgr(236, 214, 190))
        polygon([(-0.6, -0.1), (0.8, -0.1), (0.6, 0.06), (-0.45, 0.06)], _bgr(96, 52, 40))

    def _water(self, land: FloatImage, seconds: float) -> FloatImage:
        """Returns the reflection of `land`, distorted by ripples that grow towards the viewer, with the glitter of the sun."""
        width, rows = self.info.width, self.info.height - self.horizon
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(rows, dtype=np.float32))
        near = y / rows
        phase = 90 * np.sqrt(near + 0.02)
        ripple = np.sin(phase + 0.013 * x * 960 / width - 3.1 * seconds) + 0.6 * np.sin(2.3 * phase - 0.03 * x - 4.3 * seconds)
        reach = (1 + 13 * near) * width / 960
        mirror = cv2.remap(
            land,
            (x + reach * ripple).astype(np.float32),
            (self.horizon - 1 - y * 0.9 - reach * 0.7 * ripple).clip(0, self.horizon - 1).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        water = _blend(np.asarray(mirror, np.float32), _bgr(44, 92, 112), (0.22 + 0.2 * near)[..., None].astype(np.float32))
        path = np.exp(-(((x - 0.7 * width) / (0.05 * width * (1 + 2 * near))) ** 2))
        glitter = (path * np.clip(ripple - 0.7, 0, 1) * 0.9).astype(np.float32)[..., None]
        return _blend(water, _bgr(255, 240, 205), glitter)

    def _bank(self, image: FloatImage, seconds: float) -> None:
        """Draws swaying grass and poppies in the foreground into `image`."""
        width, height = self.info.width, self.info.height
        offset = 48 * seconds * width / 960
        leaves = _shift(self.leaves, offset, width)
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        slope, sway = 0.02 * np.sin(0.006 * (x + offset)), 0.004 * np.sin(0.05 * x + 3 * seconds)
        edge = height * (0.885 + slope + sway - 0.05 * (leaves - 0.5))
        grass = _bgr(88, 122, 44) * (0.55 + 1.0 * leaves[..., None])
        image[:] = _blend(image, grass.astype(np.float32), np.clip(y - edge, 0, 1).astype(np.float32)[..., None])
        for bloom_x, bloom_y, radius in self.blooms:
            center = (bloom_x - offset + 2 * np.sin(2 * seconds + bloom_x), bloom_y * height + 0.03 * height)
            color = _bgr(206, 52, 40) if radius > 2 else _bgr(240, 214, 120)
            position = (int(center[0] * 16), int(center[1] * 16))
            cv2.circle(image, position, int(radius * width / 960 * 16), color.tolist(), -1, cv2.LINE_AA, 4)


def write_sound(path: Path, seconds: float, seed: int = 7) -> None:
    """Writes waves on the shore and a slow arpeggio as stereo AAC at 48 kHz. The suffix of `path` (.m4a) sets the container."""
    import av  # the scene itself, which is also the test pattern of a live source, needs no FFmpeg

    count = int(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    random = np.random.default_rng(seed)
    waves = np.convolve(random.normal(size=(2, count)).sum(0), np.ones(48) / 48, "same") * (0.6 + 0.4 * np.sin(1.3 * time))
    sound = np.stack([0.06 * waves, 0.06 * np.roll(waves, 900)])
    for step, note in enumerate((57, 64, 69, 73, 76, 73, 69, 64)):  # A major, over two octaves
        pitch = 440 * 2 ** ((note - 69) / 12)
        for start_s in np.arange(step * 0.25, seconds, 2.0):
            since = np.clip(time - start_s, 0, None)
            tone = np.sin(2 * np.pi * pitch * since) * np.exp(-2.2 * since) * (1 - np.exp(-80 * since))
            side = step / 7
            sound += 0.16 * np.stack([(1 - side) * tone, side * tone])
    samples = np.clip(sound, -1, 1).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
        for start in range(0, count, 1024):
            chunk = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, start : start + 1024]), "fltp", "stereo")
            chunk.sample_rate, chunk.pts, chunk.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
            container.mux(stream.encode(chunk))
        container.mux(stream.encode(None))


def _bgr(red: int, green: int, blue: int) -> FloatImage:
    return np.array([blue / 255, green / 255, red / 255], np.float32)


def _blend(below: FloatImage, above: FloatImage, alpha: FloatImage) -> FloatImage:
    return np.asarray(below + (above - below) * alpha, np.float32)


def _noise(random: np.random.Generator, height: int, width: int, octaves: int, first: tuple[int, int]) -> FloatImage:
    """Draws fractal noise in [0, 1]: a sum of smoothly enlarged random grids. Each octave is twice as fine, half as strong.

    first: rows and columns of the coarsest grid.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows, columns = min(first[0] << octave, height), min(first[1] << octave, width)
        grid = random.random((rows, columns), np.float32)
        total += np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32) / (1 << octave)
    low, high = np.percentile(total, (1, 99))
    return np.asarray(((total - low) / max(high - low, 1e-6)).clip(0, 1), np.float32)


def _shift(texture: FloatImage, offset: float, width: int) -> FloatImage:
    """Returns `width` columns of the texture from `offset` on, interpolated between pixels and mirrored past the end."""
    move = np.array([[1, 0, -offset], [0, 1, 0]], np.float32)
    size = (width, texture.shape[0])
    return np.asarray(cv2.warpAffine(texture, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)
