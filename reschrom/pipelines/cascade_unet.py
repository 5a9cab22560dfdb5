"""A cascade of trained networks in the place of one: Eqs. (22) and (24) as a model of diffusers."""

import json
from typing import Any

import torch
from diffusers import DDPMPipeline, ModelMixin, UNet2DModel
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.unets.unet_2d import UNet2DOutput

from reschrom._arrays import Number
from reschrom.pipelines.cascade import cascaded_noise
from reschrom.pipelines.scheduler import prediction_of
from reschrom.theory.schedules import Schedule

# What pipelines and measurements ask of the network that they are given.
_SHAPE = ("sample_size", "in_channels", "out_channels", "class_embed_type", "num_class_embeds")


# A UNet2DModel because pipelines ask for one. Diffusers loads what it finds to be a ModelMixin by that name, here.
class CascadedUNet(UNet2DModel, ModelMixin, ConfigMixin):
    """A low-resolution model and residual models as one noise predictor of full resolution: Eqs. (22) and (24).

    It stands as `unet` in DDPMPipeline, DDIMPipeline or any loop that gives it noised images of Eq. (1) and timesteps
    of the schedule that its models were trained on. It is saved and loaded as any model of diffusers, also within the
    folder of a pipeline: with `load_pipeline`, or by diffusers itself once `reschrom.CascadedUNet` has been imported.
    The networks are shared with the pipelines, not copied.

    Parameters
    ----------
    low : diffusers pipeline
        Its `unet`, an unconditional UNet2DModel, predicts the noise of small images. It is used as it is.
    residuals : diffusers pipelines
        Each `unet` predicts a `residual_target`, of twice the size of the one before.
    time_adjustment : bool
        Whether a model is given its own time tau_m, in general between two timesteps; else the time t.
    intensity_rescaling : bool
        Whether a model is given images of unit intensity, `lambda_m D^m[x_t]`; else `D^m[x_t]`.

    Raises
    ------
    TypeError
        For other pipelines.
    ValueError
        Where sizes do not double, channels or schedules differ, or another prediction than epsilon is made.

    Examples
    --------
    >>> from diffusers import DDIMPipeline
    >>> from reschrom import CascadedUNet, load_pipeline
    >>> low, residual = (load_pipeline(f"data/models/pocket-{name}") for name in ("lowres-16", "residual-32"))
    >>> cascade = DDIMPipeline(CascadedUNet(low, residual), low.scheduler)
    >>> cascade(num_inference_steps=2).images[0].size
    (32, 32)
    """

    def __init__(
        self, low: Any, *residuals: Any, time_adjustment: bool = True, intensity_rescaling: bool = True
    ) -> None:
        super(UNet2DModel, self).__init__()  # it has the layers of its models alone
        levels = [*residuals[::-1], low]
        _check(levels)
        self.models = torch.nn.ModuleList([level.unet for level in levels])
        self._schedule = Schedule.from_diffusers(low.scheduler)
        self.register_to_config(
            **{name: levels[0].unet.config[name] for name in _SHAPE},
            levels=[_described(model) for model in self.models],
            scheduler=_described(low.scheduler),
            time_adjustment=time_adjustment,
            intensity_rescaling=intensity_rescaling,
        )

    @classmethod
    def from_config(  # type: ignore[override]
        cls, config: dict[str, Any], **changes: Any
    ) -> "CascadedUNet":
        """Build the cascade that a configuration describes, its weights random; `changes` are of its two flags."""
        import diffusers

        scheduler = getattr(diffusers, config["scheduler"]["_class_name"]).from_config(config["scheduler"])
        levels = [DDPMPipeline(UNet2DModel.from_config(level), scheduler) for level in config["levels"]]
        flags = {name: config[name] for name in ("time_adjustment", "intensity_rescaling")}
        return cls(*levels[::-1], **{**flags, **changes})

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | Number, return_dict: bool = True
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Predict the noise of images, shape (N, C, S, S), noised by Eq. (1): Eq. (24).

        There is one timestep for all, or one for each, shape (N,); it need not be whole.
        """
        t = torch.as_tensor(timestep, dtype=torch.float64, device="cpu").expand(len(sample))
        noise = cascaded_noise(
            [self._at_alpha(model) for model in self.models],
            sample,
            self._schedule.alpha(t),
            self.config["time_adjustment"],
            self.config["intensity_rescaling"],
        )
        return UNet2DOutput(sample=noise) if return_dict else (noise,)

    def _at_alpha(self, model: Any) -> Any:
        def predict(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
            tau = self._schedule.network_time(self._schedule.time(alpha))
            return model(x, tau.to(x.device, torch.float32)).sample

        return predict


def _described(part: Any) -> dict[str, Any]:
    """Return the configuration of a model or a scheduler, without where it was loaded from."""
    config = json.loads(part.to_json_string())
    return {name: value for name, value in config.items() if name == "_class_name" or not name.startswith("_")}


def _check(levels: list[Any]) -> None:
    for level in levels:
        unet = getattr(level, "unet", None)
        config: Any = getattr(unet, "config", None)
        if (
            not isinstance(unet, UNet2DModel)
            or config.class_embed_type is not None
            or config.num_class_embeds is not None
        ):
            raise TypeError(
                "a cascade is made of pipelines whose `unet` is an unconditional UNet2DModel; "
                f"got {type(level).__name__}"
            )
    if len(levels) < 2:
        raise ValueError("a cascade is a low-resolution model and one or more residual models; got no residual model")
    sizes = [level.unet.config.sample_size for level in reversed(levels)]
    if not all(isinstance(size, int) for size in sizes) or sizes != [sizes[0] << m for m in range(len(sizes))]:
        raise ValueError(f"from the low-resolution model up every size is twice the one before; got {sizes}")
    configs = [level.unet.config for level in levels]
    channels = sorted({count for config in configs for count in (config.in_channels, config.out_channels)})
    if len(channels) != 1:
        raise ValueError(f"all models of a cascade have the same channels, going in and out; got {channels}")
    for level in levels:
        Schedule.from_diffusers(level.scheduler)  # refuses timesteps that do not count the table
        if not hasattr(level.scheduler, "alphas_cumprod"):
            raise TypeError(f"a scheduler is needed that has alphas_cumprod; got {type(level.scheduler).__name__}")
    predictions = sorted({prediction_of(level.scheduler) for level in levels})
    if predictions != ["epsilon"]:
        raise ValueError(f"all models of a cascade predict epsilon; got {predictions}")
    tables = [level.scheduler.alphas_cumprod for level in levels]
    if not all(table.shape == tables[0].shape and torch.allclose(table, tables[0], rtol=1e-5) for table in tables):
        raise ValueError("all models of a cascade are trained on one noise schedule; their alphas_cumprod differ")
