"""Loaded pipelines: laid out for the processor that runs them, and otherwise what was saved."""

import tiny
import torch
from safetensors.torch import load_file

from reschrom import load_pipeline

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def test_convolutions_run_channels_last_on_a_processor_and_nothing_else_changes(tmp_path):
    pipeline = tiny.ddim()
    pipeline.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain, ours = (each.unet.eval()(x, 500).sample for each in (pipeline, loaded))
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
    loaded.save_pretrained(tmp_path / "again")
    first, again = (load_file(folder / WEIGHTS) for folder in (tmp_path, tmp_path / "again"))
    assert all(torch.equal(again[name], weight) and again[name].is_contiguous() for name, weight in first.items())
