"""How well models know the colour of a picture when there is hardly more than noise.

`python -m reschrom.companion.reference.colours FOLDER ... --data ZIP --statistics FILE --out FILE` measures it on
held-out pictures, with the caption of each: the squared error of the mean colour, at a few log SNRs. Beside the models
stands what knows of each caption the Gaussian field of its training pictures."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from reschrom._arrays import Images
from reschrom._files import file_hashes, shipped, write_json
from reschrom.companion.reference import statistics
from reschrom.companion.reference.information import chosen
from reschrom.pipelines.adapter import network_denoiser
from reschrom.pipelines.load import load_pipeline
from reschrom.train.recipe import Recipe

# Of a noised image and its alpha, an estimate of the image.
Estimate = Callable[[Images, float], Images]

LOG_SNRS = (-7.0, -5.5, -4.0, -2.0)


def colour_errors(
    given: Estimate, images: Images, log_snrs: Sequence[float], generator: np.random.Generator
) -> list[float]:
    """Return the squared error of the mean colour that an estimate has, mean over images and channels, at log SNRs."""
    errors = []
    for log_snr in log_snrs:
        alpha = 1 / (1 + np.exp(-log_snr))
        noise = generator.standard_normal(images.shape)
        estimate = given(np.sqrt(alpha) * images + np.sqrt(1 - alpha) * noise, alpha)
        errors.append(float(np.mean((estimate - images).mean(axis=(2, 3)) ** 2)))
    return errors


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.reference.colours", description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="folders of models that read captions")
    parser.add_argument("--config", default="data/pocket-if-64.yaml", help="recipe with their captions")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--statistics", required=True, help="safetensors file of the captions' training pictures")
    parser.add_argument("--each", type=int, default=2, help="pictures of each caption")
    parser.add_argument("--draws", type=int, default=4, help="noised versions of each picture")
    parser.add_argument("--out", required=True, help="JSON file")
    given = parser.parse_args(arguments)
    recipe, fields = Recipe.load(given.config), statistics.load(given.statistics).mixture(colour=True).fields
    denoisers: dict[str, Estimate] = {}
    for folder in given.models:
        pipeline = load_pipeline(folder)
        pipeline.scheduler.register_to_config(clip_sample=False)  # the network's own estimate
        images, labels = chosen(recipe, pipeline, given.data, given.each, np.random.default_rng(0))
        images, labels = (np.repeat(each, given.draws, axis=0) for each in (images, labels))
        denoisers[folder.name] = network_denoiser(pipeline, [recipe.captions[label] for label in labels], len(labels))

    def known(x_t: Images, alpha: float) -> Images:
        return np.concatenate([fields[k].denoise(x[None], alpha) for k, x in zip(labels, x_t, strict=True)])

    every: dict[str, Estimate] = {"known": known, **denoisers}
    errors = {
        name: [round(error, 5) for error in colour_errors(denoise, images, LOG_SNRS, np.random.default_rng(1))]
        for name, denoise in every.items()
    }
    about = {
        "made by": "python -m reschrom.companion.reference.colours",
        "data": Path(given.data).name,
        "pictures": len(images) // given.draws,
        "log SNR": list(LOG_SNRS),
        "noised versions of each": given.draws,
        "weights": {folder.name: file_hashes(shipped(folder)) for folder in given.models},
        "squared errors": errors,
    }
    write_json(given.out, about)


if __name__ == "__main__":
    main()
