"""What one training step sees and shall predict: noised pictures, their times and their target, by seed and step."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reschrom.pipelines.cascade import residual_target
from reschrom.theory.bands import downsample
from reschrom.theory.matching import matched_alpha, matched_time
from reschrom.theory.schedules import Schedule
from reschrom.train import dvdp
from reschrom.train.latents import encoded
from reschrom.train.pictures import batch
from reschrom.train.recipe import Recipe
from reschrom.train.text import caption_tokens

if TYPE_CHECKING:
    import torch


# Log SNR at which a picture of 64x64 pixels still has something to tell: below, its mean colour is lost in the noise,
# and above, nearly all noise is smaller than a step of its colours.
_INFORMATIVE = (-9.0, 7.0)


def loss_weight(recipe: Recipe, alpha: np.ndarray) -> np.ndarray:
    """Return the weight of a prediction's squared error, for every alpha: the velocity's, with Min-SNR's limit.

    `1 / alpha` turns the error of a predicted noise into that of the velocity. Without it nothing teaches the network
    what the picture is at high noise, where its estimate is the error divided by alpha: colours and places come out
    wrong.
    `min(SNR, snr_limit) / SNR` keeps nearly clean pictures from filling the loss. Below `alpha_floor` the weight stays.
    """
    limit = np.minimum(1, recipe.snr_limit * (1 - alpha) / np.maximum(alpha, 1e-12))
    return limit if recipe.prediction == "velocity" else limit / np.maximum(alpha, recipe.alpha_floor)


class Batch(NamedTuple):
    """What one step of a denoiser sees and shall predict.

    `weights` are those of the squared error, a row for each resolution: first that of the pictures, then of halves.
    `nats` is the squared error of the noise where that of the prediction is 1, times how fast log SNR falls there, 1 in
    the mean over the schedule: so the mean over many batches is an integral over log SNR.
    `text` is tokens and their mask, those of the empty caption where a caption is left out. The places of these
    pictures are `uncaptioned`, and `left_out` is the text that was left out there. The pictures among them that tell it
    by themselves are `evident`.
    """

    x_t: "torch.Tensor"
    timesteps: "torch.Tensor"
    text: tuple["torch.Tensor", ...]
    target: "torch.Tensor"
    weights: "torch.Tensor"
    nats: "torch.Tensor"
    uncaptioned: "torch.Tensor"
    left_out: tuple["torch.Tensor", ...]
    evident: "torch.Tensor"


class Batches:
    """The batch of every step. All chance comes from the seed and the step, so a stopped run goes on unchanged."""

    def __init__(self, pipeline: Any, pictures: np.ndarray, recipe: Recipe, processes: int) -> None:
        self.pictures, self.recipe = pictures, recipe
        self.processes = processes
        self.pipeline = pipeline
        self.schedule = Schedule.from_diffusers(pipeline.scheduler)
        self.alphas = pipeline.scheduler.alphas_cumprod.numpy()
        known = np.clip(self.alphas.astype(np.float64), 1e-12, 1 - 1e-12)  # where log SNR is finite
        log_snr = np.log(known / (1 - known))
        falls = -np.gradient(log_snr)
        by_log_snr = np.where((log_snr > _INFORMATIVE[0]) & (log_snr < _INFORMATIVE[1]), falls, 0)
        # How often every timestep is drawn, 1 in the mean over the schedule.
        often = 1 + recipe.by_log_snr * (by_log_snr / by_log_snr.mean() - 1)
        drawn = np.append(0, np.cumsum(often))
        self.drawn = drawn / drawn[-1]
        self.falls = (falls / falls.mean() / often).astype(np.float32)
        self.hard = [recipe.captions.index(caption) for caption in recipe.hard]
        self.hard_pictures = pictures[self.hard]
        self.text = caption_tokens(pipeline, recipe) if recipe.kind == "t2i" else ()

    def draw(self, step: int, process: int, device: "torch.device") -> Batch:
        import torch

        if self.recipe.kind == "dvdp":
            stages = self.pipeline.scheduler.process
            noised: tuple[np.ndarray, ...] = dvdp.draw(
                stages, self.pictures, self.recipe, step, process, self.processes
            )
            captions = uncaptioned = np.empty(0, int)
            nats = np.ones_like(noised[-1])
        else:
            noised, captions, uncaptioned, nats = self._noised(step, process, device)
        x_t, times, target, alpha = noised
        velocity = self.recipe.prediction == "velocity"
        shown = captions.copy()
        shown[uncaptioned] = len(self.recipe.captions)  # the empty caption
        return Batch(
            torch.from_numpy(x_t).to(device, memory_format=torch.channels_last),
            torch.from_numpy(times).to(device),
            tuple(tokens[shown].to(device) for tokens in self.text),
            torch.from_numpy(target).to(device),
            torch.from_numpy(self._weights(alpha, x_t.shape[-1])).to(device),
            torch.from_numpy(nats * alpha if velocity else nats).to(device),
            torch.from_numpy(uncaptioned).to(device),
            tuple(tokens[captions[uncaptioned]].to(device) for tokens in self.text),
            torch.from_numpy(alpha[uncaptioned] > 1 / (1 + np.exp(-self.recipe.evident))).to(device),
        )

    def _weights(self, alpha: np.ndarray, size: int) -> np.ndarray:
        """Return the weights of the errors of every resolution, each at the alpha that it has there."""
        weights = [loss_weight(self.recipe, alpha)]
        if self.recipe.coarse:
            of_noise = replace(self.recipe, prediction="noise")
            scale = alpha if self.recipe.prediction == "velocity" else 1.0
            halved = [matched_alpha(alpha, level) for level in range(1, size.bit_length()) if size % 2**level == 0]
            weights += [self.recipe.coarse * scale * loss_weight(of_noise, each) for each in halved]
        return np.stack(weights).astype(alpha.dtype)

    def _noised(
        self, step: int, process: int, device: "torch.device"
    ) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray, np.ndarray]:
        """Return noised pictures as `dvdp.draw` does, the number of the caption of each, where it is left out, and how
        fast log SNR falls."""
        # Alike in all training processes, none of which has this number.
        together = np.random.default_rng([self.recipe.seed, step, self.processes])
        halved = int(together.integers(self.recipe.halvings + 1))
        # Smaller pictures in larger batches, because no batch may be too small to be computed efficiently.
        count = (self.recipe.batch << halved) // self.processes
        generator = np.random.default_rng([self.recipe.seed, step, process])
        x_0, captions = batch(self.pictures, count, generator)
        # Of all pictures, those that keep their caption and are of the hard ones. Without a caption all are as likely,
        # because the prediction without one is the mean over all captions.
        hard_share = self.recipe.hard_share * (1 - self.recipe.unconditional)
        hard = np.zeros(count, bool)
        if self.hard:
            hard = generator.random(count) < hard_share
            x_0[hard], which = batch(self.hard_pictures, int(hard.sum()), generator)
            captions[hard] = np.take(self.hard, which)
        if self.recipe.autoencoder:
            x_0 = encoded(self.pipeline.vae, x_0, generator, device)
        x_0 = downsample(x_0, self.recipe.level + halved)
        left_out = generator.random(count) < self.recipe.unconditional / (1 - hard_share)
        uncaptioned = np.flatnonzero(left_out & ~hard)
        noise = generator.standard_normal(x_0.shape, np.float32)
        # One timestep from each of `count` parts that are drawn equally often, so that no batch misses one of them.
        parts = (np.arange(count) + generator.random(count)) / count
        timesteps = np.interp(parts, self.drawn, np.arange(len(self.drawn))).astype(int)
        alpha, falls = self.alphas[timesteps], self.falls[timesteps]
        if halved:
            timesteps = matched_time(self.schedule, timesteps, halved).astype(np.float32)
            alpha = matched_alpha(alpha, halved)
        signal, spread = (np.sqrt(power)[:, None, None, None] for power in (alpha, 1 - alpha))
        x_t = signal * x_0 + spread * noise
        target = residual_target(noise) if self.recipe.kind == "residual" else noise
        if self.recipe.prediction == "velocity":
            target = signal * noise - spread * x_0
        return (x_t, timesteps, target, alpha), captions, uncaptioned, falls
