"""Compares our CycleGAN step with a plain one in fp32 with six generator calls, as in the paper's code.

ResNet-6, ngf 32, 70x70 PatchGANs with ndf 64, crops of 128x128 (--side). Both steps use the same networks and
batches, the identity loss and image pools. The batches are loaded before the timing starts.

    python -m benchmarks.train_step [--device cuda] [--batch 4]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.training.config import load_config
from cyclecast.training.learner import Learner
from cyclecast.training.loop import average_losses
from cyclecast.training.machine import pick_device, pick_memory_format, pick_precision
from cyclecast.training.networks.layers import update_average
from cyclecast.training.pool import ImagePool
from cyclecast.training.processes import Processes
from cyclecast.training.recipes.cyclegan import CycleGan, CycleGanConfig

Batch = tuple[Tensor, Tensor]


def plain_step(networks: dict[str, nn.Module]) -> Callable[[Batch], None]:
    """Builds the step as written from the paper: one generator call for each batch of images, everything in fp32."""
    generator_ab, generator_ba = networks["generator_ab"], networks["generator_ba"]
    discriminator_a, discriminator_b = networks["discriminator_a"], networks["discriminator_b"]
    generator_optimizer = torch.optim.Adam(
        itertools.chain(generator_ab.parameters(), generator_ba.parameters()), 2e-4, (0.5, 0.999)
    )
    discriminator_optimizer = torch.optim.Adam(
        itertools.chain(discriminator_a.parameters(), discriminator_b.parameters()), 2e-4, (0.5, 0.999)
    )
    pool_a, pool_b = ImagePool(50), ImagePool(50)

    def target_loss(scores: Tensor, target: float) -> Tensor:
        return functional.mse_loss(scores, torch.full_like(scores, target))

    def step(batch: Batch) -> None:
        real_a, real_b = batch
        for weight in itertools.chain(discriminator_a.parameters(), discriminator_b.parameters()):
            weight.requires_grad_(False)
        generator_optimizer.zero_grad()
        fake_b, fake_a = generator_ab(real_a), generator_ba(real_b)
        loss = target_loss(discriminator_b(fake_b), 1.0) + target_loss(discriminator_a(fake_a), 1.0)
        loss = loss + 10 * functional.l1_loss(generator_ba(fake_b), real_a)
        loss = loss + 10 * functional.l1_loss(generator_ab(fake_a), real_b)
        loss = loss + 5 * functional.l1_loss(generator_ab(real_b), real_b)
        loss = loss + 5 * functional.l1_loss(generator_ba(real_a), real_a)
        loss.backward()
        generator_optimizer.step()
        for weight in itertools.chain(discriminator_a.parameters(), discriminator_b.parameters()):
            weight.requires_grad_(True)
        discriminator_optimizer.zero_grad()
        sides = ((discriminator_a, real_a, fake_a, pool_a), (discriminator_b, real_b, fake_b, pool_b))
        for discriminator, real, fake, pool in sides:
            loss = target_loss(discriminator(real), 1.0) + target_loss(discriminator(pool.exchange(fake.detach())), 0.0)
            (0.5 * loss).backward()
        discriminator_optimizer.step()

    return step


def ours(recipe: CycleGan, device: torch.device, side: int) -> Callable[[Batch], None]:
    """Builds the recipe's step as the training loop calls it, with the average of the weights, which the plain step lacks."""
    layout = pick_memory_format("auto", device, side)
    learner = Learner(recipe.networks, recipe.optimizers, device, pick_precision("auto", device))

    def step(batch: Batch) -> None:
        real_a, real_b = (images.contiguous(memory_format=layout) for images in batch)
        average_losses(recipe.step((real_a, real_b), learner, 0), False, Processes())
        for name, average in recipe.averages.items():
            update_average(average, recipe.networks[name], 0.999)

    return step


def main() -> None:
    """Alternates both steps and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=128, help="of the crops, pixels (default 128)")
    parser.add_argument("--steps", type=int, default=8, help="steps per turn (default 8)")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = pick_device(args.device)
    with tempfile.TemporaryDirectory() as folder:
        for domain, random in zip("ab", np.random.default_rng(0).spawn(2), strict=True):
            Path(folder, domain).mkdir()
            for index in range(4):
                image = cv2.resize(
                    random.integers(0, 256, (9, 9, 3), np.uint8), (round(args.side * 1.25), round(args.side * 1.25))
                )
                cv2.imwrite(f"{folder}/{domain}/{index}.png", image)
        sizes = {"load_size": round(args.side * 1.12), "crop_size": args.side}
        settings = {"out": folder, "domain_a": f"{folder}/a", "domain_b": f"{folder}/b"} | sizes
        networks = {"generator": "resnet6", "ngf": 32, "batch_size": args.batch}
        recipes = [CycleGan(load_config(CycleGanConfig, settings=settings | networks)) for _ in range(2)]
        for recipe in recipes:
            for network in recipe.networks.values():
                network.to(device)
        layout = pick_memory_format("auto", device, args.side)
        for network in recipes[0].networks.values():
            network.to(memory_format=layout)  # type: ignore[call-overload]
        batches = [recipes[0].batch(step, Processes()) for step in range(args.steps)]
        on_device = [(a.to(device), b.to(device)) for a, b in batches]
        steps = {"ours": ours(recipes[0], device, args.side), "straight": plain_step(recipes[1].networks)}
        speeds: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(args.turns + 1):
            for name, step in steps.items():
                started = time.perf_counter()
                for batch in on_device:
                    step(batch)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if turn:  # the first warms both up
                    speeds[name].append(args.steps * args.batch / (time.perf_counter() - started))
    ratio = statistics.median(speeds["ours"]) / statistics.median(speeds["straight"])
    rounded = {f"{name}_pairs_per_second": [round(s, 2) for s in values] for name, values in speeds.items()}
    facts = {"device": str(device), "precision": pick_precision("auto", device), "threads": torch.get_num_threads()}
    print(json.dumps({**facts, "side": args.side, "batch": args.batch, **rounded, "ratio_of_medians": round(ratio, 2)}))


if __name__ == "__main__":
    main()
