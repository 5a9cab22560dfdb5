"""The notebooks of measured models at the paper's settings, with a tiny model of the same classes behind the id."""

import re
from typing import Any

import pytest
import yaml
from pages import run_page
from tiny import deepfloyd
from transformers import T5Tokenizer

from reschrom.companion.build.notebook import declared_parameters, read_source

# What keeps a run short; everything else is as profiles/paper.yaml has it.
SMALL: dict[str, dict[str, Any]] = {
    "figures/coarse-to-fine": {"samples": 4, "batch": 3, "steps": 4, "shown_steps": 5, "columns": 3},
    "figures/generation-rates": {"images": 3, "steps": 4},
    "figures/guidance": {"images": 3, "steps": 4, "columns": 3},
    "figures/prompts": {"images": 2, "steps": 4, "shown": 2, "resolution": 2},
}


@pytest.fixture(scope="session")
def hub_id(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of the classes and the scheduler of DeepFloyd/IF-I-XL-v1.0, as a hub id would be downloaded."""
    folder = tmp_path_factory.mktemp("hub") / "tiny-if"
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0), *((x, -8.0) for x in "acdeghinorst")]
    pipeline = deepfloyd()
    pipeline.register_modules(tokenizer=T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=77))
    pipeline.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")  # two images leave bands without one
@pytest.mark.parametrize("notebook", SMALL)
def test_a_notebook_runs_with_the_papers_settings_when_only_the_id_is_changed(notebook, hub_id, root, monkeypatch):
    monkeypatch.chdir(root)
    profile = yaml.safe_load((root / "profiles" / "paper.yaml").read_text())[notebook]
    assert profile["model_id"] == "DeepFloyd/IF-I-XL-v1.0"
    here = {"model_id": hub_id, "device": "cpu", "precision": "float32"}
    source = root / "notebooks" / f"{notebook}.md"
    figures = run_page(source, {**profile, **SMALL[notebook], **here})
    assert len(figures) == source.read_text().count("mystnb:")


@pytest.mark.parametrize("notebook", SMALL)
def test_captions_name_the_default_parameters(notebook, root):
    source = root / "notebooks" / f"{notebook}.md"
    given = declared_parameters(read_source(source))
    wanted = {
        "samples": [given.get("samples", given.get("images"))],
        "steps": [given["steps"], given.get("shown_steps")],
    }
    captions = re.findall(r"    caption: \|\n((?:      .*\n)+)", source.read_text())
    named = [pair for caption in captions for pair in re.findall(r"(\d+) (samples|steps)", caption)]
    assert named
    for number, what in named:
        assert int(number) in wanted[what]
    for number in re.findall(r"guidance (\d+)", " ".join(captions)):
        assert float(number) == given["guidance"]
