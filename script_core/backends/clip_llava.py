"""What LLaVA-1.5 and LLaVA-NeXT share: a CLIP tower, a projector, and a language model with a spliced-in picture.

transformers' own classes hold the weights; the order in which their parts run is written out here, because pruning
needs what lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from script_core.backends.base import CannotLoad, detached
from script_core.backends.checkpoint import Parts
from script_core.backends.spliced import Spliced
from script_core.media import Media
from script_core.tokens import Block, EncoderState, Grid, VisualTokens


@dataclass(frozen=True, eq=False)
class Views:
    """What the tower sees of one picture. pixels (B, 3, s, s), and the block that each view covers."""

    pixels: Tensor
    blocks: tuple[Block, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """Which tower output each content token is: view (n,) and patch (n,); newlines (w,) as in `VisualTokens`."""

    view: Tensor
    patch: Tensor
    newlines: Tensor


class ClipLlava(Spliced):
    """The members of `Backend` for both families; each adds how it cuts and lays out a picture."""

    newline: Tensor | None = None

    def __init__(self, parts: Parts, frames: int | None = None) -> None:
        super().__init__(parts, frames)
        self._tower = parts.model.model.vision_tower
        self._projector = parts.model.model.multi_modal_projector
        self._depth = depth_of(parts.model.config)

    def views(self, picture: np.ndarray) -> Views:
        """Cut an RGB picture (h, w, 3) into what the tower sees."""
        raise TypeError("a family defines how it cuts pictures")

    def layout(self, picture: np.ndarray, views: Views) -> Layout:
        """In which order the language model reads the views' patches."""
        raise TypeError("a family defines its layout")

    @torch.no_grad()
    def encode(self, media: Media) -> VisualTokens:
        """A picture, or the first frame of a video."""
        picture = media.frames[0]
        views = self.views(picture)
        place = self.layout(picture, views)
        hidden, keys, cls = look(self._tower, self._depth, views.pixels.to(self.lm_head.weight))
        projected = self._projector(hidden[:, 1:])
        cols = torch.tensor([block.cols for block in views.blocks])[place.view]
        joint = None if self._joint is None else detached(self._joint.visual(hidden[:, 1:]))
        attention = detached(cls)[..., 1:]
        return VisualTokens(
            features=detached(projected)[place.view, place.patch],
            grid=Grid(views.blocks, place.view, place.patch // cols, place.patch % cols),
            joint=None if joint is None else joint[place.view, place.patch],
            cls_attention=attention.mean(1)[place.view, place.patch],
            encoder=EncoderState(detached(hidden), detached(keys), attention, place.patch, self._project),
            newlines=place.newlines,
            newline=self.newline,
            relevance_sign=1.0 if self._joint is None else self._joint.sign,
        )

    @torch.no_grad()
    def _project(self, states: Tensor) -> Tensor:
        return detached(self._projector(states.to(self.lm_head.weight)))


def look(tower: Any, depth: int, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Run a CLIP tower up to the layer that the projector reads, and no further.

    Returns its hidden states (B, 1 + p, v), and from its attention the keys averaged over heads (B, 1 + p, e) and
    CLS over everything (B, heads, 1 + p). That one attention row is computed by hand, so the layers keep their SDPA.
    """
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    before = hidden
    for layer in tower.encoder.layers[:depth]:
        before = hidden
        hidden = layer(hidden, None)
    last = tower.encoder.layers[depth - 1]
    inner = last.self_attn
    states = last.layer_norm1(before)
    keys = inner.k_proj(states).unflatten(-1, (-1, inner.head_dim))  # (B, 1 + p, heads, e)
    query = inner.q_proj(states[:, :1]).unflatten(-1, (-1, inner.head_dim))
    scores = torch.einsum("bqhe,bkhe->bhk", query.float(), keys.float()) * inner.scale
    return hidden, keys.mean(2), scores.softmax(-1)


def depth_of(config: Any) -> int:
    """How many layers of the tower run for the hidden state that the projector reads."""
    layer, layers = config.vision_feature_layer, config.vision_config.num_hidden_layers
    if not isinstance(layer, int) or config.vision_feature_select_strategy != "default":
        raise CannotLoad("This checkpoint mixes several layers of its vision tower, which is not supported here.")
    depth = layer if layer >= 0 else layers + 1 + layer
    if not 1 <= depth <= layers:
        raise CannotLoad(f"This checkpoint reads layer {layer} of a vision tower with {layers} layers.")
    return depth
