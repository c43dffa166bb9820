"""A small generator that imitates a large one: online, at several depths (OMGD, Ren et al. 2021), without VGG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.errors import ConfigError, ModelError
from cyclecast.training import checkpoint, losses, trained
from cyclecast.training.config import load_config
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.patch import AnyDiscriminator, build_discriminator, side_requirement
from cyclecast.training.pool import ImagePool
from cyclecast.training.recipes.cyclegan import CycleGan, CycleGanConfig
from cyclecast.training.recipes.translation import Generator, PoolConfig, Translation
from cyclecast.training.steadiness_loss import steadiness_loss

TEACHERS = ("cyclegan", "simgan")  # recipes that leave a generator and a discriminator of the pictures that it makes


@dataclass(frozen=True, kw_only=True)
class DistillConfig(PoolConfig):
    """The student's settings and what it is asked for."""

    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("discriminator", "discriminator_layers", "ndf"), "the discriminator is the teacher's"
    )

    teacher: Path
    """The teacher's run, or its checkpoint."""
    direction: Literal["a2b", "b2a"] = "a2b"
    """Which of the teacher's generators is imitated."""
    online: bool = False
    """The teacher (a run of cyclegan) goes on learning beside the student, in twice the time (OMGD); false: it stays as it is."""
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
    """Of the mean absolute difference to the teacher's picture; OMGD has none, but then VGG sees to the colors."""
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
        self._require("compile", not self.compile, "false: hooks read the networks' depths, and compiled code skips them")


class Distill(Translation):
    """One direction: the student, its teacher, and, if asked for, the discriminator that the teacher learned against."""

    Config = DistillConfig
    config: DistillConfig

    def __init__(self, config: DistillConfig) -> None:
        state = checkpoint.load(config.teacher)
        if state["recipe"] not in TEACHERS:
            raise ConfigError(f"teacher must be a run of {' or '.join(TEACHERS)}, got one of {state['recipe']}: {config.teacher}")
        source, target = config.direction[0], config.direction[2]
        self.source, self.student, self.adversary = source, f"generator_{source}{target}", f"discriminator_{target}"
        discriminator = _discriminator(state, self.adversary)
        super().__init__(config, (config.direction,), {self.adversary: discriminator} if config.adversarial_weight else {})
        self.pools = {"fake": ImagePool(config.pool_size)} if config.adversarial_weight else {}
        self._require_sides(state["config"])
        self.teaching: CycleGan | None = None
        if config.online:
            self.teaching = _teacher_at_work(state, config)
            self.teacher: nn.Module = self.teaching.averages[self.student]
            self.judge_of_both: AnyDiscriminator = self.teaching.networks[self.adversary]  # type: ignore[assignment]
            teaching = self.teaching
            self.networks |= {f"teacher_{name}": network for name, network in teaching.networks.items()}
            self.averages |= {f"teacher_{name}": network for name, network in teaching.averages.items()}
            self.decays |= {f"teacher_{name}": (decay, state["step"]) for name, (decay, _) in teaching.decays.items()}
            self.optimizers |= {f"teacher_{name}": optimizer for name, optimizer in teaching.optimizers.items()}
            self.rates |= {f"teacher_{name}": rate for name, rate in teaching.rates.items()}
            self.pools |= {f"teacher_{name}": pool for name, pool in teaching.pools.items()}
        else:
            self.teacher = trained.generator(state, config.direction)[1]
            self.judge_of_both = _discriminator(state, self.adversary)
            self.networks |= {"teacher": self.teacher, "teacher_discriminator": self.judge_of_both}
        self.connectors = self._connect()
        self.networks["connectors"] = self.connectors
        self.optimizers["generators"].add_param_group({"params": list(self.connectors.parameters())})

    def _require_sides(self, settings: Mapping[str, Any]) -> None:
        """ConfigError if the teacher's discriminator cannot judge the student's pictures, or these at the teacher's scale."""
        sides = {"crop_size": self.config.crop_size}
        if self.config.adversarial_weight:
            sides["crop_size x teacher_scale"] = self._side()
        for name, side in sides.items():
            if wanted := side_requirement(settings["discriminator"], settings["discriminator_layers"], side):
                raise ConfigError(f"{name} must be {wanted} for the teacher's discriminator, got {side}")

    def _connect(self) -> nn.ModuleList:
        """Linear maps from the student's channels to the teacher's: 1x1 convolutions of what is averaged over the picture."""
        channels: list[list[int]] = []
        for network in (self.networks[self.student], self.teacher):
            side = 2 * int(network.stride)  # type: ignore[arg-type]
            with torch.no_grad(), recorded(network.depths()) as maps:  # type: ignore[operator]
                network(torch.zeros(1, 3, side, side))
            channels.append([each.shape[1] for each in maps])
        return nn.ModuleList(nn.Linear(mine, its) for mine, its in zip(*channels, strict=True))

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

    def _student_loss(self, source: Tensor) -> LossTerms:
        config, teacher = self.config, self.teacher
        student: Any = self.networks[self.student]
        with torch.no_grad(), recorded(teacher.depths()) as deep:  # type: ignore[operator]
            asked = shift_averaged(teacher, source, config.teacher_scale, config.teacher_shifts)
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
        return LossTerms(total, parts, (made,))

    def _as_seen(self, made: Tensor) -> Tensor:
        """The student's pictures at the scale of its teacher, where its strokes are as large as those of the real ones."""
        side = self._side()
        return made if side == self.config.crop_size else _resized(made, [side, side])

    def _side(self) -> int:
        return round(self.config.crop_size * self.config.teacher_scale)

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> LossTerms:
        fake = self._as_seen(fake)
        total, loss = self.discriminate(self.adversary, real[:, :, : fake.shape[2], : fake.shape[3]], fake)
        return LossTerms(total, {self.adversary: loss})


def shift_averaged(teacher: nn.Module, source: Tensor, scale: float = 1.0, shifts: int = 2) -> Tensor:
    """What the teacher makes of (N, 3, H, W), at `scale` of its size and brought back, less its own grid; in [-1, 1], fp32.

    The mean of shifts x shifts calls, at evenly spaced parts of the teacher's stride, from a random place on: what it draws
    on its grid falls elsewhere in each and cancels out; what belongs to the picture adds up. At scale 1 it sees the picture
    at its size; at others the size is rounded up to a multiple of its stride, or of 8. What a larger stride, as of a U-Net,
    asks for beyond that is mirrored.
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
    grain = min(stride, 8)
    small = sides if scale == 1 else [max(2 * grain, math.ceil(side * scale / grain) * grain) for side in sides]
    whole = [math.ceil(side / stride) * stride for side in small]
    made = teacher(_mirrored(seen if small == sides else _resized(seen, small), whole))
    made = made[:, :, : small[0], : small[1]].float().clamp(-1, 1)
    made = made if small == sides else _resized(made, sides).clamp(-1, 1)
    parts = zip(made.chunk(len(places)), places, strict=True)
    back = [part[:, :, reach - y : reach - y + height, reach - x : reach - x + width] for part, (y, x) in parts]
    return torch.stack(back).mean(0)


def _resized(images: Tensor, size: list[int]) -> Tensor:
    return functional.interpolate(images, size, mode="bicubic", antialias=True)


def _mirrored(images: Tensor, size: list[int]) -> Tensor:
    """Grown on the right and below by their mirror image, as often as it takes."""
    for axis, side in enumerate(size, start=2):
        if side > (own := images.shape[axis]):
            places = torch.arange(side, device=images.device) % (2 * own - 2)
            images = images.index_select(axis, torch.minimum(places, 2 * own - 2 - places))
    return images


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


def _discriminator(state: dict[str, Any], name: str) -> AnyDiscriminator:
    """The checkpoint's discriminator, a fresh module."""
    settings = state["config"]
    try:
        network = build_discriminator(settings["discriminator"], settings["ndf"], settings["discriminator_layers"])
        network.load_state_dict(state["networks"][name])
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"the teacher's {name} is none that this version knows") from error
    return network


def _teacher_at_work(state: dict[str, Any], config: DistillConfig) -> CycleGan:
    """The teacher's run as it was saved, to go on with on the student's data."""
    if state["recipe"] != "cyclegan":
        raise ConfigError(f"online must be false for a teacher of {state['recipe']!r}: cyclegan alone goes on learning")
    own = load_config(CycleGanConfig, base=state["config"])
    data = ("domain_a", "domain_b", "layout", "load_size", "load_size_max", "crop_size", "flip", "tight")
    shared = {name: getattr(config, name) for name in (*data, "batch_size", "accumulate", "out")}
    teaching = CycleGan(replace(own, **shared))
    checkpoint.fill(state, teaching)
    return teaching
