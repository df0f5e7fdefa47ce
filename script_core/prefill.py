"""The language model, one decoder layer after another: a prefill that may drop tokens on its way, then decoding.

An own loop over the layers is what makes three things possible at once: methods that cut the sequence between two
layers, a first token whose time is known exactly, and a stop at any token. Batch size one, no padding, SDPA: then a
missing attention mask means "causal" to every kernel, however ragged the cache has become.

Between embeddings and logits the host waits for nothing: row counts follow from shapes, cuts are index tensors on the
model's device, and what has to be checked or timed there is read once the logits are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from script_core import step
from script_core.backends.base import Backend, Prompt
from script_core.pruners.base import Cut, InsideRun

Rotary = tuple[Tensor, Tensor]
Attention = Callable[[Tensor], Tensor]


def clock(device: torch.device) -> float:
    """Milliseconds, after everything queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() * 1000


class Spans:
    """Milliseconds spent in parts of a run. On a GPU its own events are recorded, and read only when asked for."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._parts: list[tuple[Any, Any]] = []

    def mark(self) -> Any:
        """This moment."""
        if not self._on_gpu:
            return time.perf_counter() * 1000
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def add(self, since: Any) -> None:
        """A part from `since` until now."""
        self._parts.append((since, self.mark()))

    @property
    def ms(self) -> float:
        """All parts together; waits for the last one to be done."""
        if self._on_gpu and self._parts:
            self._parts[-1][1].synchronize()
        return sum(a.elapsed_time(b) if self._on_gpu else b - a for a, b in self._parts)


@dataclass(eq=False)
class Between:
    """The `LayerView` of one point between two layers; see `pruners.base`."""

    index: int
    hidden: Tensor
    visual: Tensor
    source: Tensor
    inputs: Tensor
    count: int
    behind: int
    _just_ran: Attention
    _about_to_run: Attention

    def attention(self, rows: Tensor, of_next: bool = False) -> Tensor:
        """(heads, rows, L) float32; see `LayerView.attention`."""
        return (self._about_to_run if of_next else self._just_ran)(rows)


class Decoding:
    """A prompt in the cache, ready to be continued. `logits` (V,) are float32, of the position after the last token.

    entering: visual tokens (newlines included) that entered each layer. lengths: all tokens that entered each layer.
    cut_ms: time spent in the in-model method. `push` continues by one token. room: how many will be pushed at most, if
    known; a GPU then decodes in steps of a fixed shape (see `step`), unless layers hold different rows.
    """

    def __init__(self, backend: Backend, prompt: Prompt, run: InsideRun | None = None, room: int = 0) -> None:
        self._backend = backend
        self._room = room if run is None else 0
        self._fixed: step.FixedStep | None = None
        self._model = backend.language_model
        self._shape = (*prompt.positions.shape[:-1], 1)
        self._next: list[int] = []
        self._cuts = Spans(prompt.embeddings.device)
        self.cache: Any = backend.new_cache()
        self.entering: tuple[int, ...] = ()
        self.lengths: tuple[int, ...] = ()
        self.logits = self._prefill(prompt, run)

    @property
    def cut_ms(self) -> float:
        return self._cuts.ms

    @torch.no_grad()
    def _prefill(self, prompt: Prompt, run: InsideRun | None) -> Tensor:
        rows = _Rows.of(prompt)
        rotary = self._model.rotary_emb(rows.hidden, position_ids=rows.positions)
        following = prompt.next_position
        previous: Attention | None = None
        allowed: list[Tensor] = []
        for index, layer in enumerate(self._model.layers):
            if run is not None and previous is not None:
                started = self._cuts.mark()
                rows.follow()
                cut = run.cut(rows.view(index, prompt, previous, _attention_of(layer, rows.hidden, rotary)))
                if cut is not None:
                    # a position of three axes is a place, not a number: it has no compact form
                    numbering = run.positions if rows.positions.ndim == 2 else "original"
                    allowed.append(rows.keeps_text(cut))
                    rows = rows.after(cut, numbering)
                    rotary = self._model.rotary_emb(rows.hidden, position_ids=rows.positions)
                    following = len(rows) if numbering == "compact" else following
                self._cuts.add(started)
            self.entering += (rows.count,)
            self.lengths += (len(rows),)
            self._next.append(following)
            previous = _attention_of(layer, rows.hidden, rotary) if run is not None else None
            rows.hidden = self._run(layer, rows.hidden, rows.positions, rotary)
        logits = self._head(rows.hidden)
        _check(allowed)
        return logits

    @torch.no_grad()
    def push(self, token_id: int) -> Tensor:
        """Append one token; returns, and keeps in `logits`, the logits after it."""
        if self._fixed is None and self._room and step.replayable(self._backend):
            self._fixed = step.FixedStep(self._backend, self.cache, self._next[0], self._shape, self._room)
            self.cache = self._fixed.cache
        if self._fixed is not None:
            self.logits = self._fixed.push(token_id)
            return self.logits
        device = self.logits.device
        hidden = self._model.embed_tokens(torch.full((1, 1), token_id, device=device))
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
    text: int  # rows of text, which nothing may drop
    behind: int  # of them, those behind the last visual row

    @classmethod
    def of(cls, prompt: Prompt) -> _Rows:
        """A prompt's rows. Its bookkeeping goes to the device without waiting."""
        device, length = prompt.embeddings.device, len(prompt)
        seen = torch.nonzero(prompt.visual).flatten()
        behind = length - 1 - int(seen[-1]) if len(seen) else length
        visual, source = (mark.to(device, non_blocking=True) for mark in (prompt.visual, prompt.source))
        return cls(prompt.embeddings, prompt.positions, visual, source, length - len(seen), behind)

    def __len__(self) -> int:
        return int(self.hidden.shape[1])

    def follow(self) -> None:
        """Take the bookkeeping to where the states are by now: a model's layers may lie on several GPUs."""
        device = self.hidden.device
        self.positions, self.visual, self.source = (
            mark.to(device) for mark in (self.positions, self.visual, self.source)
        )

    @property
    def count(self) -> int:
        """Visual rows."""
        return len(self) - self.text

    def view(self, index: int, prompt: Prompt, just_ran: Attention, about_to_run: Attention) -> Between:
        """What an in-model method sees before layer `index`."""
        inputs = prompt.embeddings[0]
        return Between(
            index, self.hidden[0], self.visual, self.source, inputs, self.count, self.behind, just_ran, about_to_run
        )

    def keeps_text(self, cut: Cut) -> Tensor:
        """Whether every text row is among `cut.keep`, which ascends: a bool on the device."""
        keep = cut.keep.to(self.hidden.device)
        return ((~self.visual[keep]).sum() == self.text) & (keep[1:] > keep[:-1]).all()

    def after(self, cut: Cut, numbering: str) -> _Rows:
        """The sequence with only `cut.keep`, and `cut.merged` behind the last visual token that is kept."""
        keep = cut.keep.to(self.hidden.device)
        positions = self.positions[..., keep]
        visual, source, hidden = self.visual[keep], self.source[keep], self.hidden[:, keep]
        if cut.merged is not None and len(cut.merged):
            spot = len(keep) - self.behind  # the first text row behind the visual run, which may be empty by now
            hidden = _insert(hidden, spot, cut.merged.to(hidden)[None], 1)
            positions = _insert(positions, spot, _ids_before(positions, spot, len(cut.merged)), -1)
            visual = _insert(visual, spot, visual.new_ones(len(cut.merged)), 0)
            source = _insert(source, spot, source.new_full((len(cut.merged),), -1), 0)
        if numbering == "compact":
            positions = torch.arange(hidden.shape[1], device=hidden.device).expand_as(positions)
        return _Rows(hidden, positions, visual, source, self.text, self.behind)


def _check(allowed: list[Tensor]) -> None:
    """Whether all cuts were allowed ones: the first thing that is asked of the device, behind the logits."""
    if allowed and not bool(torch.stack([one.to(allowed[0].device) for one in allowed]).all()):
        raise RuntimeError("an in-model method must keep every text position, in ascending order")


def _ids_before(positions: Tensor, spot: int, count: int) -> Tensor:
    """Position ids for `count` rows that go in before row `spot`: the ones that end just before that row's own."""
    back = torch.arange(count, 0, -1, device=positions.device)
    return (positions[..., spot, None] - back).clamp(min=0)


def _insert(rows: Tensor, spot: int, new: Tensor, dim: int) -> Tensor:
    before, after = rows.split([spot, rows.shape[dim] - spot], dim)
    return torch.cat([before, new, after], dim)


def _attention_of(layer: Any, hidden: Tensor, rotary: Rotary) -> Attention:
    """Attention of chosen rows in one layer, from its own q and k, computed only when asked for."""

    @torch.no_grad()
    def attention(rows: Tensor) -> Tensor:
        inner = layer.self_attn
        device = inner.q_proj.weight.device  # on several GPUs the layer may lie on another one than its input
        at, cos, sin = rows.to(device), rotary[0].to(device), rotary[1].to(device)
        states = layer.input_layernorm(hidden.to(device))
        q, k = _heads(inner.q_proj(states[:, at]), inner, "q"), _heads(inner.k_proj(states), inner, "k")
        q = _rotate(q, cos[:, at], sin[:, at])[0].float()
        k = _rotate(k, cos, sin)[0].float().repeat_interleave(q.shape[0] // k.shape[1], 0)
        scores = q @ k.transpose(-1, -2) * inner.scaling  # (heads, rows, L)
        future = torch.arange(hidden.shape[1], device=device)[None] > at[:, None]
        return scores.masked_fill(future, float("-inf")).softmax(-1).to(rows.device)

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
