"""A LLaVA of seven million parameters in plain modules, made for training speed on a CPU.

Every weight has a counterpart in transformers' LlavaNext and CLIPTextModelWithProjection classes (`export` maps them);
three things make it faster than those classes here: matrices that share an input are fused, the vision layer that
LLaVA never reads is not computed, and many questions share one visual prefix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = 24  # patches along a side of a 336 px picture
PATCH = 14


@dataclass(frozen=True)
class Sizes:
    """Widths and depths. `vit_layers` counts the last layer, which LLaVA does not read (vision_feature_layer -2)."""

    vocab: int
    vit_width: int = 192
    vit_layers: int = 6
    vit_heads: int = 3
    text_layers: int = 2
    text_positions: int = 48
    joint: int = 128
    width: int = 256
    layers: int = 4
    heads: int = 4
    mlp: int = 704


def matrix(*shape: int, std: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * std)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention of (B, heads, n, d) tensors; `mask` is added to the scores.

    On a CPU in bfloat16 this is two to four times as fast as torch's fused kernel, forward and backward.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return torch.softmax(scores, -1) @ v


def causal_mask(n: int, like: Tensor) -> Tensor:
    return torch.full((n, n), -1e4, dtype=like.dtype, device=like.device).triu(1)


def rms_norm(x: Tensor) -> Tensor:
    """x over its root mean square, worked out in float32. Written out because torch's own is slow on a CPU."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class EncoderLayer(nn.Module):
    """One pre-norm layer with biases and GELU, as in CLIP's towers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        std = width**-0.5
        self.qkv = matrix(3, width, width, std=std)
        self.out = matrix(width, width, std=std * 0.5)
        self.up = matrix(4 * width, width, std=std)
        self.down = matrix(width, 4 * width, std=std * 0.25)
        self.qkv_bias = nn.Parameter(torch.zeros(3, width))
        self.out_bias, self.down_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.up_bias = nn.Parameter(torch.zeros(4 * width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        b, n, d = x.shape
        qkv = F.linear(self.norm1(x), self.qkv.flatten(0, 1), self.qkv_bias.flatten())
        q, k, v = qkv.view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v, mask).transpose(1, 2).reshape(b, n, d)
        x = x + F.linear(mixed, self.out, self.out_bias)
        hidden = F.gelu(F.linear(self.norm2(x), self.up, self.up_bias))
        return x + F.linear(hidden, self.down, self.down_bias)


def sincos(xy: Tensor, width: int) -> Tensor:
    """Two-dimensional sine and cosine code of positions in [0, 1]: (..., 2) -> (..., width), each channel std .7."""
    k = torch.arange(width // 4, dtype=torch.float32, device=xy.device)
    freq = math.pi * GRID ** (k / (width // 4 - 1))
    angle = xy.float()[..., None] * freq
    return torch.cat([angle.sin(), angle.cos()], -1).flatten(-2)


def patch_centres(grid: int = GRID) -> Tensor:
    """(grid * grid, 2) centres (x, y) of the patches in raster order, as fractions of the side."""
    at = (torch.arange(grid) + 0.5) / grid
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)


class Vision(nn.Module):
    """CLIP's vision tower up to its second-to-last hidden state."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d = sizes.vit_width
        self.patch = matrix(d, PATCH * PATCH * 3, std=0.03)  # rows read (row, column, channel)
        self.cls = matrix(d, std=0.35)
        # A learned table that starts small is washed out by what the alignment losses reward; this one starts at .35.
        table = torch.cat([torch.zeros(1, d), 0.5 * sincos(patch_centres(), d)])
        self.positions = nn.Parameter(table)
        self.norm = nn.LayerNorm(d)
        self.layers = nn.ModuleList(EncoderLayer(d, sizes.vit_heads) for _ in range(sizes.vit_layers - 1))
        self.post = nn.LayerNorm(d)
        self.projection = matrix(sizes.joint, d, std=d**-0.5)

    def forward(self, pixels: Tensor, keep: Tensor | None, grid: int = GRID) -> Tensor:
        """pixels (B, n, 588) in [-1, 1] of the patches `keep` (B, n), None meaning all -> (B, 1 + n, d), CLS first."""
        table = self.positions[1:]
        if grid != GRID:
            square = table.view(grid, GRID // grid, grid, GRID // grid, -1)
            table = square.mean((1, 3)).flatten(0, 1)
        place = table[None] if keep is None else table[keep]
        x = F.linear(pixels, self.patch) + place
        cls = (self.cls + self.positions[0]).expand(len(x), 1, -1)
        x = self.norm(torch.cat([cls, x], 1))
        for layer in self.layers:
            x = layer(x)
        return x

    def joint(self, hidden: Tensor) -> Tensor:
        """Hidden states -> the image-text space, not normalised."""
        return F.linear(self.post(hidden), self.projection)


class TextTower(nn.Module):
    """CLIP's text tower: causal, pooled at the first </s>."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d = sizes.vit_width
        self.tokens = matrix(sizes.vocab, d, std=0.3)
        self.positions = matrix(sizes.text_positions, d, std=0.05)
        self.layers = nn.ModuleList(EncoderLayer(d, sizes.vit_heads) for _ in range(sizes.text_layers))
        self.norm = nn.LayerNorm(d)
        self.projection = matrix(sizes.joint, d, std=d**-0.5)

    def forward(self, ids: Tensor, ends: Tensor) -> Tensor:
        """ids (m, t), right padded, with </s> at `ends` (m,) -> (m, c), not normalised."""
        t = ids.shape[1]
        x = self.tokens[ids] + self.positions[:t]
        for layer in self.layers:
            x = layer(x, causal_mask(t, x))
        pooled = self.norm(x[torch.arange(len(ids), device=ids.device), ends])
        return F.linear(pooled, self.projection)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class DecoderLayer(nn.Module):
    """One Llama layer over a shared prefix and the packed questions behind it."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        d, self.heads = sizes.width, sizes.heads
        self.norm1, self.norm2 = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        std = d**-0.5
        self.qkv = matrix(3, d, d, std=std)
        self.out = matrix(d, d, std=std * 0.5)
        self.gate_up = matrix(2, sizes.mlp, d, std=std)
        self.down = matrix(d, sizes.mlp, std=0.5 * sizes.mlp**-0.5)

    def forward(self, x: Tensor, prefix: int, cos: Tensor, sin: Tensor, mask: Tensor, last: bool) -> Tensor:
        """x (B, prefix + t, d). In the last layer nothing reads the prefix's output, so only the t rows come back."""
        b, n, d = x.shape
        qkv = F.linear(rms_norm(x) * self.norm1, self.qkv.flatten(0, 1))
        q, k, v = qkv.view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = attend(q[:, :, prefix:], k, v, mask)
        if last:
            x = x[:, prefix:]
        else:
            head = attend(q[:, :, :prefix], k[:, :, :prefix], v[:, :, :prefix], causal_mask(prefix, x))
            mixed = torch.cat([head, mixed], 2)
        x = x + F.linear(mixed.transpose(1, 2).reshape(b, -1, d), self.out)
        hidden = rms_norm(x) * self.norm2
        return x + F.linear(F.silu(F.linear(hidden, self.gate_up[0])) * F.linear(hidden, self.gate_up[1]), self.down)


class Language(nn.Module):
    """A Llama with tied embeddings."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.tokens = matrix(sizes.vocab, sizes.width, std=0.06)
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.layers))
        self.norm = nn.Parameter(torch.ones(sizes.width))

    def rotary(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        head = self.sizes.width // self.sizes.heads
        step = torch.arange(0, head, 2, dtype=torch.float32, device=positions.device) / head
        angle = positions.float()[:, None, :, None] * 10000.0**-step
        angle = torch.cat([angle, angle], -1)
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def forward(
        self, visual: Tensor, ids: Tensor, positions: Tensor, mask: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The states of the t text tokens after every layer, the last one normalised, each (B, t, d), and those of the
        visual tokens after every layer but the last, each (B, k, d).

        visual (B, k, d) follows <s>. ids (B, t), positions (B, 1 + k + t); mask (B, 1, t, 1 + k + t) is added.
        """
        start = self.tokens[2].expand(len(visual), 1, -1)
        x = torch.cat([start, visual, self.tokens[ids]], 1)
        prefix = visual.shape[1] + 1
        cos, sin = self.rotary(positions, x.dtype)
        states, visible = [], []
        for i, layer in enumerate(self.layers):
            last = i == len(self.layers) - 1
            x = layer(x, prefix, cos, sin, mask, last)
            states.append(x if last else x[:, prefix:])
            if not last:
                visible.append(x[:, 1:prefix])
        states[-1] = rms_norm(states[-1]) * self.norm
        return states, visible

    def logits(self, states: Tensor) -> Tensor:
        return F.linear(states, self.tokens).float()


class TinyLlava(nn.Module):
    """Vision tower, text tower, projector and language model."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.vision = Vision(sizes)
        self.text = TextTower(sizes)
        self.proj1 = matrix(sizes.width, sizes.vit_width, std=sizes.vit_width**-0.5)
        self.proj2 = matrix(sizes.width, sizes.width, std=0.01)
        self.proj1_bias = nn.Parameter(torch.zeros(sizes.width))
        self.proj2_bias = nn.Parameter(torch.zeros(sizes.width))
        self.language = Language(sizes)
        # Patch states have a large common mean; the projector learns on centred ones. Constants, folded in by `export`.
        self.centre, self.spread = nn.Parameter(torch.zeros(sizes.vit_width)), nn.Parameter(torch.ones(sizes.vit_width))

    def project(self, hidden: Tensor) -> Tensor:
        """Patch states (..., v) -> the language model's space (..., d)."""
        hidden = (hidden - self.centre) / self.spread
        return F.linear(F.gelu(F.linear(hidden, self.proj1, self.proj1_bias)), self.proj2, self.proj2_bias)
