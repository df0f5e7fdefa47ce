"""Decoding in steps of one fixed shape, so that a GPU can replay a step as one graph.

At batch 1 a decoding step is a thousand small kernels, and telling a GPU of each takes longer than running them. A
graph tells it once, if every step has the same shapes at the same addresses: so the prompt's keys and values move into
buffers with room for the whole answer, a mask says which rows exist yet, and the step moves its own counters on.

For methods that prune before the language model, where every layer holds the same rows. Unmeasured on hardware: the
step is tested on the CPU, its capture has not run on a GPU yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from script_core.backends.base import Backend

# Plain steps before the capture: an answer of a word or two does not pay for one, and kernels are loaded by then.
WARM = 3


def replayable(backend: Backend) -> bool:
    """Whether a model's step can be captured: plain weights on one GPU, SDPA, positions that need no host."""
    weights = list(backend.language_model.parameters())
    config = backend.text_config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        {weight.device for weight in weights} == {weights[0].device}
        and weights[0].is_cuda
        and all(weight.is_floating_point() for weight in weights)
        and getattr(config, "_attn_implementation", "sdpa") == "sdpa"
        and rope.get("rope_type", "default") not in ("dynamic", "longrope")
        and not getattr(config, "use_sliding_window", False)
    )


@dataclass(eq=False)
class _Held:
    """One layer's keys and values, (1, heads, rows, e); rows not written yet are zero and masked."""

    keys: Tensor
    values: Tensor


class FixedCache:
    """As much of a cache as a decoder layer asks for, in buffers that stay where they are.

    cache: a filled one, emptied layer by layer, so that only one layer is held twice. room: rows that may follow.
    at (1,): the row that the next token is written to.
    """

    def __init__(self, cache: Any, room: int) -> None:
        self.layers: list[_Held] = []
        self.filled = int(cache.layers[0].keys.shape[2])
        for layer in cache.layers:
            self.layers.append(_Held(_with_room(layer.keys, room), _with_room(layer.values, room)))
            layer.keys = layer.values = None
        keys = self.layers[0].keys
        self.at = torch.full((1,), self.filled, device=keys.device)
        self.rows = torch.arange(keys.shape[2], device=keys.device)

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one token's keys and values (1, heads, 1, e); returns the whole buffers."""
        held = self.layers[layer_idx]
        held.keys.index_copy_(2, self.at, keys)
        held.values.index_copy_(2, self.at, values)
        return held.keys, held.values

    def mask(self) -> Tensor:
        """The rows that the token being written may see, itself included: (1, 1, 1, rows) bool."""
        return (self.rows <= self.at)[None, None, None]


def _with_room(held: Tensor, room: int) -> Tensor:
    return torch.cat([held, held.new_zeros(*held.shape[:2], room, held.shape[3])], 2)


class FixedStep:
    """Continues a filled cache by at most `room` tokens. positions: shape of a token's position ids; following: the
    first one's."""

    def __init__(self, backend: Backend, cache: Any, following: int, positions: tuple[int, ...], room: int) -> None:
        self._backend = backend
        self._model = backend.language_model
        self._left = room
        self.cache = FixedCache(cache, room)
        device = self.cache.at.device
        self._token = torch.zeros((1, 1), dtype=torch.int64, device=device)
        self._position = torch.full(positions, following, device=device)
        self._graph: Any = None
        self._plain = WARM if device.type == "cuda" else room  # steps before a graph takes over
        self._logits: Tensor

    @torch.no_grad()
    def push(self, token_id: int) -> Tensor:
        """Append one token; returns the logits (V,) float32 after it. Raises RuntimeError when the room is used up."""
        if not self._left:
            raise RuntimeError("the answer is longer than the room that was set aside for it")
        self._left -= 1
        self._token.fill_(token_id)
        if self._graph is None and self._plain == 0:
            self._capture()
        if self._graph is None:
            self._logits = self._step()
            self._plain -= 1
        else:
            self._graph.replay()
        return self._logits.clone()

    def _capture(self) -> None:
        """Record a step, which does not run it. Other threads may go on using the GPU meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._logits = self._step()
        self._graph = graph

    def _step(self) -> Tensor:
        hidden = self._model.embed_tokens(self._token)
        rotary = self._model.rotary_emb(hidden, position_ids=self._position)
        mask = self.cache.mask()
        for layer in self._model.layers:
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_embeddings=rotary,
                position_ids=self._position,
                past_key_values=self.cache,
                use_cache=True,
            )
        logits = self._backend.lm_head(self._model.norm(hidden))[0, 0].float()
        self.cache.at.add_(1)
        self._position.add_(1)
        return logits
