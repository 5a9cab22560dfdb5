"""Judge a text-to-image model against real pictures: can its samples be told, and are they more than its training set?

`python -m reschrom.companion.judging.evaluation MODEL --data ZIP --out JSON` samples every caption of the
recipe and measures:

- the share of samples whose content and style a classifier names right. The classifier learns from the training
  pictures; its own accuracy on held-out pictures stands beside the result.
- how far a sample is from its nearest training picture, in pixels and in what the classifier sees, as a ratio to the
  same distance of held-out pictures. A model that copies its training set has a ratio near 0.
- of a model in latents, what held-out pictures lose on their way through its autoencoder, which none of its samples can
  have.
"""

import argparse
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from reschrom._files import file_hashes, replacing, sha256, write_json
from reschrom.companion.judging.classifier import Classifier, Pictures, shares
from reschrom.companion.judging.roundtrip import lost
from reschrom.images.pictures import photographs
from reschrom.pipelines.load import load_pipeline
from reschrom.train.pictures import gallery
from reschrom.train.recipe import Recipe
from reschrom.train.styles import STYLES

if TYPE_CHECKING:
    from PIL.Image import Image

# These are frames of turntable films: a held-out frame has a near copy in the training split.
FRUIT = ("a pineapple", "a banana", "a strawberry", "a lemon", "a pear", "a coconut", "an orange", "an avocado")
# Training moves pictures by up to so many pixels, so a copy may be moved as well.
_MOVE = 3
# Training pictures that are compared in full: those nearest to a picture when both are a quarter of their size.
_CANDIDATES = 20
_SAMPLES_AT_ONCE = 32
_PAIRS = 12


class Nearest(NamedTuple):
    """Root-mean-square distance of each picture to the training picture nearest to it, and which one that is."""

    distances: Float[np.ndarray, " pictures"]
    which: Int[np.ndarray, " pictures"]


def sample(
    pipeline: Any, captions: Sequence[str], count: int, guidance_scale: float, steps: int, seed: int, bf16: bool = False
) -> Pictures:
    """Draw `count` samples of every caption, caption by caption, as pictures of 8 bits.

    The noise of each sample has a seed of its own, `seed` plus its number, so it is the same at every guidance scale.
    bf16: whether to run the networks in half precision.
    """
    import torch
    from tqdm import tqdm

    pipeline.set_progress_bar_config(disable=True)
    # IFPipeline would clean them with a package that is not needed here.
    plain = {} if hasattr(pipeline, "vae") else {"clean_caption": False}
    prompts = [caption for caption in captions for _ in range(count)]
    drawn = []
    for start in tqdm(range(0, len(prompts), _SAMPLES_AT_ONCE), disable=None):
        part = prompts[start : start + _SAMPLES_AT_ONCE]
        noise = [torch.Generator().manual_seed(seed + start + index) for index in range(len(part))]
        with torch.autocast(pipeline.device.type, torch.bfloat16, enabled=bf16):
            images = pipeline(
                part,
                guidance_scale=guidance_scale,
                num_inference_steps=steps,
                generator=noise,
                output_type="np",
                **plain,
            ).images
        drawn.append(np.round(255 * images).astype(np.uint8))
    return np.concatenate(drawn)


def held_out(recipe: Recipe, source: str) -> tuple[Pictures, Int[np.ndarray, " pictures"]]:
    """Return the photographs that no model is trained on, in every style, and the number of the caption of each.

    Their size is that before they are halved.
    """
    pictures, captions = [], []
    for index, content in enumerate(recipe.contents):
        generator = np.random.default_rng([recipe.seed, len(recipe.contents) + index])
        for photograph in photographs(source, content, "test", recipe.picture_size):
            for style, draw in enumerate(recipe.styles.values()):
                pictures.append(draw(photograph, generator))
                captions.append(style * len(recipe.contents) + index)
    return np.stack(pictures), np.array(captions)


def nearest_in_pixels(pictures: Pictures, training: Pictures) -> Nearest:
    """Return the distance of pictures to the training picture nearest to them, mirrored or moved if that is nearer.

    Distances are root mean squares of colours in [-1, 1], over the part of the picture that a move leaves inside. Only
    the training pictures that are nearest at a quarter of the size are tried in full.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    size = pictures.shape[1]
    small, small_training = _small(pictures), _small(training)
    candidates = euclidean_distances(small, small_training, squared=True)
    candidates = np.minimum(candidates, euclidean_distances(small, _small(training[:, :, ::-1]), squared=True))
    candidates = np.argsort(candidates, axis=1, kind="stable")[:, :_CANDIDATES]
    inside, distances, which = slice(_MOVE, size - _MOVE), [], []
    for picture, near in zip(pictures.astype(np.float32), candidates, strict=True):
        best = np.full(len(near), np.inf)
        for copies in (training[near], training[near, :, ::-1]):
            plain = copies.astype(np.float32)
            for top, left in np.ndindex(2 * _MOVE + 1, 2 * _MOVE + 1):
                moved = plain[:, top : top + size - 2 * _MOVE, left : left + size - 2 * _MOVE]
                difference = (moved - picture[inside, inside]).reshape(len(near), -1)
                best = np.minimum(best, np.einsum("np,np->n", difference, difference) / difference.shape[1])
        distances.append(np.sqrt(best.min()) / 127.5)
        which.append(near[best.argmin()])
    return Nearest(np.array(distances), np.array(which))


class Judge:
    """Real pictures, and a classifier that has learned from them, to judge samples by.

    training: the pictures of `gallery`.
    held_out: what `held_out` returns.
    """

    def __init__(
        self,
        recipe: Recipe,
        training: UInt8[np.ndarray, "captions pieces size size 3"],
        held_out: tuple[Pictures, Int[np.ndarray, " pictures"]],
        classifier: Classifier,
    ) -> None:
        self.recipe, self.training, self.classifier = recipe, training, classifier
        self.real, self.captions = held_out
        self.independent = [index for index, content in enumerate(recipe.contents) if content not in FRUIT]
        named = classifier.name(self.real)
        self.recognised = shares(named, self.captions, recipe)
        photograph = self.captions < len(recipe.contents)
        self.recognised["photographs"] = {
            "pictures": int(photograph.sum()),
            "content, captions alike": self.recognised["per style"]["a photo of"]["content"],
            "content, pictures alike": round(float(np.mean((named.contents == self.captions)[photograph])), 4),
        }
        self.recognised["pictures"] = len(self.real)
        # The features of the training pictures and of their mirror images, style by style.
        self._seen = [
            np.concatenate([classifier.name(each).features for each in (pictures, pictures[:, :, ::-1])])
            for pictures in map(self._of_style, range(len(STYLES)))
        ]
        self._real_distances = self._distances(self.real, self.captions, named.features)

    def judge(self, samples: Pictures, captions: Int[np.ndarray, " pictures"]) -> dict[str, Any]:
        """Return the shares of samples that are recognised, and their distances to the training pictures."""
        named = self.classifier.name(samples)
        mine = self._distances(samples, captions, named.features)
        real = self._real_distances
        memorisation: dict[str, Any] = {"contents": [self.recipe.contents[index] for index in self.independent]}
        for space in ("pixels", "features"):
            ours, theirs = (
                {
                    name: float(np.quantile(each[space], share, weights=each["weights"], method="inverted_cdf"))
                    for name, share in (("median", 0.5), ("lowest hundredth", 0.01))
                }
                for each in (mine, real)
            )
            memorisation[space] = {
                "samples": ours,
                "held out": theirs,
                "ratio of medians": ours["median"] / theirs["median"],
            }
        return {"recognised": shares(named, captions, self.recipe), "memorisation": _rounded(memorisation)}

    def closest_pairs(
        self, samples: Pictures, captions: Int[np.ndarray, " pictures"]
    ) -> tuple[Pictures, list[dict[str, Any]]]:
        """Return the samples closest to a training picture and, in the second half, those pictures; and their story."""
        found = self._distances(samples, captions, self.classifier.name(samples).features)
        closest = np.argsort(found["pixels"])[:_PAIRS]
        numbers = found["numbers"][closest]
        styles = captions[numbers] // len(self.recipe.contents)
        originals = [self._of_style(int(s))[w] for s, w in zip(styles, found["which"][closest], strict=True)]
        story = [
            {"sample": int(n), "caption": self.recipe.captions[captions[n]], "pixels": round(float(d), 4)}
            for n, d in zip(numbers, found["pixels"][closest], strict=True)
        ]
        return np.concatenate([samples[numbers], np.stack(originals)]), story

    def _of_style(self, style: int) -> Pictures:
        """Return the training pictures of one style, without fruit."""
        chosen = style * len(self.recipe.contents) + np.array(self.independent)
        return self.training[chosen].reshape(-1, *self.training.shape[2:])

    def _distances(
        self, pictures: Pictures, captions: Int[np.ndarray, " pictures"], features: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Measure the distances of all pictures but fruit to the training pictures of the same style."""
        from sklearn.metrics.pairwise import euclidean_distances

        styles, contents = np.divmod(captions, len(self.recipe.contents))
        parts = []
        for style in range(len(STYLES)):
            numbers = np.flatnonzero((styles == style) & np.isin(contents, self.independent))
            near = nearest_in_pixels(pictures[numbers], self._of_style(style))
            by_features = euclidean_distances(features[numbers], self._seen[style]).min(axis=1)
            parts.append((numbers, near.distances, near.which, by_features))
        numbers, pixels, which, by_features = (np.concatenate(each) for each in zip(*parts, strict=True))
        # Every caption counts alike, however many pictures it has.
        weights = 1 / np.bincount(captions)[captions[numbers]]
        return {"numbers": numbers, "pixels": pixels, "which": which, "features": by_features, "weights": weights}


def _small(pictures: Pictures) -> np.ndarray:
    """Average 4x4 pixels, and lay each picture out as a row."""
    count, size = pictures.shape[:2]
    blocks = pictures.reshape(count, size // 4, 4, size // 4, 4, 3).mean(axis=(2, 4), dtype=np.float32)
    return blocks.reshape(count, -1)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values), parse_float=lambda number: round(float(number), 4))


def tiled(pictures: Pictures, columns: int, scale: int = 2) -> "Image":
    """Lay pictures out in rows, enlarged without blur."""
    from diffusers.utils.pil_utils import make_image_grid
    from PIL import Image

    sheet = make_image_grid([Image.fromarray(each) for each in pictures], len(pictures) // columns, columns)
    return sheet.resize((scale * sheet.width, scale * sheet.height), Image.Resampling.NEAREST)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of this module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m reschrom.companion.judging.evaluation", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("--config", default="data/pocket-if-64.yaml", help="recipe of the model")
    parser.add_argument("--data", required=True, help="source of the photographs, as for training")
    parser.add_argument("--pictures", help="the pictures.npy of the training run; they are made again without it")
    parser.add_argument("--classifier", type=Path, help="weights of the classifier: read, or written when not there")
    parser.add_argument("--classifier-steps", type=int, default=1200)
    parser.add_argument("--guidance", type=float, nargs="+", default=[3.0], help="several: compare, write nothing")
    parser.add_argument("--steps", type=int, default=30, help="steps of the model's own scheduler")
    parser.add_argument("--count", type=int, default=16, help="samples of each caption")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="sample in half precision")
    parser.add_argument("--out", help="JSON file for the result")
    parser.add_argument("--grid", help="PNG file for one sample of each caption")
    parser.add_argument("--pairs", help="PNG file for the samples closest to training pictures, and these below")
    given = parser.parse_args(arguments)

    recipe = Recipe.load(given.config)
    training = np.load(given.pictures, mmap_mode="r") if given.pictures else gallery(recipe, given.data)
    if given.classifier and given.classifier.is_file():
        classifier = Classifier.load(given.classifier, len(recipe.contents))
    else:
        classifier = Classifier(len(recipe.contents))
        classifier.train(training, given.classifier_steps)
        if given.classifier:
            classifier.save(given.classifier)
    judge = Judge(recipe, training, held_out(recipe, given.data), classifier)
    pipeline = load_pipeline(given.model)
    captions = np.repeat(np.arange(len(recipe.captions)), given.count)
    print(f"held out: {_line(judge.recognised)}")
    for scale in given.guidance:
        samples = sample(pipeline, recipe.captions, given.count, scale, given.steps, given.seed, given.bf16)
        result = judge.judge(samples, captions)
        ratios = {space: result["memorisation"][space]["ratio of medians"] for space in ("pixels", "features")}
        print(f"guidance {scale:g}: {_line(result['recognised'])}; distance ratio {ratios}", flush=True)
    if len(given.guidance) > 1:
        return
    pairs, story = judge.closest_pairs(samples, captions)
    result["memorisation"]["closest"] = story
    if hasattr(pipeline, "vae"):
        result["autoencoder"] = lost(pipeline.vae, judge.real, judge.captions, classifier, recipe)
    if given.grid:
        with replacing(given.grid) as temporary:
            tiled(samples[:: given.count], len(recipe.contents)).save(temporary)
    if given.pairs:
        with replacing(given.pairs) as temporary:
            tiled(pairs, len(story)).save(temporary)
    if given.out:
        write_json(given.out, {**_provenance(given, recipe, pipeline), "classifier": judge.recognised, **result})


def _line(shares: dict[str, Any]) -> str:
    return ", ".join(f"{name} {shares[name]:.3f}" for name in ("content", "style", "both"))


def _provenance(given: argparse.Namespace, recipe: Recipe, pipeline: Any) -> dict[str, Any]:
    source = Path(given.data)
    return {
        "model": given.model.name,
        "weights": file_hashes(given.model),
        "recipe": recipe.as_dict(),
        "sampler": {
            "scheduler": type(pipeline.scheduler).__name__,
            "steps": given.steps,
            "guidance scale": given.guidance[0],
            "samples per caption": given.count,
            "seed": given.seed,
            "precision": "bf16" if given.bf16 else "float32",
        },
        "data": {"name": source.name, **({"sha256": sha256(source)} if source.is_file() else {})},
        "classifier steps": given.classifier_steps,
        "packages": {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "transformers")},
    }


if __name__ == "__main__":
    main()
