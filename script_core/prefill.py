"""The language model, one decoder layer after another: a prefill that may drop tokens on its way, then decoding.

An own loop over the layers is what makes three things possible at once: methods that cut the sequence between two
layers, a first token whose time is known exactly, and a stop at any token. Batch size one, no padding, SDPA: then a
missing attention mask means "causal" to every kernel, however ragged the cache has become.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from script_core.backends.base import Backend, Prompt
from script_core.pruners.base import Cut, InsideRun

Rotary = tuple[Tensor, Tensor]


def clock(device: torch.device) -> float:
    """Milliseconds, after everything queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() * 1000


@dataclass(eq=False)
class Between:
    """The `LayerView` of one point between two layers; see `pruners.base`."""

    index: int
    hidden: Tensor
    visual: Tensor
    source: Tensor
    inputs: Tensor
    _just_ran: Callable[[Tensor], Tensor]
    _about_to_run: Callable[[Tensor], Tensor]

    def attention(self, rows: Tensor, of_next: bool = False) -> Tensor:
        """(heads, rows, L) float32; see `LayerView.attention`."""
        return (self._about_to_run if of_next else self._just_ran)(rows)


class Decoding:
    """A prompt in the cache, ready to be continued. `logits` (V,) are float32, of the position after the last token.

    entering: visual tokens (newlines included) that entered each layer. lengths: all tokens that entered each layer.
    cut_ms: time spent in the in-model method. `push` continues by one token.
    """

    def __init__(self, backend: Backend, prompt: Prompt, run: InsideRun | None = None) -> None:
        self._backend = backend
        self._model = backend.language_model
        self._shape = (*prompt.positions.shape[:-1], 1)
        self._next: list[int] = []
        self.cache: Any = backend.new_cache()
        self.entering: tuple[int, ...] = ()
        self.lengths: tuple[int, ...] = ()
        self.cut_ms = 0.0
        self.logits = self._prefill(prompt, run)

    @torch.no_grad()
    def _prefill(self, prompt: Prompt, run: InsideRun | None) -> Tensor:
        rows = _Rows(prompt.embeddings, prompt.positions, prompt.visual, prompt.source)
        rotary = self._model.rotary_emb(rows.hidden, position_ids=rows.positions)
        following = prompt.next_position
        previous: Callable[[Tensor], Tensor] | None = None
        for index, layer in enumerate(self._model.layers):
            if run is not None and previous is not None:
                started = clock(rows.hidden.device)
                upcoming = _attention_of(layer, rows.hidden, rotary)
                view = Between(
                    index, rows.hidden[0], rows.visual, rows.source, prompt.embeddings[0], previous, upcoming
                )
                cut = run.cut(view)
                if cut is not None:
                    # a position of three axes is a place, not a number: it has no compact form
                    numbering = run.positions if rows.positions.ndim == 2 else "original"
                    rows = rows.after(cut, numbering)
                    rotary = self._model.rotary_emb(rows.hidden, position_ids=rows.positions)
                    following = len(rows) if numbering == "compact" else following
                self.cut_ms += clock(rows.hidden.device) - started
            self.entering += (int(rows.visual.sum()),)
            self.lengths += (len(rows),)
            self._next.append(following)
            previous = _attention_of(layer, rows.hidden, rotary) if run is not None else None
            rows.hidden = self._run(layer, rows.hidden, rows.positions, rotary)
        return self._head(rows.hidden)

    @torch.no_grad()
    def push(self, token_id: int) -> Tensor:
        """Append one token; returns, and keeps in `logits`, the logits after it."""
        device = self.logits.device
        hidden = self._model.embed_tokens(torch.tensor([[token_id]], device=device))
        at: dict[int, tuple[Tensor, Rotary]] = {}
        for index, layer in enumerate(self._model.layers):
            number = self._next[index]
            if number not in at:
                positions = torch.full(self._shape, number, device=device)
                at[number] = positions, self._model.rotary_emb(hidden, position_ids=positions)
            hidden = self._run(layer, hidden, *at[number])
            self._next[index] += 1
        self.logits = self._head(hidden)
        return self.logits

    def _run(self, layer: Any, hidden: Tensor, positions: Tensor, rotary: Rotary) -> Tensor:
        return layer(
            hidden,
            attention_mask=None,
            position_embeddings=rotary,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )

    def _head(self, hidden: Tensor) -> Tensor:
        return self._backend.lm_head(self._model.norm(hidden[:, -1:]))[0, 0].float()


@dataclass
class _Rows:
    """The sequence between two layers: what the states are, where they sit, and where they came from."""

    hidden: Tensor  # (1, L, d)
    positions: Tensor  # (..., L)
    visual: Tensor  # (L,) bool
    source: Tensor  # (L,)

    def __post_init__(self) -> None:
        self.visual = self.visual.to(self.hidden.device)
        self.source = self.source.to(self.hidden.device)

    def __len__(self) -> int:
        return int(self.hidden.shape[1])

    def after(self, cut: Cut, numbering: str) -> _Rows:
        """The sequence with only `cut.keep`, and `cut.merged` behind the last visual token that is kept."""
        keep = cut.keep.to(self.hidden.device)
        if int((~self.visual[keep]).sum()) != int((~self.visual).sum()) or bool((keep[1:] <= keep[:-1]).any()):
            raise RuntimeError("an in-model method must keep every text position, in ascending order")
        positions = self.positions[..., keep]
        visual, source, hidden = self.visual[keep], self.source[keep], self.hidden[:, keep]
        if cut.merged is not None and len(cut.merged):
            spot = _behind_visual(self.visual, keep)
            hidden = _insert(hidden, spot, cut.merged.to(hidden)[None], 1)
            positions = _insert(positions, spot, _ids_before(positions, spot, len(cut.merged)), -1)
            visual = _insert(visual, spot, torch.ones(len(cut.merged)).to(visual), 0)
            source = _insert(source, spot, torch.full((len(cut.merged),), -1).to(source), 0)
        if numbering == "compact":
            positions = torch.arange(hidden.shape[1], device=hidden.device).expand_as(positions)
        return _Rows(hidden, positions, visual, source)


def _behind_visual(visual: Tensor, keep: Tensor) -> int:
    """Index, among the kept rows, of the first text row that follows the visual run (which may be empty by now)."""
    last = int(torch.nonzero(visual).max())
    return int((keep <= last).sum())


def _ids_before(positions: Tensor, spot: int, count: int) -> Tensor:
    """Position ids for `count` rows that go in before row `spot`: the ones that end just before that row's own."""
    back = torch.arange(count, 0, -1, device=positions.device)
    return (positions[..., spot, None] - back).clamp(min=0)


def _insert(rows: Tensor, spot: int, new: Tensor, dim: int) -> Tensor:
    before, after = rows.split([spot, rows.shape[dim] - spot], dim)
    return torch.cat([before, new, after], dim)


def _attention_of(layer: Any, hidden: Tensor, rotary: Rotary) -> Callable[[Tensor], Tensor]:
    """Attention of chosen rows in one layer, from its own q and k, computed only when asked for."""

    @torch.no_grad()
    def attention(rows: Tensor) -> Tensor:
        at = rows.to(hidden.device)
        inner = layer.self_attn
        states = layer.input_layernorm(hidden)
        q, k = _heads(inner.q_proj(states[:, at]), inner, "q"), _heads(inner.k_proj(states), inner, "k")
        cos, sin = rotary
        q = _rotate(q, cos[:, at], sin[:, at])[0].float()
        k = _rotate(k, cos, sin)[0].float().repeat_interleave(q.shape[0] // k.shape[1], 0)
        scores = q @ k.transpose(-1, -2) * inner.scaling  # (heads, rows, L)
        future = torch.arange(hidden.shape[1], device=hidden.device)[None] > at[:, None]
        return scores.masked_fill(future, float("-inf")).softmax(-1)

    return attention


def _heads(projected: Tensor, inner: Any, which: str) -> Tensor:
    """(1, L, heads * e) -> (1, heads, L, e), with the per-head norm that some families (Qwen3) have."""
    split = projected.unflatten(-1, (-1, inner.head_dim))
    norm = getattr(inner, f"{which}_norm", None)
    return (split if norm is None else norm(split)).transpose(1, 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding in the half-split layout that Llama and Qwen share."""
    first, second = x.chunk(2, -1)
    return x * cos[:, None] + torch.cat((-second, first), -1) * sin[:, None]
