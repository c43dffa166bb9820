"""A small generator that imitates a large one at several depths (OMGD, Ren et al. 2021), without VGG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from cyclecast.errors import ConfigError, ModelError
from cyclecast.training import checkpoint, losses
from cyclecast.training.config import load_config, require, require_weights
from cyclecast.training.learner import Learner, LossTerms
from cyclecast.training.networks.patch import AnyDiscriminator, build_discriminator, side_requirement
from cyclecast.training.pool import ImagePool
from cyclecast.training.recipes.cyclegan import CycleGan, CycleGanConfig
from cyclecast.training.recipes.settings import PoolConfig, TranslationConfig
from cyclecast.training.recipes.translation import Translation
from cyclecast.training.shift_average import resize, shift_averaged
from cyclecast.training.steadiness_loss import steadiness_loss

TEACHERS = ("cyclegan", "simgan", "cut")  # recipes whose runs hold a generator and a discriminator of its output
TEACHER_FACTS = ("recipe", "config", "step", "exports")  # of a teacher's checkpoint, without weights


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TranslationConfig):
    """The settings of the student and of its losses."""

    defaults: ClassVar[Mapping[str, Any]] = {"generator": "frame"}
    unavailable: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("discriminator", "discriminator_layers", "ndf"), "the discriminator is the teacher's"
    )

    pool: PoolConfig = PoolConfig()
    teacher: Path
    """The teacher's run, or its checkpoint. The run keeps a copy of what it needs of the teacher."""
    direction: Literal["a2b", "b2a"] = "a2b"
    """Which of the teacher's generators is imitated."""
    online: bool = False
    """Trains the teacher (a run of cyclegan) further beside the student, in twice the time (OMGD)."""
    teacher_scale: float = 1.0
    """The teacher sees images at this share of their size, so that the student's strokes are larger by as much: for a
    teacher of 256-pixel paintings, 0.5 suits 1280x720."""
    teacher_shifts: int = 2
    """Averages the teacher over this many shifts in each direction, squared in all, which cancels its grid. 1: one call."""
    ssim_weight: float = 10.0
    """Weight of 1 - SSIM to the teacher's image (OMGD)."""
    pixel_weight: float = 10.0
    """Weight of the mean absolute difference to the teacher's image; OMGD has VGG for the colors instead."""
    feature_weight: float = 2.0
    """Weight of the difference between the teacher's discriminator's features of both images, in place of VGG."""
    style_weight: float = 1.0
    """Weight of the difference between the Gram matrices of these features."""
    smoothness_weight: float = 1e-5
    """Weight of the total variation of the student's image."""
    channel_weight: float = 1.0
    """Weight of the difference between the channels' means at four depths, which connectors map to the teacher's."""
    steadiness_weight: float = 2.0
    """Weight of the steadiness loss: output motion that differs from the input motion, and visible noise. Reduces flicker."""
    adversarial_weight: float = 0.0
    """Weight of the student's own discriminator, which starts as a copy of the teacher's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weights(self)
        require(self, "teacher_shifts", 1 <= self.teacher_shifts <= 8, "from 1 to 8")
        require(self, "teacher_scale", 0.1 <= self.teacher_scale <= 1, "from 0.1 to 1")
        require(self, "teacher_scale", self.teacher_scale == 1 or not self.online, "1 for a teacher that trains online")
        no_compile = "false: hooks read hidden layers, and compiled code skips them"
        require(self.compute, "compile", not self.compute.compile, no_compile)


class Distill(Translation):
    """One direction: the student, its teacher and, with adversarial_weight, the student's discriminator.

    teacher: the state of the teacher's run, or its `TEACHER_FACTS` alone where weights are loaded later; None: reads it.
    """

    Config = DistillConfig
    config: DistillConfig

    def __init__(self, config: DistillConfig, teacher: Mapping[str, Any] | None = None) -> None:
        state = checkpoint.load(config.teacher) if teacher is None else teacher
        missing = [name for name in TEACHER_FACTS if name not in state]
        if missing:
            raise ModelError(f"{config.teacher}: a student cannot learn from it: no {', '.join(missing)} in it")
        if state["recipe"] not in TEACHERS:
            names = f"{', '.join(TEACHERS[:-1])} or {TEACHERS[-1]}"
            raise ConfigError(f"teacher must be a run of {names}, got one of {state['recipe']}: {config.teacher}")
        if config.direction not in state["exports"]:
            raise ConfigError(f"direction must be {' or '.join(state['exports'])}, as the teacher's, got {config.direction}")
        source, target = config.direction[0], config.direction[2]
        self.source, self.student, self.adversary = source, f"generator_{source}{target}", f"discriminator_{target}"
        discriminator = _discriminator(state, self.adversary)
        super().__init__(config, (config.direction,), {self.adversary: discriminator} if config.adversarial_weight else {})
        self.pools = {"fake": ImagePool(config.pool.pool_size)} if config.adversarial_weight else {}
        self._check_sides(state["config"])
        self.teacher_facts = {name: state[name] for name in TEACHER_FACTS}
        self.online_teacher: CycleGan | None = None
        if config.online:
            self.online_teacher = online = _online_teacher(state, config)
            self.teacher: nn.Module = online.averages[self.student]
            self.classifier: AnyDiscriminator = online.networks[self.adversary]  # type: ignore[assignment]
            self.networks |= {f"teacher_{name}": network for name, network in online.networks.items()}
            self.averages |= {f"teacher_{name}": network for name, network in online.averages.items()}
            self.decays |= {f"teacher_{name}": (decay, state["step"]) for name, (decay, _) in online.decays.items()}
            self.optimizers |= {f"teacher_{name}": optimizer for name, optimizer in online.optimizers.items()}
            self.rates |= {f"teacher_{name}": rate for name, rate in online.rates.items()}
            self.pools |= {f"teacher_{name}": pool for name, pool in online.pools.items()}
        else:
            self.teacher = checkpoint.generator_from_checkpoint(state, config.direction)[1]
            self.classifier = _discriminator(state, self.adversary)
            self.networks |= {"teacher": self.teacher, "teacher_discriminator": self.classifier}
        self.connectors = self._build_connectors()
        self.networks["connectors"] = self.connectors
        self.optimizers["generators"].add_param_group({"params": list(self.connectors.parameters())})

    @classmethod
    def from_checkpoint(cls, config: DistillConfig, state: Mapping[str, Any]) -> Distill:
        """Builds the recipe of a resumed run from the run's own copy of the teacher, whose folder may be gone.

        Raises ConfigError if the settings name another teacher than the run's, and ModelError if a run of an older version,
        which kept no copy, cannot find its teacher.
        """
        own = state.get("extra", {}).get("teacher")
        if not isinstance(own, dict | None):
            raise ModelError(f"the checkpoint's facts of its teacher must be of type dict, got {type(own).__name__}")
        is_named = str(config.teacher.resolve()) != state["config"].get("teacher")
        if own is not None and not is_named:
            return cls(config, own)
        try:
            named = checkpoint.load(config.teacher)
        except ModelError as error:
            hint = "leave the setting out" if own is not None else "name its folder by --set teacher=PATH"
            raise ModelError(f"{error}; this run needs its teacher: {hint}") from error
        recipe = cls(config, named)
        is_other = (own is not None and recipe.teacher_facts != own) or not _has_weights_of(recipe, state)
        if is_named and is_other:
            raise ConfigError(f"{config.teacher}: not the teacher of this run, which a resumed run keeps; leave the setting out")
        return recipe

    def extra_state(self) -> dict[str, Any]:
        """Returns the teacher's facts; its weights are among the run's own networks."""
        return {"teacher": self.teacher_facts}

    def _check_sides(self, settings: Mapping[str, Any]) -> None:
        """Raises ConfigError if the teacher's discriminator cannot classify the student's images, at full or teacher's scale."""
        sides = {"crop_size": self.config.data.crop_size}
        if self.config.adversarial_weight:
            sides["crop_size x teacher_scale"] = self._teacher_side()
        for name, side in sides.items():
            if expected := side_requirement(settings["discriminator"], settings["discriminator_layers"], side):
                raise ConfigError(f"{name} must be {expected} for the teacher's discriminator, got {side}")

    def _build_connectors(self) -> nn.ModuleList:
        """Builds linear maps from the student's channels to the teacher's, which are applied to means over the image."""
        channels: list[list[int]] = []
        for network in (self.networks[self.student], self.teacher):
            side, was_training = 2 * int(network.stride), network.training  # type: ignore[arg-type]
            network.eval()  # this call must not reach the statistics of batch norms
            with torch.no_grad(), record_outputs(network.depths()) as maps:  # type: ignore[operator]
                network(torch.zeros(1, 3, side, side))
            network.train(was_training)
            channels.append([each.shape[1] for each in maps])
        return nn.ModuleList(nn.Linear(own, teachers) for own, teachers in zip(*channels, strict=True))

    def step(self, batch: tuple[Tensor, ...], learn: Learner, step: int) -> dict[str, Tensor]:
        """Runs one step of the teacher, if it trains online; one of the student; one of the student's discriminator."""
        terms: dict[str, Tensor] = {}
        if self.online_teacher is not None:

            def learn_teacher(name: str, *rest: Any) -> Any:
                return learn(f"teacher_{name}", *rest)

            teacher_terms = self.online_teacher.step(batch, learn_teacher, step)  # type: ignore[arg-type]
            terms |= {f"teacher_{name}": value for name, value in teacher_terms.items()}
        real_a, real_b = batch
        source, target = (real_a, real_b) if self.source == "a" else (real_b, real_a)
        student_terms, (fake,) = learn("generators", self._student_loss, source)
        terms |= student_terms
        if self.config.adversarial_weight:
            past = self.pools["fake"].exchange(fake)
            discriminator_terms, _ = learn("discriminators", self._discriminator_loss, target, past)
            terms |= discriminator_terms
        return terms

    def _student_loss(self, source: Tensor) -> LossTerms:
        config, teacher = self.config, self.teacher
        student: Any = self.networks[self.student]
        with torch.no_grad(), record_outputs(teacher.depths()) as teacher_maps:  # type: ignore[operator]
            expected = shift_averaged(teacher, source, config.teacher_scale, config.teacher_shifts)
            expected_features = self.classifier.hidden(expected)
        with record_outputs(student.depths()) as student_maps:
            fake = student(source).float()
        features = self.classifier.hidden(fake)
        means = [connect(each.mean((2, 3))) for connect, each in zip(self.connectors, student_maps, strict=True)]
        # The teacher's maps are of all shifts of the batch: their mean over the shifts.
        teacher_means = [each.float().mean((2, 3)).unflatten(0, (-1, len(source))).mean(0) for each in teacher_maps]
        squares = [(own.float() - teachers).square().mean() for own, teachers in zip(means, teacher_means, strict=True)]
        parts = {
            "ssim": losses.ssim_loss(fake, expected),
            "pixel": losses.l1_loss(fake, expected),
            "feature": losses.feature_loss(features, expected_features),
            "style": losses.style_loss(features, expected_features),
            "smoothness": losses.total_variation(fake),
            "channel": torch.stack(squares).mean(),
        }
        if config.steadiness_weight:
            parts["steadiness"] = steadiness_loss(student, source, fake)
        if config.adversarial_weight:
            scores = self.discriminate(self.adversary, self._at_teacher_scale(fake))
            parts["adversarial"] = losses.generator_loss(scores, config.adversary.adversarial)
        total = sum((getattr(config, f"{name}_weight") * value for name, value in parts.items()), fake.new_zeros(()))
        return LossTerms(total, parts, (fake,))

    def _at_teacher_scale(self, fake: Tensor) -> Tensor:
        """Resizes the student's images to the teacher's scale, where its strokes are as large as those of real images."""
        side = self._teacher_side()
        return fake if side == self.config.data.crop_size else resize(fake, [side, side])

    def _teacher_side(self) -> int:
        return round(self.config.data.crop_size * self.config.teacher_scale)

    def _discriminator_loss(self, real: Tensor, fake: Tensor) -> LossTerms:
        fake = self._at_teacher_scale(fake)
        total, loss = self.discriminator_loss(self.adversary, real[:, :, : fake.shape[2], : fake.shape[3]], fake)
        return LossTerms(total, {self.adversary: loss})


@contextmanager
def record_outputs(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collects the outputs of `modules` while they run, in order."""
    outputs: list[Tensor] = []
    hooks = [module.register_forward_hook(lambda _module, _inputs, out: outputs.append(out)) for module in modules]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _discriminator(state: Mapping[str, Any], name: str) -> AnyDiscriminator:
    """Builds the discriminator of a checkpoint; with fresh weights if `state` holds none."""
    settings = state["config"]
    try:
        network = build_discriminator(settings["discriminator"], settings["ndf"], settings["discriminator_layers"])
        if "networks" in state:
            network.load_state_dict(state["networks"][name])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelError(f"the teacher's {name} is not one that this version knows ({error})") from error
    return network


def _online_teacher(state: Mapping[str, Any], config: DistillConfig) -> CycleGan:
    """Restores the teacher's run, to train it further on the student's data."""
    if state["recipe"] != "cyclegan":
        raise ConfigError(f"online must be false for a teacher of {state['recipe']!r}: only cyclegan can train online")
    data = ("domain_a", "domain_b", "layout", "load_size", "load_size_max", "crop_size", "flip", "tight")
    own = config.to_dict()
    shared = {name: own[name] for name in (*data, "batch_size", "accumulate", "out")}
    online = CycleGan(load_config(CycleGanConfig, base={**state["config"], **shared}))
    if "networks" in state:
        checkpoint.restore_weights(state, online)
    return online


def _has_weights_of(recipe: Distill, state: Mapping[str, Any]) -> bool:
    """Returns whether the teacher has the weights of the run's checkpoint. True for one that trains online: it has moved on."""
    saved = state["networks"].get("teacher")
    if recipe.config.online or saved is None:
        return True
    own = recipe.teacher.state_dict()
    return own.keys() == saved.keys() and all(torch.equal(own[key], saved[key]) for key in own)
