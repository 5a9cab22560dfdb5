"""Sampling from a Dimensionality-Varying Diffusion Process as a pipeline of diffusers."""

# What classes of diffusers inherit is hidden from mypy.
# mypy: disable-error-code="attr-defined"

from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor

from reschrom._arrays import Number
from reschrom.dvdp.scheduler import DVDPScheduler, Generators


class DVDPPipeline(DiffusionPipeline):
    """Draw images that start as small noise and double at every turning point.

    It is used as DDPMPipeline is, and saved and loaded as any pipeline: with `load_pipeline`, or by diffusers itself
    once `reschrom.DVDPPipeline` has been imported.

    unet: predicts noise at every resolution. `sample_size` is that of the images.
    scheduler: has the turning points. Raises ValueError where the size is no multiple of 2 to their number.
    """

    model_cpu_offload_seq = "unet"

    def __init__(self, unet: UNet2DModel, scheduler: DVDPScheduler) -> None:
        super().__init__()
        side, count = unet.config.sample_size, len(scheduler.process.turning_points)
        if not isinstance(side, int) or side % 2**count:
            raise ValueError(
                f"{count} turning points need square images whose size is a multiple of 2^{count}; got {side}"
            )
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: Generators = None,
        num_inference_steps: int = 50,
        eta: Number = 1.0,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw images.

        generator: one for all images, or a list of one for each.
        num_inference_steps: evaluations of the network, each at the resolution of its timestep.
        eta: 1 is ancestral sampling as of DDPMPipeline, 0 is DDIM between turning points.
        output_type: "pil", "np" for an array (N, S, S, C) or "pt" for a tensor (N, C, S, S), both in [0, 1].
        """
        side = self.unet.config.sample_size >> len(self.scheduler.process.turning_points)
        shape = (batch_size, self.unet.config.in_channels, side, side)
        image = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)
        image = image * self.scheduler.init_noise_sigma
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.progress_bar(self.scheduler.timesteps):
            scaled = self.scheduler.scale_model_input(image, t)
            noise = self.unet(scaled, self.scheduler.network_time(t)).sample
            image = self.scheduler.step(noise, t, image, eta=eta, generator=generator).prev_sample
        image = (image / 2 + 0.5).clamp(0, 1)
        if output_type != "pt":
            image = image.cpu().permute(0, 2, 3, 1).numpy()
            if output_type == "pil":
                image = self.numpy_to_pil(image)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=image) if return_dict else (image,)


# Where diffusers looks for the class that a folder names.
diffusers.DVDPPipeline = DVDPPipeline
