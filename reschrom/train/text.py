"""How captions become tokens: tokenizers that are made for the captions of a recipe and tell them apart."""

import json
from typing import TYPE_CHECKING, Any

from reschrom.train.recipe import Recipe

if TYPE_CHECKING:
    import torch

# IFPipeline pads every prompt to so many tokens.
T5_LENGTH = 77
_CLIP_LENGTH = 16
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-'.,"


def caption_tokens(pipeline: Any, recipe: Recipe) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return the tokens of every caption and, last, of the empty one, padded as the pipeline does, and their mask."""
    encoded = pipeline.tokenizer([*recipe.captions, ""], padding="max_length", truncation=True, return_tensors="pt")
    return encoded.input_ids, encoded.attention_mask


def t5_tokenizer(recipe: Recipe) -> Any:
    """Return a T5 tokenizer whose words are those of the captions; other words are spelled, letter by letter.

    Raises ValueError for contents that it cannot tell apart.
    """
    from transformers import T5Tokenizer

    words = sorted({word for caption in recipe.captions for word in caption.split()})
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    vocabulary += [(f"▁{word}", -1.0) for word in words if len(word) > 1]
    vocabulary += [("▁a", -1.0), *((letter, -8.0) for letter in _LETTERS)]
    return _telling_apart(T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=T5_LENGTH), recipe)


def clip_tokenizer(recipe: Recipe) -> Any:
    """Return a CLIP tokenizer whose pieces of words were learned on the captions; other words are spelled.

    Raises ValueError for contents that it cannot tell apart.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        special_tokens=special,
        initial_alphabet=list(_LETTERS),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator([caption.lower() for caption in recipe.captions], trainer)
    # Pairs, which the tokenizer takes and its annotation does not know.
    merges: Any = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    # The learner numbers the letters that end words by chance, and a run that goes on must read what it has learned.
    letters = sorted(piece for piece in learner.get_vocab() if len(piece.removesuffix("</w>")) == 1)
    letters.sort(key=lambda piece: piece.endswith("</w>"))
    pieces = [*special, *letters, *map("".join, merges), *(f"{letter}</w>" for letter in _LETTERS)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return _telling_apart(CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=_CLIP_LENGTH), recipe)


def _telling_apart(tokenizer: Any, recipe: Recipe) -> Any:
    """Return a tokenizer after checking that no two captions have the same tokens."""
    first: dict[tuple[int, ...], str] = {}
    for caption, tokens in zip(recipe.captions, tokenizer(recipe.captions, truncation=True).input_ids, strict=True):
        other = first.setdefault(tuple(tokens), caption)
        if other != caption:
            raise ValueError(
                f"contents of a recipe must differ in their first {tokenizer.model_max_length} tokens; {other!r} and "
                f"{caption!r} do not"
            )
    return tokenizer
