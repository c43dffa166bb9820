"""The demo's scene moves, has sound, and is the same every time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from cyclecast.video.scene import Scene, write_sound


def test_frames_move_and_are_reproducible() -> None:
    scene = Scene(width=160, height=90, seconds=0.4, rate=10)
    frames = list(scene)
    assert [(frame.pts, frame.image.shape) for frame in frames] == [(i, (90, 160, 3)) for i in range(4)]
    assert all(np.abs(a.image.astype(int) - b.image).mean() > 0.5 for a, b in zip(frames, frames[1:], strict=False))
    np.testing.assert_array_equal(frames[2].image, Scene(width=160, height=90).draw(0.2))


def test_sound_is_stereo_and_audible(tmp_path: Path) -> None:
    write_sound(tmp_path / "s.m4a", 1.0)
    with av.open(str(tmp_path / "s.m4a")) as container:
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert samples.shape[0] == 2 and abs(samples.shape[1] / 48_000 - 1.0) < 0.1
    assert 0.02 < np.sqrt((samples**2).mean()) < 0.5 and np.abs(samples).max() <= 1.2
