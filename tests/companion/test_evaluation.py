"""What judges a trained text-to-image model, tried on tiny pictures whose answers are known."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reschrom import GaussianField, band_spectrum, bands
from reschrom.companion import card
from reschrom.companion.judging import classifier, evaluation, roundtrip
from reschrom.companion.reference import losses, networks, statistics
from reschrom.train import checkpoints, pictures
from reschrom.train.recipe import Recipe
from reschrom.train.styles import STYLES

CONTENTS = ("astronaut", "coffee")
RECIPE = Recipe(
    contents=CONTENTS, pieces=24, size=16, channels=(8, 16), attentive=1, text_width=8, text_layers=1, precision="no"
)


@pytest.fixture(scope="module")
def gallery():
    return pictures.gallery(RECIPE, "photos")


@pytest.fixture(scope="module")
def held_out():
    return evaluation.held_out(RECIPE, "photos")


@pytest.fixture(scope="module")
def learned(gallery):
    network = classifier.Classifier(len(CONTENTS))
    network.train(gallery, 40)
    return network


@pytest.fixture(scope="module")
def judge(gallery, held_out, learned):
    return evaluation.Judge(RECIPE, gallery, held_out, learned)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a model that was never trained."""
    from reschrom.train.models import build

    folder = tmp_path_factory.mktemp("models") / "tiny"
    build(RECIPE).save_pretrained(folder)
    return folder


def random_pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def every_copy(picture):
    """All copies of a picture that training may draw: mirrored or not, moved by up to three pixels."""
    padded = np.pad(picture, ((3, 3), (3, 3), (0, 0)), mode="edge")
    for top, left in np.ndindex(7, 7):
        cut = padded[top : top + 16, left : left + 16]
        yield from (cut, cut[:, ::-1])


def test_a_mirrored_and_moved_copy_is_found_at_distance_zero():
    training = random_pictures(30)
    copies = np.stack([list(every_copy(training[index]))[which] for index, which in ((3, 0), (17, 97), (29, 60))])
    found = evaluation.nearest_in_pixels(copies, training)
    np.testing.assert_array_equal(found.which, [3, 17, 29])
    np.testing.assert_allclose(found.distances, 0, atol=1e-6)


def test_the_nearest_picture_is_nearest_among_all_copies():
    training, others = random_pictures(10), random_pictures(4, seed=1)
    found = evaluation.nearest_in_pixels(others, training)
    inside = slice(3, -3)
    for picture, distance in zip(others.astype(float), found.distances, strict=True):
        far = [
            np.sqrt(np.mean((copy[inside, inside] - picture[inside, inside]) ** 2)) / 127.5
            for each in training.astype(float)
            for copy in every_copy(each)
        ]
        assert distance == pytest.approx(min(far), rel=1e-5)
        assert distance > 0.3


def test_pictures_are_compared_as_far_as_training_moves_them():
    assert evaluation._MOVE == pictures._MOVE


def test_held_out_pictures_come_from_the_test_split_in_every_style(held_out):
    real, captions = held_out
    photographs = pictures.photographs("photos", "coffee", "test", 16)
    np.testing.assert_array_equal(real[captions == 1], photographs)
    counts = np.bincount(captions)
    np.testing.assert_array_equal(counts, np.full(len(STYLES) * len(CONTENTS), len(photographs)))
    grey = real[captions == RECIPE.captions.index("a pencil sketch of coffee")]
    np.testing.assert_array_equal(grey, grey[..., :1].repeat(3, axis=-1))


def test_captions_count_alike_however_many_pictures_they_have():
    captions = np.array([0, 0, 0, 0, 3, 5])
    styles, contents = np.divmod(captions, 2)
    named = classifier.Named(np.array([0, 0, 1, 1, 1, 1]), np.where(captions == 5, 0, styles), np.zeros((6, 1)))
    told = classifier.shares(named, captions, RECIPE)
    assert contents.tolist() == [0, 0, 0, 0, 1, 1]
    assert told["content"] == pytest.approx((0.5 + 1 + 1) / 3, abs=1e-4)
    assert told["style"] == pytest.approx(2 / 3, abs=1e-4)
    assert told["both"] == pytest.approx(0.5, abs=1e-4)
    assert told["per content"]["coffee"] == {"content": 1.0, "style": 0.5, "both": 0.5}
    assert told["per style"]["a photo of"]["content"] == 0.5


@pytest.mark.slow
def test_a_classifier_learns_contents_and_styles(judge):
    assert judge.recognised["content"] > 0.8
    assert judge.recognised["style"] > 0.8
    assert judge.recognised["pictures"] == 6 * 64
    assert judge.recognised["photographs"]["pictures"] == 2 * 64


@pytest.mark.lasting
def test_a_classifier_is_the_same_after_a_file(tmp_path, learned, held_out):
    learned.save(tmp_path / "classifier.safetensors")
    again = classifier.Classifier.load(tmp_path / "classifier.safetensors", len(CONTENTS))
    for before, after in zip(learned.name(held_out[0][:9]), again.name(held_out[0][:9]), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.lasting
def test_training_pictures_are_told_from_new_ones(judge, gallery, held_out):
    """A model that copies its training set has a ratio of 0, one that draws from nature a ratio of 1."""
    captions = np.repeat(np.arange(len(RECIPE.captions)), 4)
    copied = judge.judge(gallery[:, :4].reshape(-1, 16, 16, 3), captions)["memorisation"]
    assert copied["pixels"]["ratio of medians"] == pytest.approx(0, abs=1e-3)
    assert copied["features"]["ratio of medians"] == pytest.approx(0, abs=1e-2)
    natural = judge.judge(*held_out)
    assert natural["memorisation"]["pixels"]["ratio of medians"] == 1
    assert natural["memorisation"]["features"]["ratio of medians"] == 1
    assert natural["recognised"]["both"] == judge.recognised["both"]


@pytest.mark.lasting
def test_the_closest_pairs_are_shown_with_their_originals(judge, gallery, held_out):
    samples, captions = held_out[0].copy(), held_out[1]
    number = int(np.flatnonzero(captions == 3)[5])
    samples[number] = gallery[3, 7]
    pairs, story = judge.closest_pairs(samples, captions)
    assert story[0] == {"sample": number, "caption": RECIPE.captions[3], "pixels": 0.0}
    np.testing.assert_array_equal(pairs[0], gallery[3, 7])
    np.testing.assert_array_equal(pairs[len(story)], gallery[3, 7])


def test_the_mean_picture_is_that_of_every_copy(gallery):
    measured = statistics.measure(gallery[:2], RECIPE.captions[:2], 50)
    copies = np.stack([copy for picture in gallery[1] for copy in every_copy(picture)])
    np.testing.assert_allclose(measured.means[1], np.moveaxis(copies.mean(axis=0), -1, 0) / 127.5 - 1, atol=1e-12)


def test_statistics_are_those_of_the_pictures_that_training_draws(gallery):
    measured = statistics.measure(gallery, RECIPE.captions, 400)
    generator = np.random.default_rng(9)
    drawn = [pictures.batch(gallery[c : c + 1], 400, generator)[0].astype(float) for c in range(len(gallery))]
    coffee = measured.field("a photo of coffee")
    np.testing.assert_allclose(coffee.spectrum, band_spectrum(drawn[1]), rtol=0.25)
    np.testing.assert_allclose(measured.pooled().spectrum, band_spectrum(np.concatenate(drawn)), rtol=0.1)
    np.testing.assert_allclose(measured.field("a photo of coffee", colour=True).spectrum, coffee.spectrum)
    assert np.linalg.matrix_rank(measured.covariances[4, 0], rtol=1e-6) == 1, "pencil is grey"
    mixture = measured.mixture(colour=True)
    assert len(mixture.fields) == len(RECIPE.captions)
    with pytest.raises(ValueError, match="got 'tea'"):
        measured.field("tea")


def test_statistics_are_the_same_after_a_file(tmp_path, gallery):
    measured, path = statistics.measure(gallery, RECIPE.captions, 30), tmp_path / "mix.safetensors"
    statistics.save(path, measured, {"made by": "a test"})
    again = statistics.load(path)
    assert again.captions == tuple(RECIPE.captions)
    np.testing.assert_array_equal(again.covariances, measured.covariances)
    np.testing.assert_allclose(again.means, measured.means, atol=1 / 2048)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"mix.safetensors holds no statistics"):
        statistics.load(path)


def test_covariances_of_a_known_field():
    field = GaussianField([0.1, 0.4, 2.0, 5.0, 9.0], channels=3)
    images = field.sample(3000, np.random.default_rng(0))
    covariances = statistics._covariances(images)
    np.testing.assert_allclose(np.trace(covariances, axis1=1, axis2=2) / 3, field.spectrum, rtol=0.1)
    energy = sum(np.sum(4.0**m * band**2) for m, band in enumerate(bands(images)))
    sizes = [192, 48, 12, 3, 1]
    assert len(images) * np.trace(covariances, axis1=1, axis2=2) @ sizes == pytest.approx(energy)


@pytest.mark.lasting
def test_a_model_is_evaluated_and_gets_its_card(tmp_path, model, gallery, learned, capsys):
    recipe, pieces = tmp_path / "recipe.yaml", tmp_path / "pictures.npy"
    settings = {**RECIPE.as_dict(), "steps": 2}
    recipe.write_text(json.dumps(settings))  # JSON is YAML
    np.save(pieces, gallery)
    learned.save(tmp_path / "classifier.safetensors")
    common = [str(model), "--config", str(recipe), "--data", "photos"]
    judged = [*common, "--pictures", str(pieces), "--classifier", str(tmp_path / "classifier.safetensors")]
    judged += ["--steps", "2", "--count", "1", "--out", str(tmp_path / "out.json")]
    evaluation.main([*judged, "--guidance", "1", "2"])
    assert capsys.readouterr().out.count("guidance") == 2
    assert not (tmp_path / "out.json").exists()

    evaluation.main([*judged, "--grid", str(model / "samples.png"), "--pairs", str(tmp_path / "pairs.png")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["sampler"]["guidance scale"] == 3
    assert 0 <= result["recognised"]["both"] <= 1
    assert result["memorisation"]["pixels"]["ratio of medians"] > 0.1
    assert (tmp_path / "pairs.png").is_file()

    (tmp_path / "log.csv").write_text("step,loss\n1,0.9\n2,0.7\n")
    given = ["--config", str(recipe), "--evaluation", str(tmp_path / "out.json"), "--log", str(tmp_path / "log.csv")]
    card.main([str(model), *given, "--hardware", "one abacus", "--hours", "0.5"])
    text = (model / "README.md").read_text(encoding="utf-8")
    for part in (
        "one abacus",
        "64 pictures seen",
        "CC BY 4.0",
        "CC0",
        "MIT",
        "| coffee |",
        "loss of the last",
        "0.7000",
    ):
        assert part in text
    assert "every_style" not in text
    assert json.loads((model / "weights.json").read_text()) == card.file_hashes(model)

    result["weights"] = {}
    (tmp_path / "out.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match="of other weights"):
        card.main([str(model), *given, "--hardware", "one abacus", "--hours", "0.5"])


class Averaging:
    """An autoencoder whose latents are the averages of 2x2 pixels: it loses the finest band, and nothing else."""

    def encode(self, x):
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=torch.nn.functional.avg_pool2d(x, 2)))

    def decode(self, latents):
        return SimpleNamespace(sample=torch.nn.functional.interpolate(latents, scale_factor=2.0))


def test_an_autoencoder_that_averages_loses_the_finest_band(learned, held_out):
    real, captions = held_out[0][::7], held_out[1][::7]
    found = roundtrip.lost(Averaging(), real, captions, learned, RECIPE)
    assert list(found["lost"]) == ["16x16", "8x8", "4x4", "2x2", "1x1"]
    finest, *others = found["lost"].values()
    assert finest == pytest.approx(1, abs=0.02)
    assert max(others) < 0.01, "of rounding to 8 bits"
    gone, *whole = found["energy"].values()
    assert gone < 0.02
    assert np.allclose(whole, 1, atol=0.02)
    colours = np.moveaxis(real / 127.5 - 1, -1, 1)
    weights = (1 / np.bincount(captions))[captions]
    expected = np.average(np.mean(bands(colours)[0] ** 2, axis=(1, 2, 3)), weights=weights)
    assert found["root mean square error"] == pytest.approx(np.sqrt(expected), rel=0.02)
    returned = classifier.shares(learned.name(roundtrip.returned(Averaging(), real)), captions, RECIPE)
    assert found["recognised"] == returned


@pytest.mark.lasting
def test_a_model_in_latents_gets_a_card_that_says_what_its_autoencoder_loses(tmp_path, gallery, learned):
    from reschrom.train.models import build

    encoder = replace(RECIPE, kind="autoencoder", channels=(8, 16))
    build(encoder).save_pretrained(tmp_path / "encoder")
    recipe, folder = replace(RECIPE, autoencoder=str(tmp_path / "encoder")), tmp_path / "tiny"
    build(recipe).save_pretrained(folder)
    for name, each in {"recipe": recipe, "encoder": encoder}.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps(each.as_dict()))
    np.save(tmp_path / "pictures.npy", gallery)
    learned.save(tmp_path / "classifier.safetensors")
    common = [str(folder), "--config", str(tmp_path / "recipe.yaml")]
    given = {"data": "photos", "pictures": tmp_path / "pictures.npy", "classifier": tmp_path / "classifier.safetensors"}
    given |= {"steps": 2, "count": 1, "out": tmp_path / "out.json"}
    evaluation.main([*common, *(str(word) for name, value in given.items() for word in (f"--{name}", value))])
    measured = json.loads((tmp_path / "out.json").read_text())
    assert any(name.startswith("vae/") for name in measured["weights"])
    lost = measured["autoencoder"]["lost"]

    for name, loss in {"log": 0.7, "encoder": 0.25}.items():
        (tmp_path / f"{name}.csv").write_text(f"step,loss\n1,{loss}\n")
    common += ["--evaluation", str(tmp_path / "out.json"), "--hardware", "one abacus", "--hours", "0.5"]
    own = [*common, "--log", str(tmp_path / "log.csv")]
    with pytest.raises(ValueError, match="draws in latents: the recipe and the log of its autoencoder are needed"):
        card.main(own)
    card.main([*own, "--autoencoder", str(tmp_path / "encoder.yaml"), str(tmp_path / "encoder.csv")])
    text = (folder / "README.md").read_text(encoding="utf-8")
    for part in (
        "`StableDiffusionPipeline`",
        "16x16 pixels into latents of 8x8 in 4 channels,\n3 times fewer numbers",
        "steps: 0.7000",
        "steps: 0.2500",
        f"the error is {100 * lost['16x16']:.1f} %",
        f"and what comes back has {100 * measured['autoencoder']['energy']['16x16']:.1f} %",
        "in letters and in pieces of its own words,",
        "| kind | autoencoder |",
    ):
        assert part in text
    assert text.count("snr_limit") == 1, "an autoencoder has no such weights"
    assert "| schedule |" not in text, "it is that of Stable Diffusion"
    assert "T5" not in text
    pixels = replace(RECIPE, kind="image")
    with pytest.raises(ValueError, match="draws in pixels: no autoencoder belongs in its card"):
        card.write_card(folder, pixels, None, [0.9], "one abacus", 0.5, autoencoder=card.Autoencoder(encoder, [0.9]))


def test_a_card_tells_what_training_began_with_and_the_sizes_seen(tmp_path):
    from reschrom.train.models import build

    first = replace(RECIPE, kind="image", size=8)
    build(first).save_pretrained(tmp_path / "first")
    card.write_card(
        tmp_path / "first", replace(first, halvings=1, start="models/begun"), None, [0.9], "one abacus", 0.5
    )
    text = (tmp_path / "first" / "README.md").read_text(encoding="utf-8")
    for part in ("8x8 pixels, 4x4", "twice as many at half the side", "begins with the weights of `begun`"):
        assert part in text
    assert "no other model" not in text
    assert "| halvings | 1 |" in text


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("image", "`DDIMPipeline`, DDIM, 64 pictures seen"),
        ("residual", "`DDIMPipeline`, CascadedUNet, 64 pictures seen"),
        ("dvdp", "`DVDPPipeline`, Ancestral, DVDPPipeline.from_pretrained, twice as many at half the side"),
    ],
)
def test_a_model_without_captions_gets_a_card_without_an_evaluation(tmp_path, kind, about):
    from reschrom.train.models import build

    level = replace(RECIPE, kind=kind, size=8, level=1)
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "tiny"
    recipe.write_text(json.dumps(level.as_dict()))
    build(level).save_pretrained(folder)
    (tmp_path / "log.csv").write_text("step,loss\n1,0.9\n2,0.7\n")
    given = ["--config", str(recipe), "--log", str(tmp_path / "log.csv"), "--hardware", "one abacus", "--hours", "0.5"]
    card.main([str(folder), *given])
    text = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("one abacus", "30\nminutes", "MIT", "8x8 pixels", "averaged over 2x2", "0.7000", *about.split(", ")):
        assert part in text
    assert ("samples.png" in text) == (kind != "residual")
    assert ("turning_points" in text) == (kind == "dvdp")
    assert "halvings" not in text
    assert "text_width" not in text
    assert "| every_style | False |" in text
    assert json.loads((folder / "weights.json").read_text()) == card.file_hashes(folder)
    recipe.write_text(json.dumps(RECIPE.as_dict()))
    with pytest.raises(ValueError, match="an evaluation of the weights"):
        card.main([str(folder), *given])


def test_a_card_says_the_precision_that_was_chosen(tmp_path):
    from reschrom.train.models import build

    level = replace(RECIPE, kind="image", precision="auto")
    recipe, folder = tmp_path / "recipe.yaml", tmp_path / "tiny"
    recipe.write_text(json.dumps(level.as_dict()))
    build(level).save_pretrained(folder)
    (tmp_path / "log.csv").write_text("step,loss\n1,0.9\n")
    given = ["--config", str(recipe), "--log", str(tmp_path / "log.csv"), "--hardware", "one abacus", "--hours", "0.5"]
    with pytest.raises(ValueError, match="in which precision a model was trained: no checkpoint is beside"):
        card.main([str(folder), *given])
    checkpoints.save(tmp_path / "checkpoints", 1, {"a": torch.ones(2)}, replace(level, precision="bf16"))
    card.main([str(folder), *given])
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| precision | bf16 |" in text
    assert "consistency" not in text
    assert "autoencoder" not in text


def test_a_sample_is_the_same_in_any_batch(model):
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(model)
    together = evaluation.sample(pipeline, RECIPE.captions[:2], 2, 2.0, 2, seed=5)
    alone = evaluation.sample(pipeline, RECIPE.captions[1:2], 1, 2.0, 2, seed=7)
    np.testing.assert_allclose(together[2].astype(int), alone[0].astype(int), atol=1)
    assert np.abs(together[2].astype(int) - together[3]).max() > 10


@pytest.mark.lasting
def test_losses_on_held_out_pictures_are_kept(tmp_path, model):
    from diffusers import DiffusionPipeline

    path = tmp_path / "losses.safetensors"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(RECIPE.as_dict()))
    given = [str(model), "--config", str(recipe), "--data", "photos", "--times", "3", "--most", "5"]
    networks.main([*given, "--captions", RECIPE.captions[0], "", "--out", str(path)])
    times, measured = losses.load(path)
    np.testing.assert_array_equal(times, [0, 499.5, 999])
    assert list(measured) == [RECIPE.captions[0], ""]
    for each in measured.values():
        assert each.pictures == 5
        assert each.losses.mean.shape == each.losses.standard_error.shape == (5, 3)
        assert each.losses.replicates.shape[1:] == (5, 3)
        assert np.all(each.losses.mean[:, 0] < each.energies), "next to no noise hides nothing"
    pipeline = DiffusionPipeline.from_pretrained(model)
    with pytest.raises(ValueError, match="got a cat"):
        networks.measure(pipeline, RECIPE, "photos", ["a cat"], times, 5)
    path.write_text("nothing")
    with pytest.raises(ValueError, match=r"losses.safetensors holds no losses"):
        losses.load(path)
