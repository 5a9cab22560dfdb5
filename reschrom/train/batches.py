"""What one training step sees and shall predict: noised pictures, their times and their target, by seed and step."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reschrom.pipelines.cascade import residual_target
from reschrom.theory.bands import downsample
from reschrom.theory.matching import matched_alpha, matched_time
from reschrom.theory.schedules import Schedule
from reschrom.train import dvdp
from reschrom.train.latents import encode, latent_shape
from reschrom.train.models import PROMPT_LENGTH
from reschrom.train.pictures import batch
from reschrom.train.recipe import Recipe

if TYPE_CHECKING:
    import torch


def loss_weight(recipe: Recipe, alpha: np.ndarray) -> np.ndarray:
    """Return the weight of the noise prediction's squared error, for every alpha: the velocity's, with Min-SNR's limit.

    `1 / alpha` turns the error of the noise into that of the velocity. Without it nothing teaches the network what the
    picture is at high noise, where its estimate is the error divided by alpha: colours and places come out wrong.
    `min(SNR, snr_limit) / SNR` keeps nearly clean pictures from filling the loss. Below `alpha_floor` the weight stays.
    """
    limit = np.minimum(1, recipe.snr_limit * (1 - alpha) / np.maximum(alpha, 1e-12))
    return limit / np.maximum(alpha, recipe.alpha_floor)


def caption_tokens(pipeline: Any, recipe: Recipe) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return the tokens of every caption and, last, of the empty one, padded as IFPipeline does, and their mask."""
    length = min(PROMPT_LENGTH, pipeline.tokenizer.model_max_length)
    encoded = pipeline.tokenizer(
        [*recipe.captions, ""], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return encoded.input_ids, encoded.attention_mask


class Batch(NamedTuple):
    """What one step sees and shall predict; `text` is tokens and their mask, `weight` that of `loss_weight`.

    `uncaptioned` are the places of the pictures whose caption is left out, and `captions` is the text that they have.
    """

    x_t: "torch.Tensor"
    timesteps: "torch.Tensor"
    text: tuple["torch.Tensor", ...]
    target: "torch.Tensor"
    weight: "torch.Tensor"
    uncaptioned: "torch.Tensor"
    captions: tuple["torch.Tensor", ...]


class Batches:
    """The batch of every step. All chance comes from the seed and the step, so a stopped run goes on unchanged."""

    def __init__(self, pipeline: Any, pictures: np.ndarray, recipe: Recipe, processes: int) -> None:
        self.pictures, self.recipe = pictures, recipe
        self.processes = processes
        self.pipeline = pipeline
        if recipe.kind == "autoencoder":
            return
        self.scheduler = pipeline.scheduler
        self.schedule = Schedule.from_diffusers(pipeline.scheduler)
        self.alphas = pipeline.scheduler.alphas_cumprod.numpy()
        self.text = caption_tokens(pipeline, recipe) if recipe.kind == "t2i" else ()

    def draw(self, step: int, process: int, device: "torch.device") -> Batch:
        if self.recipe.kind == "autoencoder":
            return self._pictures(step, process, device)
        if self.recipe.kind == "dvdp":
            staged = dvdp.draw(self.scheduler.process, self.pictures, self.recipe, step, process, self.processes)
            return self._batch(*staged, device)
        # Alike in all training processes, none of which has this number.
        together = np.random.default_rng([self.recipe.seed, step, self.processes])
        halved = int(together.integers(self.recipe.halvings + 1))
        # Smaller pictures in larger batches, because no batch may be too small to be computed efficiently.
        count = (self.recipe.batch << halved) // self.processes
        generator = np.random.default_rng([self.recipe.seed, step, process])
        x_0, captions = batch(self.pictures, count, generator)
        x_0 = downsample(x_0, self.recipe.level + halved)
        if self.recipe.autoencoder:
            x_0 = self._latents(x_0, generator, device)
        uncaptioned = generator.random(count) < self.recipe.unconditional
        noise = generator.standard_normal(x_0.shape, np.float32)
        # One timestep from each of `count` equal parts of the schedule, so that no batch misses a part of it.
        timesteps = ((np.arange(count) + generator.random(count)) / count * len(self.alphas)).astype(int)
        alpha = self.alphas[timesteps]
        if halved:
            timesteps = matched_time(self.schedule, timesteps, halved).astype(np.float32)
            alpha = matched_alpha(alpha, halved)
        signal, spread = (np.sqrt(power)[:, None, None, None] for power in (alpha, 1 - alpha))
        x_t = signal * x_0 + spread * noise
        target = residual_target(noise) if self.recipe.kind == "residual" else noise
        return self._batch(x_t, timesteps, target, alpha, device, captions, uncaptioned)

    def _pictures(self, step: int, process: int, device: "torch.device") -> Batch:
        """Return pictures, and as the target the noise that is added to their latents."""
        import torch

        generator = np.random.default_rng([self.recipe.seed, step, process])
        count = self.recipe.batch // self.processes
        pictures, _ = batch(self.pictures, count, generator)
        pictures = downsample(pictures, self.recipe.level)
        noise = generator.standard_normal((count, *latent_shape(self.pipeline)), np.float32)
        nothing = torch.empty(0)
        return Batch(
            torch.from_numpy(pictures).to(device, memory_format=torch.channels_last),
            nothing,
            (),
            torch.from_numpy(noise).to(device),
            nothing,
            nothing,
            (),
        )

    def _latents(self, pictures: np.ndarray, generator: np.random.Generator, device: "torch.device") -> np.ndarray:
        import torch

        vae = self.pipeline.vae.to(device)
        noise = generator.standard_normal((len(pictures), *latent_shape(vae)), np.float32)
        inputs = torch.from_numpy(pictures).to(device, memory_format=torch.channels_last)
        return encode(vae, inputs, torch.from_numpy(noise).to(device)).cpu().numpy()

    def _batch(
        self,
        x_t: np.ndarray,
        timesteps: np.ndarray,
        target: np.ndarray,
        alpha: np.ndarray,
        device: "torch.device",
        captions: np.ndarray | None = None,
        uncaptioned: np.ndarray | None = None,
    ) -> Batch:
        import torch

        places = np.flatnonzero(uncaptioned) if self.text and uncaptioned is not None else np.empty(0, int)
        text = tuple(each[captions].to(device) for each in self.text)
        own = tuple(each[places] for each in text)
        for each, tokens in zip(text, self.text, strict=True):
            each[places] = tokens[-1].to(device)  # the empty caption
        return Batch(
            torch.from_numpy(x_t).to(device, memory_format=torch.channels_last),
            torch.from_numpy(timesteps).to(device),
            text,
            torch.from_numpy(target).to(device),
            torch.from_numpy(loss_weight(self.recipe, alpha)).to(device),
            torch.from_numpy(places).to(device),
            own,
        )
