"""What a checkpoint brings beside its weights: questions, templates, the joint space; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from script_core.backends import EMBEDDED_FOLDER, KNOWN, describe, load
from script_core.backends.base import CannotLoad
from script_core.backends.checkpoint import VICUNA
from script_core.engine import Engine
from tests import tiny
from tests.tiny import picture


def test_the_query_holds_the_question_and_nothing_else(llava: Engine) -> None:
    query = llava.backend.query("abc")
    ids = [llava.backend.prompt_ids("abc")[1]]
    assert query.features.shape == (3, 48) and query.joint.shape == (1, 24)
    embedded = llava.backend.language_model.embed_tokens(torch.tensor(ids))[0]
    assert any(torch.equal(embedded[i : i + 3], query.features) for i in range(len(embedded)))


def test_long_questions_are_cut_into_segments_of_their_own(llava: Engine) -> None:
    question = "abcdefghijklmnopqr" * 2 + "xyz"  # 18 + 18 + 3 tokens; the tiny text tower has room for 18
    joint = llava.backend.query(question).joint
    assert joint.shape == (3, 24)
    assert torch.allclose(joint[0], llava.backend.query("abcdefghijklmnopqr").joint[0], atol=1e-6)
    assert torch.allclose(joint[0], joint[1])
    assert torch.allclose(joint[2], llava.backend.query("xyz").joint[0], atol=1e-6)


def test_patches_reach_the_joint_space_through_norm_and_projection(llava: Engine, llava_folder: Path) -> None:
    from safetensors.torch import load_file

    tokens = llava.encode(picture(90, 90)).tokens
    weight = load_file(llava_folder / "joint" / "visual_projection.safetensors")["visual_projection.weight"]
    norm = llava.backend.model.model.vision_tower.post_layernorm
    with torch.no_grad():
        expected = norm(tokens.encoder.hidden[0, 1:]) @ weight.T
    assert torch.allclose(tokens.joint, expected, atol=1e-5)
    assert tokens.relevance_sign == 1.0


def test_without_a_joint_space_relevance_uses_the_language_model(tmp_path: Path) -> None:
    engine = Engine.load(tiny.save_llava(tmp_path, joint=False), device="cpu")
    assert "joint" not in engine.info.offers
    assert engine.encode(picture(90, 90)).tokens.joint is None
    assert len(engine.ask(picture(90, 90), "a?", budget=5, max_new_tokens=2).selection.kept) == 5


def test_templates(llava: Engine, llava_folder: Path, tmp_path: Path) -> None:
    tokenizer: Any = tiny.tokenizer()
    before, after = llava.backend.prompt_ids("is it <image> </s>?")
    assert tokenizer.decode(before) == "USER: " and tokenizer.decode(after) == "\nis it    ? ASSISTANT:"
    shutil.copytree(llava_folder, tmp_path / "plain")
    (tmp_path / "plain" / "chat_template.jinja").unlink()
    plain: Any = load(tmp_path / "plain", device="cpu")
    assert plain._template == VICUNA
    before, after = plain.prompt_ids("is it?")
    assert tokenizer.decode(before + after) == "USER: \nis it? ASSISTANT:"
    (tmp_path / "plain" / "chat_template.json").write_text(json.dumps({"chat_template": "Q <image>"}))
    assert load(tmp_path / "plain", device="cpu")._template == "Q <image>"  # type: ignore[attr-defined]


def refused(name: Any, **options: Any) -> str:
    with pytest.raises(CannotLoad) as caught:
        load(name, **{"device": "cpu", **options})
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


def test_models_that_cannot_be_loaded(llava_folder: Path, tmp_path: Path) -> None:
    assert "no folder" in refused("/no/such/folder")
    assert "no config.json" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read" in refused(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "'bert'" in refused(tmp_path)
    assert "float16, bfloat16 or float32" in refused(llava_folder, dtype="int8")
    assert "not a device" in refused(llava_folder, device="abacus")

    broken = tmp_path / "broken"
    shutil.copytree(llava_folder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "cannot be loaded" in refused(broken)
    weights.unlink()
    assert "cannot be loaded" in refused(broken)


def test_weights_that_lack_a_part_are_refused(llava_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "half"
    shutil.copytree(llava_folder, folder)
    held = load_file(folder / "model.safetensors")
    gone = next(name for name in held if "language_model" in name and "q_proj" in name)
    save_file({name: t for name, t in held.items() if name != gone}, folder / "model.safetensors", {"format": "pt"})
    assert "lack" in refused(folder)


def test_pickled_weights_are_refused(llava_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = tmp_path / "pickled"
    shutil.copytree(llava_folder, folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in refused(folder)


def test_a_whole_clip_gives_the_same_space_as_its_parts(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    from script_core.backends.joint import from_clip

    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 24,
    }
    text = CLIPTextConfig(**shape, vocab_size=260, max_position_embeddings=20, bos_token_id=1, eos_token_id=2)
    vision = CLIPVisionConfig(**shape, image_size=28, patch_size=14)
    model = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)).eval()
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    space = from_clip(str(tmp_path), torch.device("cpu"))
    with torch.no_grad():
        theirs = model.get_text_features(input_ids=torch.tensor([[1, 50, 60, 2]])).pooler_output
        pixels = torch.randn(1, 3, 28, 28)
        hidden = model.vision_model(pixels).last_hidden_state
        image = model.get_image_features(pixel_values=pixels).pooler_output
    words = tiny.tokenizer().decode([50, 60])
    assert torch.allclose(space.text(words), theirs, atol=1e-5)
    assert torch.allclose(space.visual(hidden[:, 0]), image, atol=1e-5)  # CLIP pools by its CLS state
    assert space.sign == -1.0


def test_sizes_are_told_before_anything_is_fetched() -> None:
    for name in KNOWN:
        assert "download of" in describe(name) and "GB of GPU memory" in describe(name)
    assert "nothing to download" in describe("stickers")
    assert "nothing to download" in describe(str(EMBEDDED_FOLDER))
    assert "not a model that this project knows" in describe("someone/something")
