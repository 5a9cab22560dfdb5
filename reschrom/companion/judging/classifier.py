"""A small network that names the content and the style of a picture, to judge generated pictures by."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from reschrom._files import replacing
from reschrom.train.pictures import batch
from reschrom.train.recipe import Recipe
from reschrom.train.styles import STYLES

if TYPE_CHECKING:
    import torch

Pictures = UInt8[np.ndarray, "_ size size 3"]

# Filters of each stage; each but the first halves the picture once more.
_WIDTHS = (32, 64, 128, 192)
_LEARNING_RATE = 4e-3
_BATCH = 64
_AT_ONCE = 256


class Named(NamedTuple):
    """What a classifier says of pictures, by the number of each content and style, and what it says it by."""

    contents: Int[np.ndarray, " pictures"]
    styles: Int[np.ndarray, " pictures"]
    features: Float[np.ndarray, "pictures features"]


class Classifier:
    """A convolutional network with two heads, one for the content of a picture and one for its style."""

    def __init__(self, contents: int, seed: int = 0) -> None:
        import torch
        from torch import nn

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = [nn.Conv2d(3, _WIDTHS[0], 4, 2, 1, bias=False), nn.BatchNorm2d(_WIDTHS[0])]
            for narrow, wide in pairwise(_WIDTHS):
                for count, stride in ((narrow, 2), (wide, 1)):
                    layers += [nn.ReLU(), nn.Conv2d(count, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide)]
            body: Any = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            heads = nn.ModuleList([nn.Linear(_WIDTHS[-1], contents), nn.Linear(_WIDTHS[-1], len(STYLES))])
        self.network = nn.ModuleDict({"body": body, "heads": heads})
        body.to(memory_format=torch.channels_last)
        self.contents, self.seed = contents, seed

    def train(self, pictures: UInt8[np.ndarray, "captions pieces size size 3"], steps: int) -> None:
        """Learn from the pictures that a model is trained on, drawn as its training draws them."""
        import torch
        from torch.nn.functional import cross_entropy
        from tqdm import tqdm

        optimizer = torch.optim.AdamW(self.network.parameters(), lr=_LEARNING_RATE, weight_decay=0.02)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, steps)
        self.network.train()
        for step in tqdm(range(steps), disable=None):
            x_0, captions = batch(pictures, _BATCH, np.random.default_rng([self.seed, step]))
            styles, contents = (torch.from_numpy(each) for each in np.divmod(captions, self.contents))
            by_content, by_style = self._heads(self._features(x_0))
            loss = cross_entropy(by_content, contents, label_smoothing=0.05) + cross_entropy(by_style, styles)
            loss.backward()
            optimizer.step()
            rate.step()
            optimizer.zero_grad()

    def name(self, pictures: Pictures) -> Named:
        """Name the content and the style of pictures, and return the features by which both are told."""
        import torch

        self.network.eval()
        named = []
        with torch.no_grad():
            for start in range(0, len(pictures), _AT_ONCE):
                x_0 = np.moveaxis(pictures[start : start + _AT_ONCE], -1, 1).astype(np.float32) / 127.5 - 1
                features = self._features(x_0)
                contents, styles = (head.argmax(dim=1).numpy() for head in self._heads(features))
                named.append((contents, styles, features.numpy()))
        return Named(*(np.concatenate(each) for each in zip(*named, strict=True)))

    def save(self, path: str | Path) -> None:
        """Write the weights as safetensors."""
        from safetensors.torch import save_file

        plain = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        with replacing(path) as temporary:
            save_file(plain, temporary)

    @classmethod
    def load(cls, path: str | Path, contents: int) -> "Classifier":
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        classifier = cls(contents)
        classifier.network.load_state_dict(load_file(path))
        return classifier

    def _features(self, x_0: np.ndarray) -> "torch.Tensor":
        import torch

        body: Any = self.network["body"]
        return body(torch.from_numpy(x_0).to(memory_format=torch.channels_last))

    def _heads(self, features: "torch.Tensor") -> "list[torch.Tensor]":
        heads: Any = self.network["heads"]
        return [head(features) for head in heads]


def shares(named: Named, captions: Int[np.ndarray, " pictures"], recipe: Recipe) -> dict[str, Any]:
    """Return the share of pictures whose content, style and both are named right: of all, per content, per style.

    captions: the number of the caption of each picture in `recipe.captions`. Captions count alike, however many
        pictures they have.
    """
    styles, contents = np.divmod(captions, len(recipe.contents))
    right = {"content": named.contents == contents, "style": named.styles == styles}
    right["both"] = right["content"] & right["style"]
    weights = 1 / np.bincount(captions, minlength=len(recipe.captions))[captions]

    def of(which: np.ndarray) -> dict[str, float]:
        return {name: round(float(np.average(each[which], weights=weights[which])), 4) for name, each in right.items()}

    return {
        **of(np.ones(len(captions), bool)),
        "per content": {name: of(contents == index) for index, name in enumerate(recipe.contents)},
        "per style": {name: of(styles == index) for index, name in enumerate(STYLES)},
    }
