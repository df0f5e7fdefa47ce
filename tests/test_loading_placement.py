"""Where weights go: one device or several, in how many bits, and what of that is known without reading them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from script_core.backends import EMBEDDED, Wish, load, locate
from script_core.backends.base import CannotLoad
from script_core.backends.placement import WHOLE, Placement, place, share_out, units
from tests import tiny_families
from tests.hub import ROOMY


def test_layers_are_shared_out_by_free_memory() -> None:
    assert share_out(32, [10, 10], 0) == (16, 16)
    assert share_out(32, [24, 8], 8) == (21, 11)  # 16 : 8 once the first holds the rest
    assert share_out(28, [5, 20, 20], 9) == (0, 14, 14)
    assert sum(share_out(27, [3, 7, 11], 1)) == 27
    with pytest.raises(CannotLoad, match="no memory free"):
        share_out(4, [1, 0], 2)


def test_a_model_is_spread_where_one_gpu_is_too_small() -> None:
    kind = torch.bfloat16
    assert place("cuda", kind, gpus=[10, 10], weighs=15).gpus == (10, 10)
    assert place("cuda", kind, gpus=[20, 10], weighs=15).gpus == ()
    assert place("auto", kind, gpus=[20, 10], weighs=15).device == torch.device("cuda:0")
    assert place("auto", kind, gpus=[20], weighs=15) == Placement(torch.device("cuda"), kind)
    assert place("auto", kind).device == torch.device("cpu")
    with pytest.raises(CannotLoad, match="8bit or 4bit"):
        place("cpu", kind, bits="3bit")


def test_every_weight_has_a_place_and_layers_stay_whole(llava: Any, llava_next: Any) -> None:
    for engine in (llava, llava_next):
        model = engine.backend.model
        names = list(units(model))
        for weight, _ in model.named_parameters():
            assert sum(weight == name or weight.startswith(f"{name}.") for name in names) == 1, weight
        layers = [name for name in names if name.startswith("model.language_model.layers")]
        assert layers == [f"model.language_model.layers.{i}" for i in range(len(engine.backend.language_model.layers))]


@pytest.mark.parametrize("family", ["llava", *tiny_families.FAMILIES])
def test_only_the_language_model_loses_bits(family: str, tmp_path: Path, llava_folder: Path) -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    folder = llava_folder if family == "llava" else tiny_families.save(family, tmp_path / family)
    model = load(folder, device="cpu").model  # type: ignore[attr-defined]
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    fewer = [name for name in linear if should_convert_module(name, WHOLE)]
    assert fewer == [name for name in linear if name.startswith("model.language_model.")]
    assert 0 < len(fewer) < len(linear)


def test_device_and_precision_are_told(llava: Any) -> None:
    assert llava.info.placed == "cpu \u00b7 float32"
    spread = Placement(torch.device("cuda:0"), torch.bfloat16, "4bit", (1, 1))
    assert spread.shown() == "cuda:0 \u00b7 bfloat16 \u00b7 4-bit weights \u00b7 layers on 2 GPUs"


def test_a_checkpoint_is_located_without_being_read(llava_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(llava_folder, folder)
    (folder / "model.safetensors").write_bytes(b"")
    found = locate(Wish(str(folder), "cpu"), machine=ROOMY)
    assert (found.family, found.placement.dtype, found.title) == ("llava", torch.float32, "copy")
    assert set(EMBEDDED) >= {"stickers"} and locate(Wish("stickers", "cpu")).folder.name == "stickers"


@pytest.mark.parametrize("text", ["[]", "3", "null", '"llava"'])
def test_settings_that_are_none_are_refused_in_a_sentence(llava_folder: Path, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(llava_folder, folder)
    (folder / "config.json").write_text(text)
    with pytest.raises(CannotLoad, match="config.json in .* holds no settings; fetch the checkpoint again[.]$"):
        locate(Wish(str(folder), "cpu"), machine=ROOMY)


def test_an_architecture_that_is_no_list_is_not_searched(llava_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": 3, "model_type": "other"}')
    with pytest.raises(CannotLoad, match="is a 'other' model"):
        locate(Wish(str(tmp_path), "cpu"), machine=ROOMY)
