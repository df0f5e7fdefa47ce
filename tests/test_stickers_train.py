"""The training modules against transformers' classes, the packing, the gates, and a whole tiny training run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaNextForConditionalGeneration

from script_core.stickers import benchmark, presets, train
from script_core.stickers.batches import (
    BACKGROUND,
    Recipe,
    ask_all,
    choose,
    picture,
    symbolic_facts,
    visual_batch,
)
from script_core.stickers.checkpoints import build, finished_kit, weights
from script_core.stickers.curriculum import LAST, STAGES
from script_core.stickers.export import to_transformers
from script_core.stickers.gates import auc
from script_core.stickers.held_out import held_out
from script_core.stickers.losses import Words, place_code, symbols
from script_core.stickers.model import Sizes, TinyLlava
from script_core.stickers.packing import pack, positions_and_mask  # fmt: skip
from script_core.stickers.questions import VOCABULARY, Question
from script_core.stickers.scenes import make_scene
from script_core.stickers.tokenizer import BOS, EOS, IMAGE, UNK, build_tokenizer, encode, word_ids

IDS = word_ids(VOCABULARY)


@pytest.fixture(scope="module")
def model() -> TinyLlava:
    torch.manual_seed(3)
    small = {"vit_width": 48, "vit_layers": 3, "joint": 16, "width": 32, "layers": 3, "heads": 2, "mlp": 48}
    made = TinyLlava(Sizes(len(IDS), **small))
    with torch.no_grad():  # large weights, so that a wrong position or a swapped matrix shows
        for p in made.parameters():
            p.add_(0.15 * torch.randn_like(p))
        made.spread.add_(1.0)
    return made.eval()


@pytest.fixture(scope="module")
def scenes() -> list:
    rng = np.random.default_rng(5)
    return [make_scene(rng) for _ in range(2)]


def test_packed_questions_get_the_logits_that_transformers_gives_each_of_them(model, scenes) -> None:
    rng = np.random.default_rng(0)
    asked = ask_all(scenes, Recipe(count=4), rng)
    raw, _, _ = visual_batch([picture(s, 336) for s in scenes], None)
    pixels = raw.float() / 127.5 - 1
    packed = pack(scenes, asked, IDS)
    places = torch.arange(1, 577).expand(2, -1)
    positions, mask = positions_and_mask(packed, places, torch.float32)
    with torch.no_grad():
        visual = model.project(model.vision(pixels, None)[:, 1:])
        states, _ = model.language(visual, packed.ids, positions, mask)
        ours = model.language.logits(states[-1])
    llava, _ = to_transformers(model)
    images = raw.view(2, 24, 24, 14, 14, 3).permute(0, 5, 1, 3, 2, 4).reshape(2, 3, 336, 336).float() / 127.5 - 1
    plain = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=llava.config.vision_config,
            text_config=llava.config.text_config,
            image_token_index=IMAGE,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
            projector_hidden_act="gelu",
        )
    ).eval()
    missing, unexpected = plain.load_state_dict(llava.state_dict(), strict=False)
    assert not missing and unexpected == ["model.image_newline"]
    for b in range(2):
        for s in range(3):
            mine = packed.segment[b] == s
            ids = torch.cat([torch.tensor([BOS] + [IMAGE] * 576), packed.ids[b][mine]])[None]
            with torch.no_grad():
                out = plain(input_ids=ids, pixel_values=images[b : b + 1], attention_mask=torch.ones_like(ids))
                theirs = out.logits
            torch.testing.assert_close(ours[b][mine], theirs[0, 577:], atol=2e-4, rtol=1e-3)


def test_vision_states_and_joint_space_equal_those_of_the_exported_tower(model, scenes) -> None:
    raw, _, _ = visual_batch([picture(scenes[0], 336)], None)
    image = raw.view(1, 24, 24, 14, 14, 3).permute(0, 5, 1, 3, 2, 4).reshape(1, 3, 336, 336).float() / 127.5 - 1
    llava, _ = to_transformers(model)
    with torch.no_grad():
        ours = model.vision(raw.float() / 127.5 - 1, None)
        out = llava.model.vision_tower(image, output_hidden_states=True)
        torch.testing.assert_close(ours, out.hidden_states[-2], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(out.hidden_states[-1], out.hidden_states[-2])  # the unread layer is the identity
        joint = llava.model.vision_tower.post_layernorm(out.hidden_states[-2]) @ model.vision.projection.T
        torch.testing.assert_close(model.vision.joint(ours), joint, atol=1e-4, rtol=1e-4)


def test_exported_text_tower_pools_as_in_training(model) -> None:
    _, text = to_transformers(model)
    tokenizer = build_tokenizer(IDS, frame=True)
    questions = ["is there a dog ?", "what colour is the car ?", "Is there an apple in the picture?"]
    batch = tokenizer(questions, padding=True, return_tensors="pt")
    assert batch["input_ids"][0].tolist()[:7] == [BOS, *encode(IDS, questions[0]), EOS]
    ends = (batch["input_ids"] == EOS).int().argmax(1)
    with torch.no_grad():
        theirs = text(**batch).text_embeds
        torch.testing.assert_close(model.text(batch["input_ids"], ends), theirs, atol=1e-4, rtol=1e-4)


def test_questions_of_a_scene_do_not_see_each_other(model, scenes) -> None:
    rng = np.random.default_rng(1)
    asked = ask_all(scenes, Recipe(count=5), rng)
    facts = symbolic_facts(scenes, 20, rng)
    words = Words.of(IDS | {"": 0})
    with torch.no_grad():
        visual = torch.randn(2, 20, 32)
        assert symbols(model, facts, words).shape == (2, 20, 32)

        def states(rows: list) -> torch.Tensor:
            packed = pack(scenes, rows, IDS)
            positions, mask = positions_and_mask(packed, torch.arange(1, 21).expand(2, -1), torch.float32)
            return model.language(visual, packed.ids, positions, mask)[0][-1]

        together, alone = states(asked), states([rows[:1] for rows in asked])
    first = len(asked[0][0].text.split()) + 1
    torch.testing.assert_close(together[0, :first], alone[0, :first], atol=1e-5, rtol=1e-5)


def test_packing_predicts_the_answer_words_then_the_end(scenes) -> None:
    rng = np.random.default_rng(2)
    asked = ask_all(scenes, Recipe(count=6), rng)
    packed = pack(scenes, asked, IDS)
    flat = [q for row in asked for q in row]
    for i, question in enumerate(flat):
        assert packed.label[packed.owner == i].tolist() == [*encode(IDS, question.answer), EOS]
    assert not (packed.ids == UNK).any()
    for (b, t), (x, y) in zip(packed.point_at.tolist(), packed.point_xy.tolist(), strict=True):
        assert any(abs(s.x - x) < 1e-6 and abs(s.y - y) < 1e-6 for s in scenes[b].stickers)
        assert packed.segment[b, t] >= 0


def test_every_word_has_a_token_and_strangers_do_not() -> None:
    tokenizer = build_tokenizer(IDS)
    assert tokenizer.decode(tokenizer("Is there a dog?")["input_ids"]) == "is there a dog ?"
    assert tokenizer("zeitgeist")["input_ids"] == [UNK]
    message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a dog ?"}]}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    assert tokenizer(text)["input_ids"] == [BOS, IMAGE, *encode(IDS, "is there a dog ? :")]


def test_position_code_is_linear_enough_to_read_and_names_are_told_apart(model, scenes) -> None:
    xy = torch.rand(200, 2)
    code = torch.cat([place_code(xy, 256), torch.ones(200, 1)], 1)
    assert torch.linalg.lstsq(code, xy).solution.shape == (257, 2)
    near, far = (
        place_code(torch.tensor([[0.5, 0.5], [0.52, 0.5], [0.9, 0.1]]), 256)[1:]
        .sub(place_code(torch.tensor([[0.5, 0.5]]), 256))
        .norm(dim=1)
    )
    assert near < 0.5 * far


def test_choosing_patches_keeps_the_asked_number_in_raster_order_and_favours_stickers() -> None:
    owner = np.where(np.arange(576) < 100, 0, BACKGROUND)
    rng = np.random.default_rng(0)
    kept = [choose(owner, 144, rng, 3.0) for _ in range(20)]
    assert all(len(k) == 144 and (np.diff(k) > 0).all() for k in kept)
    share = np.mean([(k < 100).mean() for k in kept])
    assert share > 1.5 * 100 / 576


def test_auc_by_hand() -> None:
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75
    assert auc(np.array([1.0, 1.0]), np.array([True, False])) == 0.5


def test_the_smoke_preset_ends_in_a_checkpoint_that_transformers_loads(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "checkpoint"
    command = [sys.executable, "-m", "script_core.stickers.train", "--preset", "smoke", "--out", str(tmp_path)]
    done = subprocess.run([*command, "--destination", str(folder)], cwd=presets.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all((tmp_path / f"{name}.gate.json").exists() for name in STAGES) and (tmp_path / "curves.png").exists()
    loaded, report = LlavaNextForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    kit = finished_kit(presets.PRESETS["smoke"], tmp_path, LAST)
    torch.testing.assert_close(
        loaded.model.language_model.embed_tokens.weight, kit.model.language.tokens.detach(), atol=1e-3, rtol=1e-3
    )
    assert json.loads((folder / "relevance.json").read_text()) == {"sign": 1, "space": "joint"}
    processor = AutoProcessor.from_pretrained(folder)
    image = np.zeros((336, 336, 3), np.uint8)
    batch = processor(images=image, text="<s><image>is there a dog ? :", return_tensors="pt")
    out = loaded.generate(**batch, max_new_tokens=2, do_sample=False)
    assert out.shape[1] > batch["input_ids"].shape[1]
    for mode, tokens in (("image", 576), ("video", 1152)):  # read from the folder as the embedded model is
        benchmark.main(["--model", str(folder), "--mode", mode, "--questions", "2", "--json"])
        told = json.loads(capsys.readouterr().out)
        assert told["budget"] == tokens and sum(told["counts"][kind] for kind in told["accuracy"]) >= 2


@pytest.mark.parametrize("name", ["align", "modes", "order"])
def test_a_stage_that_steps_bound_is_reproducible_to_the_bit(tmp_path: Path, name: str) -> None:
    small = {"vit_width": 48, "vit_layers": 3, "width": 32, "layers": 3, "heads": 2, "mlp": 48, "joint": 16}
    lengths = {name: replace(presets.PRESETS["smoke"].stages[name], steps=2, batch=2)}
    preset = replace(presets.PRESETS["smoke"], sizes=small, gate_scenes=8, stages=lengths)
    found = []
    for run in ("once", "again"):
        out = tmp_path / run
        out.mkdir()
        (out / "vocabulary.json").write_text(json.dumps(IDS))
        torch.manual_seed(0)
        kit = build(preset, IDS, train.TRAINING_SEED, 2)
        torch.save({"weights": weights(kit)}, out / f"{'modes' if name == 'order' else 'tune'}.pt")
        train.run_stage(name, preset, out, train.TRAINING_SEED)
        found.append(torch.load(out / f"{name}.pt", weights_only=True)["weights"])
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
    start = {key: value.bfloat16().float() for key, value in weights(kit).items()}
    assert any(not torch.equal(value.bfloat16().float(), start[key]) for key, value in found[0].items())


def test_training_seeds_below_the_held_out_range_are_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        train.main(["--preset", "smoke", "--seed", "77"])
    assert "held out" in capsys.readouterr().err


def test_held_out_scenes_are_the_same_for_every_method_and_never_training_ones() -> None:
    once, again = (list(held_out(77, 20)) for _ in range(2))
    assert once == again and sum(len(sheet.asked) for sheet in once) == 20
    assert once[0] != next(iter(held_out(78, 20)))
    with pytest.raises(ValueError, match="not held out"):
        next(iter(held_out(train.TRAINING_SEED, 1)))


def test_summary_averages_positions_over_kinds_and_splits_existence() -> None:
    def asked(kind: str, answer: str, given: str) -> benchmark.Asked:
        return benchmark.Asked(0, Question("?", answer, kind), given)

    found = [
        asked("existence", "yes", "yes"),
        asked("existence", "no", "yes"),
        asked("where", "top", "top"),
        asked("where", "top", "left"),
        asked("leftright", "left", "left"),
    ]
    report = benchmark.summarise(found)
    assert report["accuracy"]["existence"] == 0.5 and report["accuracy"]["yes"] == 1.0 and report["accuracy"]["no"] == 0
    assert report["accuracy"]["position"] == 0.75 and report["counts"]["position"] == 3


def test_a_gate_reads_the_figure_it_is_named_for() -> None:
    gate = presets.Gate(("accuracy", "existence"), 0.9)
    assert gate.failure({"accuracy": {"existence": (0.91, 400)}}) is None
    assert "accuracy / existence is 0.890" in str(gate.failure({"accuracy": {"existence": (0.89, 400)}}))
    assert presets.Gate(("auc",), 0.98).failure({"auc": 0.99}) is None
    assert set(presets.PRESETS["cpu"].gates) == set(STAGES) == set(presets.PRESETS["cpu"].stages)


@pytest.mark.parametrize(("name", "limit"), [("cpu", 150), ("gpu", 20)])
def test_the_recipes_keep_to_their_time_with_their_gates(name: str, limit: float) -> None:
    minutes = {stage: length.minutes for stage, length in presets.PRESETS[name].stages.items()}
    side_by_side = max(minutes.pop("align"), minutes.pop("symbols"))
    gate = 1 if name == "cpu" else 0.15
    assert side_by_side + sum(minutes.values()) <= limit - gate * len(STAGES)
