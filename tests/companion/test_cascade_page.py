"""The page of the cascade at the paper's settings, training included, with a tiny folder behind the hub id."""

import io

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pages import run_page
from PIL import Image
from pyarrow import parquet

SMALL = {"samples": 4, "steps": 3, "shown": 2, "shown_step": 1, "device": "cpu"}
TINY = {"pieces": 6, "channels": [8, 16, 16], "steps": 2, "batch": 2, "warmup": 1, "precision": "no"}


@pytest.mark.slow
def test_the_page_trains_its_models_and_runs_with_the_papers_settings_when_only_the_id_is_changed(
    root, tmp_path, monkeypatch
):
    monkeypatch.chdir(root)
    random = np.random.default_rng(0)
    column = []
    for _ in range(40):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (78, 64, 3), np.uint8)).save(file, "png")
        column.append({"bytes": file.getvalue(), "path": None})
    (tmp_path / "faces").mkdir()
    parquet.write_table(pa.table({"image": column}), tmp_path / "faces" / "train-00000.parquet", row_group_size=16)
    profile = yaml.safe_load((root / "profiles" / "paper.yaml").read_text())["figures/cascade"]
    ids = {name: str(tmp_path / profile[name]) for name in ("low_id", "residual_id", "direct_id")}
    here = {"data": str(tmp_path / "faces"), "trained": list(ids.values()), "settings": profile["settings"] | TINY}
    source = root / "notebooks" / "figures" / "cascade.md"
    assert len(run_page(source, {**profile, **SMALL, **ids, **here})) == source.read_text().count("mystnb:")
    assert all((tmp_path / path / "model_index.json").is_file() for path in profile["trained"])
