"""A diffusion whose images become smaller as they become noise: Dimensionality-Varying Diffusion (Zhang et al., 2023).

Between two turning points only the finest band that is left, the detail that 2x2 averages hide, is attenuated beyond
the noise schedule. At a turning point hardly anything of it is left, and the image is replaced by its 2x2 averages.
All stages together are one Markov chain. The equations are derived in this book from a summary of the method; no
constant here is the authors'.

Images at every resolution are in pixels: averages keep the range of the image and halve the noise.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from reschrom._arrays import (
    Array,
    Number,
    image_sides,
    numpy_array,
    one_number,
    per_image,
    real_number,
    told,
    whole_number,
)
from reschrom.theory.bands import downsample, upsample
from reschrom.theory.matching import intensity_scale, matched_alpha, matched_time
from reschrom.theory.schedules import Schedule

TREATMENTS = {
    "continue": "the noise stays as it is, so that the signal-to-noise ratio of a pixel is 4 times as high",
    "preserve": "noise is added, so that the signal-to-noise ratio of a pixel stays as it was",
}
# Gives white noise of a shape.
Draw = Callable[[tuple[int, ...]], Array]


class Gains(NamedTuple):
    """A factor for the 2x2 averages of an image and one for the detail that they hide, numbers or one per image."""

    averages: Any
    detail: Any

    def times(self, x: Num[Array, "*batch channels height width"]) -> Float[Array, "*batch channels height width"]:
        """Scale the two parts of images: `averages * UD[x] + detail * (x - UD[x])`."""
        averages, detail = np.asarray(self.averages), np.asarray(self.detail)
        if np.array_equal(averages, detail):
            return per_image(averages, x) * x
        coarse = upsample(downsample(x))
        return per_image(averages, x) * coarse + per_image(detail, x) * (x - coarse)


class Kernel(NamedTuple):
    """A Gaussian step: its mean is `state` times x plus `image` times the attenuated image, its noise `deviation`."""

    state: Gains
    image: Gains
    deviation: Gains

    def apply(self, x: Array, image: Array | None, draw: Draw) -> Array:
        """Draw from the step. `image` may be None where its gains are zero."""
        x_next = self.state.times(x)
        if image is not None:
            x_next = x_next + self.image.times(image)
        if np.any(self.deviation):
            x_next = x_next + self.deviation.times(draw(tuple(x.shape)))
        return x_next


@dataclass(frozen=True)
class AttenuatedProcess:
    """A diffusion process in stages, each of half the side of the one before.

    In stage k, at time t, `x_t = sqrt(alpha_t) (UD[y] + g_t (y - UD[y])) + s_t noise` with y = D^k x_0, where g_t falls
    from 1 to `attenuation` by a constant factor per unit of time. In the last stage g_t = 1. With no turning point it
    is the process of Eq. (1).

    schedule: alpha_t.
    turning_points: the times at which the side is halved, increasing, within the schedule. At such a time itself the
        image is already the smaller one, unless a method is given the stage before.
    attenuation: of the detail at the end of its stage, in (0, 1]; 1 attenuates nothing.
    treatment: of the noise at a turning point, one of `TREATMENTS`. The standard deviation s_t of a pixel's noise in
        stage k is `2^-k sqrt(1 - alpha_t)` for "continue" and `sqrt(1 - alpha_t)` for "preserve".

    Times are numbers, or where it says so one per image, all of one stage.
    """

    schedule: Schedule
    turning_points: tuple[Number, ...] = ()
    attenuation: Number = 0.1
    treatment: str = "continue"

    def __post_init__(self) -> None:
        points = tuple(one_number("a turning point", each) for each in self.turning_points)
        edges = [self.schedule.start, *points, self.schedule.end]
        if not all(before < after for before, after in itertools.pairwise(edges)):
            raise ValueError(
                f"turning points must increase between {edges[0]:g} and {edges[-1]:g}; got {self.turning_points}"
            )
        if not 0 < one_number("attenuation", self.attenuation) <= 1:
            raise ValueError(f"attenuation must lie in (0, 1]; got {self.attenuation}")
        known_treatment(self.treatment)

    def stage(self, t: Num[Array, "*batch"] | Number) -> int:
        """Return the stage of a time, or of several times of one stage: how often the side has been halved."""
        t = numpy_array(t)
        if not t.size or not np.all((self.schedule.start <= t) & (t <= self.schedule.end)):
            raise ValueError(self._stages(t))
        passed = np.searchsorted(np.asarray(self.turning_points, float), t, side="right")
        if passed.min() != passed.max():
            raise ValueError(f"times must be of one stage; got stages {passed.min()} to {passed.max()}")
        return int(passed.max())

    def alpha(self, t: Num[Array, "*batch"] | Number) -> Float[Array, "*batch"]:
        """Return the signal power alpha_t of Eq. (1)."""
        return np.asarray(self.schedule.alpha(t))

    def gains(self, t: Num[Array, "*batch"] | Number, stage: int | None = None) -> Gains:
        """Return what attenuation leaves of an image at time t, apart from sqrt(alpha_t): 1, and g_t for the detail."""
        stage = self._within(t, stage)
        if stage == len(self.turning_points):
            return Gains(1.0, 1.0)
        first, last = (self.schedule.start, *self.turning_points)[stage : stage + 2]
        return Gains(1.0, float(self.attenuation) ** ((np.asarray(t, float) - first) / (last - first)))

    def deviation(self, t: Num[Array, "*batch"] | Number, stage: int | None = None) -> Float[Array, "*batch"]:
        """Return the standard deviation s_t of the noise of a pixel at time t."""
        stage = self._within(t, stage)
        return self._per_pixel(stage) * np.sqrt(np.asarray(self.schedule.noise(t)))

    def image(
        self,
        x_0: Num[Array, "*batch channels height width"],
        t: Num[Array, "*batch"] | Number,
        stage: int | None = None,
    ) -> Float[Array, "*batch channels low lower"]:
        """Return the attenuated image `UD[y] + g_t (y - UD[y])` at the resolution of time t, with y = D^k x_0.

        x_0: images of full resolution. The result lies within their range.
        """
        stage = self._within(t, stage)
        image_sides(x_0, stage + (stage < len(self.turning_points)))
        return self.gains(t, stage).times(downsample(x_0, stage))

    def noised(
        self,
        x_0: Num[Array, "*batch channels height width"],
        noise: Num[Array, "*batch channels low lower"],
        t: Num[Array, "*batch"] | Number,
        stage: int | None = None,
    ) -> Float[Array, "*batch channels low lower"]:
        """Return noised images of time t: a sample of q(x_t | x_0).

        x_0: images of full resolution.
        noise: white, of the resolution of time t. It is what a network learns to predict, with `mean((e - noise)^2)`.
        """
        image = self.image(x_0, t, stage)
        return per_image(np.sqrt(self.alpha(t)), image) * image + per_image(self.deviation(t, stage), image) * noise

    def estimate(
        self,
        x_t: Num[Array, "*batch channels height width"],
        noise: Num[Array, "*batch channels height width"],
        t: Num[Array, "*batch"] | Number,
        stage: int | None = None,
    ) -> Float[Array, "*batch channels height width"]:
        """Return the attenuated image of which x_t is made, given its noise."""
        return (x_t - per_image(self.deviation(t, stage), x_t) * noise) / per_image(np.sqrt(self.alpha(t)), x_t)

    def transition(self, s: Number, t: Number, stage: int | None = None) -> Kernel:
        """Return q(x_t | x_s) for two times s <= t of one stage."""
        stage = self._within(t, stage)
        _check_order(s, t)
        decay = self._decay(s, t, stage)
        fresh = [self.deviation(t, stage) ** 2 - (each * self.deviation(s, stage)) ** 2 for each in decay]
        return Kernel(decay, Gains(0.0, 0.0), Gains(*np.sqrt(np.maximum(fresh, 0))))

    def posterior(self, s: Number, t: Number, stage: int | None = None, eta: Number = 1.0) -> Kernel:
        """Return q(x_s | x_t, x_0) for two times s <= t of one stage, given the attenuated image of time t.

        eta: share of the fresh noise. 1 is the posterior of the Markov chain, 0 the deterministic DDIM, between them
            are the kernels of Song et al. (2021), all with the same distribution of x_s given x_0.
        """
        stage, eta = self._within(t, stage), real_number("eta", eta, 0, 1)
        _check_order(s, t)
        before, now = self.deviation(s, stage), self.deviation(t, stage)
        if not now > 0:
            raise ValueError(f"a posterior needs noise at the later of its times; got t = {t}, the image itself")
        signal_before, signal_now = np.sqrt(self.alpha(s)), np.sqrt(self.alpha(t))

        def component(fresh: Number, regained: Number) -> tuple[Number, Number, Number]:
            """Return what one part of the signal keeps of x_t, takes of the image, and the deviation of its noise."""
            added = eta * fresh * before / now
            kept = np.sqrt(np.maximum(before**2 - added**2, 0)) / now
            return kept, signal_before * regained - kept * signal_now, added

        components = map(component, self.transition(s, t, stage).deviation, self._regained(s, t, stage))
        return Kernel(*(Gains(*both) for both in zip(*components, strict=True)))

    def halve(self, x: Array, stage: int, draw: Draw) -> Array:
        """Go forward through the turning point at which `stage` begins: 2x2 averages, and for "preserve" fresh noise.

        x: noised images of that time in the stage before.
        """
        point, low = self._point(stage), downsample(x)
        if self.treatment == "continue":
            return low
        scale = math.sqrt(0.75) * float(self.deviation(point, stage))
        return low + scale * draw(tuple(low.shape))

    def double(self, x: Array, image: Array, stage: int, draw: Draw, eta: Number = 1.0) -> tuple[Array, Array]:
        """Go back through the turning point at which `stage` begins.

        x: noised images of that time in `stage`; image: the attenuated image of which they are made, or its estimate.
        Returns both in the stage before. Its detail is noise alone there, which is exact as attenuation goes to 0.
        For "preserve" the noise that `halve` added is taken away first: a step of `posterior` with its `eta`.
        """
        eta, point = real_number("eta", eta, 0, 1), self._point(stage)
        scale = float(self.deviation(point, stage - 1))
        if self.treatment == "preserve":
            added = eta * scale * math.sqrt(3 / 16)
            kept = math.sqrt(scale**2 / 4 - added**2) / scale
            shown = (1 - kept) * math.sqrt(float(self.alpha(point)))
            x = kept * x + shown * image + (added * draw(tuple(x.shape)) if added else 0)
        x, image = upsample(x), upsample(image)
        return x + Gains(0.0, scale).times(draw(tuple(x.shape))), image

    def forward(self, x: Array, s: Number, t: Number, draw: Draw) -> Array:
        """Go from time s to a later time t, through all turning points between them: a sample of q(x_t | x_s).

        draw: gives white noise of a shape.
        """
        _check_order(s, t)
        for stage in range(self.stage(s), self.stage(t)):
            point = self.turning_points[stage]
            x = self.halve(self.transition(s, point, stage).apply(x, None, draw), stage + 1, draw)
            s = point
        return self.transition(s, t).apply(x, None, draw)

    def reverse(self, x: Array, image: Array, t: Number, s: Number, draw: Draw, eta: Number = 1.0) -> Array:
        """Go from time t back to an earlier time s, through all turning points between them.

        x: noised images of time t.
        image: the attenuated image of which they are made, or its estimate; detail that it does not have is zero.
        draw: gives white noise of a shape. It is needed at turning points with any `eta`.
        eta: as in `posterior`.
        """
        _check_order(s, t)
        for stage in range(self.stage(t), self.stage(s), -1):
            point = self.turning_points[stage - 1]
            x = self.posterior(point, t, stage, eta).apply(x, image, draw)
            x, image = self.double(x, self._regained(point, t, stage).times(image), stage, draw, eta)
            t = point
        return self.posterior(s, t, self.stage(s), eta).apply(x, image, draw)

    def network_alpha(self, t: Num[Array, "*batch"] | Number) -> Float[Array, "*batch"]:
        """Return the signal power of the network's input: that of a pixel at time t, Eq. (16) for "continue"."""
        alpha = self.alpha(t)
        return alpha if self.treatment == "preserve" else matched_alpha(alpha, self.stage(t))

    def network_time(self, t: Num[Array, "*batch"] | Number) -> Float[Array, "*batch"]:
        """Return the time that the network is given: t, or for "continue" the matched time tau of Eq. (16)."""
        stage = self.stage(t)
        if self.treatment == "preserve" or stage == 0:
            return np.asarray(t, float)
        return self.schedule.network_time(matched_time(self.schedule, np.asarray(t, float), stage))

    def input_scale(self, t: Num[Array, "*batch"] | Number) -> Float[Array, "*batch"]:
        """Return the factor that brings x_t to unit intensity, Eq. (1): 1, or for "continue" lambda of Eq. (16)."""
        alpha = self.alpha(t)
        return np.ones_like(alpha) if self.treatment == "preserve" else intensity_scale(alpha, self.stage(t))

    @property
    def initial_deviation(self) -> float:
        """Return the standard deviation of a pixel of pure noise, from which sampling starts in the last stage."""
        return self._per_pixel(len(self.turning_points))

    def _per_pixel(self, stage: int) -> float:
        return 0.5**stage if self.treatment == "continue" else 1.0

    def _point(self, stage: int) -> Number:
        """Return the turning point at which a stage begins, after checking that there is one."""
        if isinstance(stage, bool) or stage not in range(1, len(self.turning_points) + 1):
            raise ValueError(f"stages 1 to {len(self.turning_points)} begin at a turning point; got {stage}")
        return self.turning_points[stage - 1]

    def _within(self, t: Array, stage: int | None) -> int:
        """Return the stage of t, after checking that t lies in it; its last time is that of the next turning point."""
        if stage is None:
            return self.stage(t)
        stage, t, edges = whole_number("a stage", stage), numpy_array(t), self._edges
        if stage > len(self.turning_points) or not np.all((edges[stage] <= t) & (t <= edges[stage + 1])):
            raise ValueError(self._stages(t))
        return stage

    @property
    def _edges(self) -> tuple[Number, ...]:
        return (self.schedule.start, *self.turning_points, self.schedule.end)

    def _stages(self, t: Array) -> str:
        """Return what is said of times that are not of a stage."""
        return (
            f"stages 0 to {len(self.turning_points)} last from one of {self._edges} to the next; got {told(t.tolist())}"
        )

    def _regained(self, s: Number, t: Number, stage: int) -> Gains:
        """Return the gains that make the attenuated image of an earlier time s from that of time t."""
        return Gains(*(there / here for there, here in zip(self.gains(s, stage), self.gains(t, stage), strict=True)))

    def _decay(self, s: Number, t: Number, stage: int) -> Gains:
        """Return lambda: what is left at time t of the two parts of the signal of time s."""
        # In pure noise no signal is left to lose.
        ratio = np.sqrt(self.alpha(t) / self.alpha(s)) if np.all(self.alpha(s) > 0) else 1.0
        return Gains(*(ratio / regained for regained in self._regained(s, t, stage)))


def _check_order(s: Number, t: Number) -> None:
    """Refuse a step from one time to another that is earlier."""
    if not real_number("a time", s) <= real_number("a time", t):
        raise ValueError(f"a step leads from a time s to t, s <= t; got s = {s}, t = {t}")


def known_treatment(treatment: str) -> str:
    """Return `treatment` after checking that it is one of `TREATMENTS`."""
    if treatment not in TREATMENTS:
        raise ValueError(f"treatment must be one of {', '.join(TREATMENTS)}; got {treatment!r}")
    return treatment
