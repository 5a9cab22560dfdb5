"""What guidance is worth at which time and in which resolution: accuracy, distances and cost of several schedules.

`python benchmarks/guidance.py --data ZIP --classifier FILE --out JSON` draws samples of every caption with each
schedule, from the same noise and at the same scale, in turn, and compares each with plain guidance, sample by sample.
The classifier is that of `python -m reschrom.companion.judging.evaluation`; without its file it is trained first.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging

from reschrom import GuidanceInterval, GuidanceSchedule, Information, Schedule, guidance_interval, load_pipeline
from reschrom._files import file_hashes, write_json
from reschrom.companion.judging.classifier import Classifier
from reschrom.companion.judging.distances import band_distances, pairwise_distance
from reschrom.companion.judging.evaluation import held_out
from reschrom.companion.reference import information, real_images
from reschrom.pipelines.adapter import replaced_method
from reschrom.theory.intervals import Interval, StreamingMean, interval_around
from reschrom.train.pictures import gallery
from reschrom.train.recipe import Recipe

SCALE, STEPS = 3.0, 20
PLAIN, WITHOUT = "plain", "without guidance"


def told(values: np.ndarray, log_snr: np.ndarray) -> Information:
    """Return the mean over pictures of a rate in nats, bands finest first."""
    return Information(values.mean(axis=0), log_snr, 2 ** (values.shape[1] - 1))


def schedules(known: str, captions: int) -> dict[str, Any]:
    """Return the weights that are compared, by name."""
    log_snr, pictures = information.load(known)
    nats = float(np.log(captions))
    by_guidance = told(pictures.by_guidance, log_snr)
    consistent = told(pictures.by_guidance - pictures.inconsistent, log_snr)
    return {
        PLAIN: 1.0,
        WITHOUT: 0.0,
        "interval by hand, t > 0.45 T": lambda t: float(t > 0.45),
        # Twice as much in the finest band as in the others, as the defaults of its authors, with the mean of the scale.
        "frequency-decoupled": (np.array([4.0, *[2.0] * (pictures.by_guidance.shape[1] - 1)]) - 1) / (SCALE - 1),
        "until guidance says log K": guidance_interval(by_guidance, nats),
        "while captions are in doubt": guidance_interval(consistent, nats),
        "half as much more, t > 0.5 T": lambda t: 1.5 * (t > 0.5),
    }


def draw(pipeline: Any, prompts: list[str], seeds: range, block: GuidanceSchedule) -> tuple[np.ndarray, float, float]:
    """Return pictures of 8 bits, the seconds of this process, and the predictions per image and step."""
    rows = 0

    def counted(original: Any, sample: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal rows
        rows += len(sample)
        return original(sample, *args, **kwargs)

    noise, start = [torch.Generator().manual_seed(seed) for seed in seeds], time.process_time()
    unchanged = {} if hasattr(pipeline, "vae") else {"clean_caption": False}
    with replaced_method(pipeline.unet, "forward", counted), block:
        images = pipeline(
            prompts,
            guidance_scale=SCALE,
            num_inference_steps=STEPS,
            generator=noise,
            output_type="np",
            **unchanged,
        ).images
    return np.round(255 * images).astype(np.uint8), time.process_time() - start, rows / len(prompts) / STEPS


def judged(pictures: dict[str, np.ndarray], captions: np.ndarray, classifier: Classifier, real: Any) -> dict[str, Any]:
    """Return what every schedule draws, and how it differs from plain guidance, with simultaneous intervals."""
    contents = classifier.contents
    names, right, distances = list(pictures), {}, {}
    photograph = captions < contents
    for name, each in pictures.items():
        said = classifier.name(each)
        right[name] = np.stack([said.contents == captions % contents, said.styles == captions // contents], axis=1)
        images = np.moveaxis(each[photograph], -1, 1) / 127.5 - 1
        distances[name] = band_distances(images, real.quantiles)
    # Every caption that the model knows is drawn as often, so captions are no sample of others: pictures are.
    of_picture = np.stack([right[name] for name in names], axis=1).astype(float)
    found = StreamingMean()
    found.add(of_picture - of_picture[:, :1], 0)
    accuracy = interval_around(found.mean, found.replicates, simultaneous=True, images=len(captions))
    # Where no picture shows a difference, replicates show none either; so many pictures may have missed as much.
    least = 1 - (0.05 / found.mean[1:].size) ** (1 / len(captions))
    reach = np.where(np.arange(len(names)) > 0, least, 0.0)[:, None]
    accuracy = Interval(np.minimum(accuracy.lower, found.mean - reach), np.maximum(accuracy.upper, found.mean + reach))
    plain = distances[PLAIN]
    apart = np.stack([distances[name].distance - plain.distance for name in names])
    again = np.stack([distances[name].replicates - plain.replicates for name in names], axis=1)
    distance = interval_around(apart, again, simultaneous=True, images=int(photograph.sum()))
    return {
        name: {
            "content, style": of_picture[:, i].mean(axis=0).tolist(),
            "less plain": _told(found.mean[i], accuracy, i),
            "distance": distances[name].distance.tolist(),
            "distance less plain": _told(apart[i], distance, i),
            "pair distance": pairwise_distance(pictures[name][photograph] / 127.5 - 1),
        }
        for i, name in enumerate(names)
    }


def _told(mean: np.ndarray, interval: Any, i: int) -> list[list[float]]:
    return [list(map(float, each)) for each in zip(mean, interval.lower[i], interval.upper[i], strict=True)]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default="data/models/pocket-if-64", help="folder of the model")
    parser.add_argument("--config", default="data/pocket-if-64.yaml", help="recipe of the model")
    parser.add_argument("--information", default="data/reference/pocket-if-64-information.safetensors")
    parser.add_argument("--real", default="data/reference/t2i-bands.safetensors", help="of real photographs")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--classifier", type=Path, required=True, help="its weights: read, or written if not there")
    parser.add_argument("--classifier-steps", type=int, default=1200)
    parser.add_argument("--each", type=int, default=2, help="samples of each caption")
    parser.add_argument("--out", default="", help="JSON file for what is measured")
    given = parser.parse_args()
    logging.set_verbosity_error()
    recipe, pipeline = Recipe.load(given.config), load_pipeline(given.model)
    pipeline.set_progress_bar_config(disable=True)
    classifier = Classifier(len(recipe.contents))
    if given.classifier.is_file():
        classifier = Classifier.load(given.classifier, len(recipe.contents))
    else:
        classifier.train(gallery(recipe, given.data), given.classifier_steps)
        classifier.save(given.classifier)

    compared = schedules(given.information, len(recipe.captions))
    # Made once, so that halves of batches are tried in the first round alone.
    blocks = {name: GuidanceSchedule(pipeline, weights) for name, weights in compared.items()}
    captions = np.tile(np.arange(len(recipe.captions)), given.each)
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in compared}
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    passes: dict[str, list[float]] = {name: [] for name in compared}
    for start in range(0, len(captions), len(recipe.captions)):
        part = captions[start : start + len(recipe.captions)]
        prompts = [recipe.captions[k] for k in part]
        for name, block in blocks.items():
            made, took, rows = draw(pipeline, prompts, range(start, start + len(part)), block)
            pictures[name].append(made)
            seconds[name].append(took)
            passes[name].append(rows)
    drawn = {name: np.concatenate(each) for name, each in pictures.items()}
    found = judged(drawn, captions, classifier, real_images.load(given.real)["held out"])
    shown, numbers = held_out(recipe, given.data)
    named = classifier.name(shown)
    own = [float(np.mean(named.contents == numbers % len(recipe.contents)))]
    own += [float(np.mean(named.styles == numbers // len(recipe.contents)))]

    schedule = Schedule.from_diffusers(pipeline.scheduler)
    print(f"classifier on held-out pictures: content {own[0]:.3f}, style {own[1]:.3f}")
    print(f"{'':30} passes   time  content  style   pairs  distance")
    for name, each in found.items():
        ratios = np.array(seconds[name]) / np.array(seconds[PLAIN])
        interval = compared[name]
        if isinstance(interval, GuidanceInterval):
            ends = np.stack([np.atleast_1d(interval.begins), np.atleast_1d(interval.ends)])
            each["log SNR"] = ends.tolist()
            each["timesteps"] = schedule.time(1 / (1 + np.exp(-ends))).tolist()
        each["predictions per step"] = float(np.mean(passes[name]))
        each["time over plain"] = [float(np.median(ratios)), float(ratios.min()), float(ratios.max())]
        print(
            f"{name:30}{each['predictions per step']:7.2f}{np.median(ratios):7.2f}"
            f"{each['content, style'][0]:9.3f}{each['content, style'][1]:7.3f}{each['pair distance']:8.3f}"
            f"{np.mean(each['distance']):10.4f}"
        )
    if given.out:
        about = {
            "made by": "python benchmarks/guidance.py",
            "model": given.model.name,
            "weights": file_hashes(given.model),
            "sampler": {
                "scheduler": type(pipeline.scheduler).__name__,
                "steps": STEPS,
                "guidance scale": SCALE,
                "samples per caption": given.each,
            },
            "classifier on held-out pictures": own,
            "classifier steps": given.classifier_steps,
        }
        write_json(given.out, {**about, "schedules": found})


if __name__ == "__main__":
    main()
