"""The image-text space of a CLIP tower, where a patch and a question can be compared.

LLaVA keeps CLIP's vision tower but not its text tower. The missing parts (text tower and the two projections, 124
million parameters for CLIP ViT-L/14-336) come from a checkpoint's own `joint` folder, or from CLIP's hub repository
if the vision tower has that shape and the repository can be had. Without them relevance falls back to the language
model's space.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CLIP = "openai/clip-vit-large-patch14-336"


@dataclass(frozen=True, eq=False)
class JointSpace:
    """Text tower, tokenizer, and the way of a patch into the space: `projection(post_norm(hidden))`.

    sign: -1 where higher cosine means less relevant, as in OpenAI's CLIP (found by TRIM, CDPruner and the authors'
    code alike), +1 for a space trained on patches.
    """

    text_tower: Any
    tokenizer: Any
    post_norm: nn.Module
    projection: Tensor
    sign: float

    @torch.no_grad()
    def visual(self, hidden: Tensor) -> Tensor:
        """Patch states (..., v) -> (..., c), not normalised."""
        states = self.post_norm(hidden.to(next(self.post_norm.parameters())))
        return states.to(self.projection) @ self.projection.T

    @torch.no_grad()
    def text(self, question: str) -> Tensor:
        """Question -> (M, c), one row per segment of at most `positions - 2` tokens, each with its own start and end.

        CDPruner cuts after tokenising, so that only its last segment holds the end token that CLIP pools at; here
        every segment is a text of its own.
        """
        room = self.text_tower.config.max_position_embeddings - 2
        plain = question
        for control in self.tokenizer.all_special_tokens:
            plain = plain.replace(control, " ")
        ids = self.tokenizer(plain, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        segments = [ids[i : i + room] for i in range(0, len(ids), room)] or [[]]
        rows = [self._embed([self.tokenizer.bos_token_id, *part, self.tokenizer.eos_token_id]) for part in segments]
        return torch.cat(rows)

    def _embed(self, ids: list[int]) -> Tensor:
        return self.text_tower(input_ids=torch.tensor([ids], device=self.projection.device)).text_embeds


def load_joint(source: str, model: Any, device: torch.device) -> JointSpace | None:
    """The joint space that belongs to a model's vision tower, or None if there is none to be had."""
    folder = Path(source) / "joint"
    tower = model.model.vision_tower
    if (folder / "config.json").is_file():
        return _from_folder(folder, tower, device)
    vision = model.config.vision_config
    if (vision.hidden_size, vision.image_size, vision.patch_size) == (1024, 336, 14):
        return _from_hub(device)
    return None


def _from_folder(folder: Path, tower: Any, device: torch.device) -> JointSpace:
    from safetensors.torch import load_file
    from transformers import AutoTokenizer
    from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection

    text: Any = CLIPTextModelWithProjection.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    projection = load_file(folder / "visual_projection.safetensors")["visual_projection.weight"]
    return JointSpace(
        text.to(device).eval(), tokenizer, tower.post_layernorm, projection.to(device, torch.float32), _sign(folder)
    )


def _sign(folder: Path) -> float:
    for place in (folder.parent / "relevance.json", folder / "relevance.json"):
        if place.is_file():
            return float(json.loads(place.read_text(encoding="utf-8"))["sign"])
    return -1.0


def _from_hub(device: torch.device) -> JointSpace | None:
    """CLIP's own towers, or None where they cannot be had."""
    from script_core.backends.hub import reachable

    try:
        return from_clip(CLIP, device, local_files_only=not reachable())
    except (OSError, ValueError):
        return None


def from_clip(source: str, device: torch.device, **options: Any) -> JointSpace:
    """A whole CLIP's joint space; with its own post-norm, since LLaVA neither trains nor uses that one."""
    from transformers import AutoTokenizer
    from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    more: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, **options}
    text: Any = CLIPTextModelWithProjection.from_pretrained(source, **more)
    vision: Any = CLIPVisionModelWithProjection.from_pretrained(source, **more)
    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    post_norm = vision.vision_model.post_layernorm.to(device).eval()
    projection = vision.visual_projection.weight.detach().to(device)
    return JointSpace(text.to(device).eval(), tokenizer, post_norm, projection, -1.0)
