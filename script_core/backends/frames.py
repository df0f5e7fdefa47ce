"""A LLaVA model that was taught videos as well: frames of 2 x 2 pooled tokens, 12 x 12 each at 336 pixels.

The embedded model's own way of reading a video, over the same weights as its pictures. What a token is (features,
joint embedding, CLS attention) is the mean over the four patches that it stands for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from script_core.backends.base import detached
from script_core.backends.checkpoint import Parts
from script_core.backends.clip_llava import look
from script_core.backends.llava import Llava
from script_core.backends.spliced import MediaText
from script_core.media import Media
from script_core.tokens import Block, Grid, VisualTokens


class PooledFrames(Llava):
    """Frames one after another, no separators; a picture is read like a video of one frame."""

    family: ClassVar[str] = "llava_frames"
    frames: ClassVar[int] = 8

    def __init__(self, parts: Parts, frames: int | None = None) -> None:
        super().__init__(parts, squash=True, frames=frames)
        self.info = replace(self.info, offers=self.info.offers - {"encoder"})

    @torch.no_grad()
    def encode(self, media: Media) -> VisualTokens:
        """Frame by frame, so that memory does not grow with their number."""
        rows = self._cells // 2
        features, joint, attention = [], [], []
        for frame in media.frames:
            hidden, _, cls = look(self._tower, self._depth, self.views(frame).pixels.to(self.lm_head.weight))
            features.append(self._pooled(detached(self._projector(hidden[:, 1:]))[0]))
            attention.append(self._pooled(detached(cls)[0, :, 1:].mean(0)[:, None])[:, 0])
            if self._joint is not None:
                joint.append(
                    self._pooled(torch.nn.functional.normalize(detached(self._joint.visual(hidden[0, 1:])), dim=-1))
                )
        kind = "frame" if media.kind == "video" else "base"
        times = media.times or (None,)
        return VisualTokens(
            features=torch.cat(features),
            grid=Grid.full(tuple(Block(kind, rows, rows, time=time) for time in times)),
            joint=torch.cat(joint) if joint else None,
            cls_attention=torch.cat(attention),
            relevance_sign=1.0 if self._joint is None else self._joint.sign,
        )

    def media_text(self, tokens: VisualTokens | None) -> MediaText:
        """Its vocabulary has one placeholder, for pictures and videos alike."""
        return super().media_text(None)

    def _pooled(self, patches: Tensor) -> Tensor:
        """(p, c) -> (p / 4, c), the mean over 2 x 2 neighbours."""
        half = self._cells // 2
        return patches.view(half, 2, half, 2, -1).mean((1, 3)).flatten(0, 1)
