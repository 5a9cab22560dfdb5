"""The Dimensionality-Varying Diffusion Process as a scheduler of diffusers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, SchedulerMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor

from reschrom._arrays import Number, one_number, whole_number
from reschrom.dvdp.process import AttenuatedProcess
from reschrom.theory.schedules import Schedule

Generators = torch.Generator | list[torch.Generator] | None


# Diffusers loads what it finds to be a SchedulerMixin by that name, here.
class DVDPScheduler(SchedulerMixin, ConfigMixin):
    """A scheduler under which images become smaller as they become noise.

    `step` goes through all turning points that lie on its way, so that its result may be larger than what it was
    given. With no turning point it is DDIMScheduler, and with `eta=1` DDPMScheduler.

    num_train_timesteps, beta_start, beta_end, beta_schedule: as of DDPMScheduler.
    turning_points, attenuation, treatment: of `AttenuatedProcess`; turning points are timesteps.
    clip_sample: whether estimates of the image are kept within [-1, 1], as DDPMScheduler does. An attenuated image lies
        there, too.
    prediction_type: "epsilon", the noise, which is white and of unit variance at every resolution.
    """

    order = 1

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        turning_points: Sequence[Number] = (),
        attenuation: Number = 0.1,
        treatment: str = "continue",
        clip_sample: bool = True,
        prediction_type: str = "epsilon",
    ) -> None:
        if prediction_type != "epsilon":
            raise ValueError(f"DVDPScheduler needs a network that predicts epsilon; got {prediction_type!r}")
        full: Any = DDPMScheduler(num_train_timesteps, beta_start, beta_end, beta_schedule)
        self.alphas_cumprod = full.alphas_cumprod
        self.process = AttenuatedProcess(Schedule.from_diffusers(full), tuple(turning_points), attenuation, treatment)
        self.init_noise_sigma = self.process.initial_deviation
        self.num_inference_steps: int | None = None
        self.timesteps = full.timesteps

    def __len__(self) -> int:
        return int(self.config["num_train_timesteps"])

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Choose the timesteps of sampling, as DDIMScheduler does by default: 0 and multiples of one number.

        Raises ValueError where they are so few that none lies in the last stage, in which sampling starts.
        """
        if not 1 <= whole_number("num_inference_steps", num_inference_steps) <= len(self):
            raise ValueError(f"num_inference_steps must lie between 1 and {len(self)}; got {num_inference_steps}")
        timesteps = np.arange(num_inference_steps)[::-1] * (len(self) // num_inference_steps)
        points = self.process.turning_points
        if self.process.stage(float(timesteps[0])) < len(points):
            raise ValueError(
                f"num_inference_steps must be so many that they start after the last turning point {points[-1]}; "
                f"{num_inference_steps} start at {timesteps[0]}"
            )
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.from_numpy(timesteps).to(device)

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor | Number) -> torch.Tensor:
        """Bring noised images of one timestep to the intensity that the network is given."""
        return sample * float(self.process.input_scale(float(timestep)))

    def network_time(self, timestep: torch.Tensor | Number) -> torch.Tensor:
        """Return the time that the network is given at a timestep; it need not be whole."""
        # A tensor, because networks cut the fraction off a plain number.
        return torch.tensor(float(self.process.network_time(float(timestep))))

    def step(
        self,
        model_output: torch.Tensor,
        timestep: torch.Tensor | Number,
        sample: torch.Tensor,
        eta: Number = 0.0,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """Go back to the timestep before, through the turning points between them.

        model_output: the noise of `sample`, as the network predicts it.
        eta: 0 is DDIM, 1 is DDPM. At turning points there is fresh noise in any case.
        Returns the noised images, and the estimate of the attenuated image at the resolution of `sample`.
        """
        if self.num_inference_steps is None:
            raise ValueError("set_timesteps must be called before step")
        t = one_number("a timestep", timestep)
        if not float(t).is_integer():
            raise ValueError(f"a timestep is a whole number; got {t}")
        t = int(t)
        before = max(t - len(self) // self.num_inference_steps, self.process.schedule.start)

        def draw(shape: tuple[int, ...]) -> torch.Tensor:
            return randn_tensor(shape, generator=generator, device=sample.device, dtype=sample.dtype)

        estimate = self.process.estimate(sample, model_output, t)
        if self.config["clip_sample"]:
            estimate = estimate.clamp(-1, 1)
        previous = self.process.reverse(sample, estimate, t, before, draw, eta)
        return DDIMSchedulerOutput(previous, estimate) if return_dict else (previous, estimate)

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return noised images of timesteps that are all of one stage.

        original_samples: of full resolution, shape (N, C, S, S).
        noise: of the resolution of that stage.
        timesteps: one for each image, shape (N,).
        """
        return self.process.noised(original_samples, noise, timesteps.cpu().numpy())
