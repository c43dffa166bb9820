"""A small generator that imitates a large one: online, at several depths (OMGD, Ren et al. 2021), without VGG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.errors import ConfigError, ModelError
from cyclecast.training import checkpoint, losses, trained
from cyclecast.training.config import load_config
from cyclecast.training.learner import Learner, Terms
from cyclecast.training.networks import ImageGenerator, LatentGenerator
from cyclecast.training.networks.patch import AnyDiscriminator, build_discriminator
from cyclecast.training.pool import ImagePool
from cyclecast.training.recipes.cyclegan import CycleGan, CycleGanConfig
from cyclecast.training.recipes.translation import Generator, Translation, TwoSidedConfig
from cyclecast.training.steady import steadiness_loss


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TwoSidedConfig):
    """The student's settings and what it is asked for; the discriminator's are the teacher's."""

    teacher: Path
    """The teacher's run, or its checkpoint."""
    direction: Literal["a2b", "b2a"] = "a2b"
    """Which of the teacher's generators is imitated."""
    online: bool = True
    """The teacher (a run of cyclegan) goes on learning beside the student; false: it stays as it is."""
    teacher_scale: float = 1.0
    """The teacher sees the pictures at this share of their size, so that the student's strokes are larger by as much: of a
    teacher of 256-pixel paintings, 0.5 suits 1280x720."""
    teacher_shifts: int = 2
    """Each way: the teacher's picture is the mean of so many squared, moved against its grid, which cancels out; 1: one call."""
    generator: Generator = "frame"
    """The student."""
    ssim_weight: float = 10.0
    """Of 1 - SSIM to the teacher's picture (OMGD)."""
    pixel_weight: float = 10.0
    """Of the mean absolute difference to the teacher's picture; OMGD has none, but then VGG sees to the colours."""
    feature_weight: float = 2.0
    """Of the difference in what the teacher's discriminator sees in both pictures, in place of VGG."""
    style_weight: float = 1.0
    """Of the difference of those features' Gram matrices."""
    smoothness_weight: float = 1e-5
    """Of the student's total variation."""
    channel_weight: float = 1.0
    """Of the channels' means at four depths, the student's brought to the teacher's by connectors."""
    steadiness_weight: float = 2.0
    """Of how far the picture moves otherwise than its input does, or shows its noise."""
    adversarial_weight: float = 0.0
    """Of the student's own discriminator, which starts as the teacher's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("ssim", "pixel", "feature", "style", "smoothness", "channel", "steadiness", "adversarial")
        self._require_weights(*(f"{name}_weight" for name in names))
        self._require("teacher_shifts", 1 <= self.teacher_shifts <= 8, "from 1 to 8")
        self._require("teacher_scale", 0.1 <= self.teacher_scale <= 1, "from 0.1 to 1")
        self._require("teacher_scale", self.teacher_scale == 1 or not self.online, "1 for a teacher that learns online")


class Distill(Translation):
    """One direction: the student, its teacher, and, if asked for, the discriminator that the teacher learned against."""

    Config = DistillConfig
    config: DistillConfig

    def __init__(self, config: DistillConfig) -> None:
        state = checkpoint.load(config.teacher)
        source, target = config.direction[0], config.direction[2]
        self.source, self.student, self.adversary = source, f"generator_{source}{target}", f"discriminator_{target}"
        discriminator = _discriminator(state, self.adversary)
        super().__init__(config, (config.direction,), {self.adversary: discriminator} if config.adversarial_weight else {})
        self.pools = {"fake": ImagePool(config.pool_size)} if config.adversarial_weight else {}
        side = round(config.crop_size * config.teacher_scale)
        if config.adversarial_weight and state["config"]["discriminator"] == "projected" and side % 32:
            raise ConfigError(f"crop_size x teacher_scale must be a multiple of 32 for the teacher's discriminator, got {side}")
        self.teaching: CycleGan | None = None
        if config.online:
            self.teaching = _teacher_at_work(state, config)
            self.teacher: nn.Module = self.teaching.averages[self.student]
            self.judge_of_both: AnyDiscriminator = self.teaching.networks[self.adversary]  # type: ignore[assignment]
            teaching = self.teaching
            self.networks |= {f"teacher_{name}": network for name, network in teaching.networks.items()}
            self.averages |= {f"teacher_{name}": network for name, network in teaching.averages.items()}
            self.optimizers |= {f"teacher_{name}": optimizer for name, optimizer in teaching.optimizers.items()}
            self.rates |= {f"teacher_{name}": rate for name, rate in teaching.rates.items()}
            self.pools |= {f"teacher_{name}": pool for name, pool in teaching.pools.items()}
        else:
            self.teacher, self.judge_of_both = _generator(state, config.direction), _discriminator(state, self.adversary)
            self.networks |= {"teacher": self.teacher, "teacher_discriminator": self.judge_of_both}
        self.connectors = self._connect()
        self.networks["connectors"] = self.connectors
        self.optimizers["generators"].add_param_group({"params": list(self.connectors.parameters())})

    def _connect(self) -> nn.ModuleList:
        """Linear maps from the student's channels to the teacher's: 1x1 convolutions of what is averaged over the picture."""
        student: Any = self.networks[self.student]
        teacher: Any = self.teacher
        picture = torch.zeros(1, 3, self.config.crop_size, self.config.crop_size)
        with torch.no_grad(), recorded(student.depths()) as small, recorded(teacher.depths()) as large:
            student(picture), teacher(picture)
        return nn.ModuleList(nn.Linear(s.shape[1], t.shape[1]) for s, t in zip(small, large, strict=True))

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """The teacher, where it still learns; then the student; then the student's discriminator."""
        found: dict[str, Tensor] = {}
        if self.teaching is not None:

            def learn_teacher(name: str, *rest: Any) -> Any:
                return learn(f"teacher_{name}", *rest)

            told = self.teaching.step(batch, learn_teacher, step)  # type: ignore[arg-type]
            found |= {f"teacher_{name}": value for name, value in told.items()}
        real_a, real_b = batch
        source, target = (real_a, real_b) if self.source == "a" else (real_b, real_a)
        parts, (fake,) = learn("generators", self._student_loss, source)
        found |= parts
        if self.config.adversarial_weight:
            judged, _ = learn("discriminators", self._discriminator_loss, target, self.pools["fake"].exchange(fake))
            found |= judged
        return found

    def _student_loss(self, source: Tensor) -> Terms:
        config, teacher = self.config, self.teacher
        student: Any = self.networks[self.student]
        with torch.no_grad(), recorded(teacher.depths()) as deep:  # type: ignore[operator]
            asked = without_grid(teacher, source, config.teacher_scale, config.teacher_shifts)
            seen = self.judge_of_both.hidden(asked)
        with recorded(student.depths()) as shallow:
            made = student(source).float()
        hidden = self.judge_of_both.hidden(made)
        pooled = [connect(small.mean((2, 3))) for connect, small in zip(self.connectors, shallow, strict=True)]
        taught = [large.float().mean((2, 3)).unflatten(0, (-1, len(source))).mean(0) for large in deep]
        parts = {
            "ssim": losses.ssim_loss(made, asked),
            "pixel": losses.l1_loss(made, asked),
            "feature": losses.feature_loss(hidden, seen),
            "style": losses.style_loss(hidden, seen),
            "smoothness": losses.total_variation(made),
            "channel": torch.stack(
                [(mine.float() - its).square().mean() for mine, its in zip(pooled, taught, strict=True)]
            ).mean(),
        }
        if config.steadiness_weight:
            parts["steadiness"] = steadiness_loss(student, source, made)
        if config.adversarial_weight:
            parts["adversarial"] = losses.generator_loss(self.judge(self.adversary, self._as_seen(made)), config.adversarial)
        total = sum((getattr(config, f"{name}_weight") * value for name, value in parts.items()), made.new_zeros(()))
        return Terms(total, parts, (made,))

    def _as_seen(self, made: Tensor) -> Tensor:
        """The student's pictures at the scale of its teacher, where its strokes are as large as those of the real ones."""
        side = round(self.config.crop_size * self.config.teacher_scale)
        return made if side == self.config.crop_size else _resized(made, [side, side])

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> Terms:
        fake = self._as_seen(fake)
        total, loss = self.discriminate(self.adversary, real[:, :, : fake.shape[2], : fake.shape[3]], fake)
        return Terms(total, {self.adversary: loss})


def without_grid(teacher: nn.Module, source: Tensor, scale: float = 1.0, shifts: int = 2) -> Tensor:
    """What the teacher makes of (N, 3, H, W), at `scale` of its size and brought back, less its own grid; in [-1, 1], fp32.

    The mean of shifts x shifts calls, at evenly spaced parts of the teacher's stride, from a random place on: what it draws
    on its grid falls elsewhere in each and cancels out; what belongs to the picture adds up.
    """
    height, width = source.shape[2:]
    stride = int(teacher.stride)  # type: ignore[arg-type]
    reach = min(max(shifts, round(stride / scale)), height // 2, width // 2)
    step = max(1, reach // shifts)
    top, left = torch.randint(step, (2,)).tolist()
    padded = functional.pad(source, (reach,) * 4, mode="reflect")
    places = [(top + step * row, left + step * column) for row in range(shifts) for column in range(shifts)]
    seen = torch.cat([padded[:, :, y : y + height + reach, x : x + width + reach] for y, x in places])
    sides = list(seen.shape[2:])
    small = [max(2 * stride, math.ceil(side * scale / stride) * stride) for side in sides]
    made = teacher(seen if small == sides else _resized(seen, small)).float().clamp(-1, 1)
    made = made if small == sides else _resized(made, sides).clamp(-1, 1)
    parts = zip(made.chunk(len(places)), places, strict=True)
    back = [part[:, :, reach - y : reach - y + height, reach - x : reach - x + width] for part, (y, x) in parts]
    return torch.stack(back).mean(0)


def _resized(images: Tensor, size: list[int]) -> Tensor:
    return functional.interpolate(images, size, mode="bicubic", antialias=True)


@contextmanager
def recorded(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The outputs of `modules` as they are run, in that order."""
    outputs: list[Tensor] = []
    hooks = [module.register_forward_hook(lambda _module, _inputs, out: outputs.append(out)) for module in modules]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _generator(state: dict[str, Any], direction: str) -> ImageGenerator:
    _, network = trained.generator(state, direction)
    if isinstance(network, LatentGenerator):
        raise ModelError(f"a run of {state['recipe']} translates nothing that could be imitated")
    return network


def _discriminator(state: dict[str, Any], name: str) -> AnyDiscriminator:
    """The checkpoint's discriminator, a fresh module."""
    settings = state["config"]
    try:
        network = build_discriminator(settings["discriminator"], settings["ndf"], settings["discriminator_layers"])
        network.load_state_dict(state["networks"][name])
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"a run of {state['recipe']} has no {name} of images ({error})") from error
    return network


def _teacher_at_work(state: dict[str, Any], config: DistillConfig) -> CycleGan:
    """The teacher's run as it was saved, to go on with on the student's data."""
    if state["recipe"] != "cyclegan":
        raise ConfigError(f"online must be false for a teacher of {state['recipe']!r}: cyclegan alone goes on learning")
    own = load_config(CycleGanConfig, base=state["config"])
    shared = ("domain_a", "domain_b", "layout", "load_size", "load_size_max", "crop_size", "batch_size", "flip", "tight", "out")
    teaching = CycleGan(replace(own, **{name: getattr(config, name) for name in shared}))
    checkpoint.fill(state, teaching)
    return teaching
