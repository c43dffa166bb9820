"""Compares `cyclecast convert` with the usual hand-written loop: PyTorch eager fp32, cv2.VideoCapture, numpy, cv2.VideoWriter.

Both run one ResNet-9 generator (ngf 64) on one 256x256 clip and alternate within one run. The weights are PyTorch's seeded
initialization. Speed does not depend on them; the PSNR of our default engine against fp32 does and is higher after training.

    python -m benchmarks.plain_loop
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

import cyclecast
from cyclecast.demo import render_scene
from cyclecast.export.agreement import compare
from cyclecast.export.checkpoints import TrainedGenerator
from cyclecast.export.onnx import export_onnx
from cyclecast.training.networks.resnet import ResnetGenerator
from cyclecast.video.convert.options import ConvertOptions
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.frame import Image
from cyclecast.video.scene import Scene


@torch.no_grad()
def plain_frame(generator: ResnetGenerator, frame: Image) -> Image:
    """Runs a generator on a frame in fp32, as users write it: (H, W, 3) uint8 BGR -> the same, H and W multiples of 4."""
    rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.float32) / 127.5 - 1.0
    styled = generator(torch.from_numpy(rgb.transpose(2, 0, 1))[None])[0]
    rgb = ((styled.numpy().transpose(1, 2, 0) + 1.0) * 127.5).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)


def plain_loop(source: Path, output: Path, generator: ResnetGenerator) -> int:
    """Converts a video file without its sound; returns the number of frames."""
    capture = cv2.VideoCapture(str(source))
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    writer = cv2.VideoWriter(str(output), cv2.VideoWriter.fourcc(*"mp4v"), capture.get(cv2.CAP_PROP_FPS), size)
    frames = 0
    while True:
        is_read, frame = capture.read()
        if not is_read:
            break
        writer.write(plain_frame(generator, np.asarray(frame, np.uint8)))
        frames += 1
    capture.release()
    writer.release()
    return frames


def main() -> None:
    """Alternates both for several runs and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=50)
    args = parser.parse_args()
    torch.manual_seed(0)
    generator = ResnetGenerator(blocks=9, ngf=64).eval()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        clip = root / "clip.mp4"
        render_scene(clip, Scene(256, 256, args.frames / 25))
        export_onnx(TrainedGenerator(generator, "random", "a2b", {}, 0, []), root / "resnet9.onnx", check=False)
        ours, plain = [], []
        with cyclecast.load(root / "resnet9.onnx") as model:
            for run in range(args.runs + 1):
                report = cyclecast.convert(clip, root / "ours.mp4", model, ConvertOptions(overwrite=True))
                started = time.perf_counter()
                frames = plain_loop(clip, root / "plain.mp4", generator)
                if run:  # the first warms both up
                    ours.append(report.fps)
                    plain.append(frames / (time.perf_counter() - started))
            with VideoFile(clip) as video:
                images = [frame.image for _, frame in zip(range(10), video, strict=False)]
            with cyclecast.load(root / "resnet9.onnx", precision="fp32") as exact:
                agreement = compare((256, 256), ((model(i), exact(i)) for i in images), model.engine.precision)
            device = f"{model.engine.name} {model.engine.precision}, {model.engine.device}, {torch.get_num_threads()} threads"
    print(
        json.dumps(
            {
                "device": device,
                "runs": args.runs,
                "ours_fps": [round(f, 2) for f in ours],
                "plain_fps": [round(f, 2) for f in plain],
                "ratio_of_medians": round(statistics.median(ours) / statistics.median(plain), 2),
                "psnr_db_against_fp32": round(agreement.psnr_db, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
