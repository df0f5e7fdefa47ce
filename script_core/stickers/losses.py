"""What each stage minimises. All losses are means in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from script_core.stickers.batches import MIXED, Facts
from script_core.stickers.catalogue import COLOURS, NAMES, READABLE
from script_core.stickers.model import Sizes, TinyLlava, rms_norm, sincos
from script_core.stickers.packing import Packed


class Heads(nn.Module):
    """Small training-only outputs; none of them ships.

    point1 / point2 say from the noun's token (middle, last layer) where the named sticker is; compare says from the
    answer cue how two stickers lie to each other, target where the sticker is that the answer names, count how many
    there are; frame says from a visual token of a clip (first layer) which frame it is of, time1 / time2 (the last
    layers but two and but one) whether its sticker came in late, in which frame, its own frame, and (time2) whether no
    other came in before; place says from a patch where it and its sticker are; colour which colour it shows.
    `background` stands for "no object" among the names, `scale` and `shift` are temperatures.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.point1, self.point2 = nn.Linear(sizes.width, 2), nn.Linear(sizes.width, 2)
        self.compare, self.target = nn.Linear(sizes.width, 2), nn.Linear(sizes.width, 2)
        self.count = nn.Linear(sizes.width, 1)
        self.place, self.colour = nn.Linear(sizes.vit_width, 4), nn.Linear(sizes.vit_width, len(COLOURS))
        self.background = nn.Parameter(torch.randn(sizes.joint) * 0.1)
        self.scale = nn.Parameter(torch.tensor([2.5, 2.5, 2.5]))  # log temperatures: names, questions, captions
        self.shift = nn.Parameter(torch.tensor(-4.0))
        self.frame = nn.Linear(sizes.width, 1)
        self.time1, self.time2 = nn.Linear(sizes.width, 3), nn.Linear(sizes.width, 4)

    def language_parameters(self) -> list[nn.Parameter]:
        """Those of the heads that read the language model."""
        pointing = (self.point1, self.point2, self.compare, self.target, self.count)
        return [p for head in (*pointing, self.frame, self.time1, self.time2) for p in head.parameters()]


def unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)


@dataclass(frozen=True)
class Words:
    """Token ids of the names (then the readable words) and the colours in the language model's vocabulary."""

    names: Tensor
    colours: Tensor

    @classmethod
    def of(cls, vocabulary: dict[str, int]) -> Words:
        return cls(
            torch.tensor([vocabulary[n] for n in NAMES + READABLE]), torch.tensor([vocabulary[c] for c in COLOURS])
        )


def place_code(xy: Tensor, width: int) -> Tensor:
    """What a visual token should say about its position: sine and cosine code plus four linear or slow channels."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(width, 4, generator=generator))[0].T.to(xy.device)
    x, y = xy[..., 0], xy[..., 1]
    slow = torch.stack([2 * x - 1, 2 * y - 1, 0.5 * torch.cos(2 * torch.pi * x), 0.5 * torch.cos(2 * torch.pi * y)], -1)
    return 0.4 * unit(sincos(xy, width)) + 0.7 * slow @ basis


def symbols(model: TinyLlava, facts: Facts, words: Words) -> Tensor:
    """The ideal visual token: name + half of colour + position, (b, k, d), built from the model's own embeddings."""
    tokens = model.language.tokens
    d = tokens.shape[1]
    zero = torch.zeros(1, d, device=tokens.device)
    names = torch.cat([unit(tokens[words.names]), zero])[facts.name]
    colours = torch.cat([unit(tokens[words.colours]), zero])[facts.colour]
    return names + 0.5 * colours + place_code(facts.xy, d)


def answer_losses(model: TinyLlava, heads: Heads, states: list[Tensor], packed: Packed) -> dict[str, Tensor]:
    """Cross-entropy on the answers, and the pointing and comparing regressions."""
    at, label = packed.at, packed.label
    logits = model.language.logits(states[-1][at[:, 0], at[:, 1]])
    out = {"answer": F.cross_entropy(logits, label)}
    if len(packed.point_at):
        b, t = packed.point_at.T
        target = (packed.point_xy - 0.5) / 0.25
        for name, head, layer in (("point1", heads.point1, 1), ("point2", heads.point2, -1)):
            out[name] = F.mse_loss(head(rms_norm(states[layer][b, t])).float(), target)
    if len(packed.compare_at):
        b, t = packed.compare_at.T
        seen = heads.compare(rms_norm(states[-2][b, t])).float()
        out["compare"] = F.mse_loss(seen, packed.compare_xy / 0.35)
    if len(packed.target_at):
        b, t = packed.target_at.T
        seen = heads.target(rms_norm(states[-2][b, t])).float()
        out["target"] = F.mse_loss(seen, (packed.target_xy - 0.5) / 0.25)
    if len(packed.count_at):
        b, t = packed.count_at.T
        out["count"] = F.mse_loss(heads.count(rms_norm(states[-2][b, t])).float()[:, 0], packed.count / 2)
    out["accuracy"] = (logits.argmax(-1) == label).float().mean().detach()
    return out


ANSWER_WEIGHTS = {
    "answer": 1.0, "point1": 1.0, "point2": 0.5, "compare": 0.5, "target": 0.5, "count": 0.3, "time": 1.0,
}  # fmt: skip


def time_loss(heads: Heads, visible: Sequence[Tensor], times: Tensor) -> Tensor:
    """What a clip's visual tokens say of time. Without it no answer is ever reached that depends on order.

    visible: their states (b, k, d) after every layer but the last. times (b, k, 3): the frame in which the token's
    sticker is first to be seen (-1: shows none), its own frame, and whether its sticker is the first to come in.
    """
    enters, own, leads = times.float().unbind(-1)
    shows, late = enters >= 0, enters > 0
    total = F.mse_loss(heads.frame(rms_norm(visible[0])).float()[..., 0], own / 4)  # frames count as quarters
    for head, states in ((heads.time1, visible[-2]), (heads.time2, visible[-1])):
        said = head(rms_norm(states)).float()
        total = total + F.mse_loss(said[..., 2], own / 4)
        if bool(shows.any()):
            total = total + F.mse_loss(said[..., 1][shows], enters[shows] / 4) + _rarely(said[..., 0], late, shows)
        if said.shape[-1] > 3 and bool(late.any()):
            total = total + F.binary_cross_entropy_with_logits(said[..., 3][late], leads[late])
    return total / 2


def _rarely(said: Tensor, true: Tensor, judged: Tensor) -> Tensor:
    """Cross-entropy of what holds of one in four."""
    weight = torch.tensor(3.0, device=said.device)
    return F.binary_cross_entropy_with_logits(said[judged], true[judged].float(), pos_weight=weight)


def projector_losses(model: TinyLlava, projected: Tensor, facts: Facts, words: Words) -> dict[str, Tensor]:
    """Projected patches against their ideal tokens (regression) and against the words for their names."""
    judged = facts.owner != MIXED
    target = symbols(model, facts, words).detach()
    out = {"symbol": F.mse_loss(projected.float()[judged], target[judged]) * projected.shape[-1]}
    named = facts.name >= 0
    if bool(named.any()):
        cosine = unit(projected[named]) @ unit(model.language.tokens[words.names]).T
        out["word"] = F.cross_entropy(16 * cosine, facts.name[named])
    return out


def vision_losses(
    model: TinyLlava,
    heads: Heads,
    hidden: Tensor,
    facts: Facts,
    names: Tensor,
    questions: Tensor,
    about: Tensor,
    captions: Tensor,
) -> dict[str, Tensor]:
    """Alignment of patches with text, and what a patch should know of colour and place.

    hidden (b, 1 + k, v). names (m, c) text embeddings of all objects and words; questions (b, q, c)
    with about (b, q, k) bool, the patches each question is about; captions (b, c).
    """
    patches = hidden[:, 1:]
    seen = unit(model.vision.joint(patches))
    scale = heads.scale.float().exp()
    classes = unit(torch.cat([names, heads.background[None].to(names.dtype)]))
    label = torch.where(facts.name >= 0, facts.name, len(names))
    # Three quarters of the background says nothing new.
    judged = (facts.name >= 0) | ((facts.owner == -1) & (torch.rand(label.shape, device=label.device) < 0.25))
    logits = scale[0] * seen[judged] @ classes.T
    weight = torch.ones(len(classes), device=logits.device)
    out = {"name": F.cross_entropy(logits, label[judged], weight=weight)}
    named = facts.name[judged] >= 0
    out["top1"] = (logits.argmax(-1) == label[judged])[named].float().mean().detach()

    match = scale[1] * torch.einsum("bkc,bqc->bqk", seen, unit(questions)) + heads.shift.float()
    clear = (facts.owner != MIXED)[:, None].expand_as(about)
    positive = torch.tensor(4.0, device=match.device)
    out["question"] = F.binary_cross_entropy_with_logits(match[clear], about[clear].float(), pos_weight=positive)

    whole = unit(model.vision.joint(hidden[:, 0])) @ unit(captions).T * scale[2]
    index = torch.arange(len(whole), device=whole.device)
    out["caption"] = 0.5 * (F.cross_entropy(whole, index) + F.cross_entropy(whole.T, index))

    place = heads.place(patches).float()
    target = (torch.cat([facts.xy, facts.centre], -1) - 0.5) / 0.25
    mine = facts.name >= 0
    out["place"] = F.mse_loss(place[mine], target[mine]) + F.mse_loss(place[..., :2], target[..., :2])
    coloured = facts.colour >= 0
    if bool(coloured.any()):
        out["colour"] = F.cross_entropy(heads.colour(patches[coloured]).float(), facts.colour[coloured])
    return out


VISION_WEIGHTS = {"name": 1.0, "question": 3.0, "caption": 0.3, "place": 0.3, "colour": 0.4}


def weighted(parts: dict[str, Tensor], weights: dict[str, float], factor: float = 1.0) -> Tensor:
    """The sum of the parts that have a weight."""
    chosen = [factor * weights[name] * value for name, value in parts.items() if name in weights]
    return torch.stack(chosen).sum()
