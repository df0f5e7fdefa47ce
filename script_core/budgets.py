"""What a budget means: visual tokens entering each layer, their average, what the authors would call it, and the cost.

"Average tokens" is the mean over decoder layers of the visual tokens that enter the layer, for every method. Merged
and recycled tokens count. Nothing is loaded: a model is a handful of sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from script_core.counters import full_flops, kv_cache_bytes, prefill_flops
from script_core.pruners import PRUNERS, pdrop, sparsevlm, visionzip
from script_core.pruners.base import CannotPrune, check_budget, split_budget


@dataclass(frozen=True)
class Shape:
    """The sizes that costs depend on, named as in transformers configs. `tokens` visual tokens in `crops` equal crops
    enter the language model when nothing is pruned; `bytes_per_value` of its precision."""

    title: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tokens: int
    crops: int = 1
    head_dim: int | None = None
    bytes_per_value: int = 2

    @classmethod
    def of(cls, config: Any, tokens: int, crops: int = 1, title: str = "", bytes_per_value: int = 2) -> Shape:
        """From a transformers text config, or a model config that holds one."""
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        return cls(
            title,
            text.hidden_size,
            text.intermediate_size,
            text.num_hidden_layers,
            text.num_attention_heads,
            getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
            text.vocab_size,
            tokens,
            crops,
            getattr(text, "head_dim", None),
            bytes_per_value,
        )


_7B = (4096, 11008, 32, 32, 32, 32064)
_13B = (5120, 13824, 40, 40, 40, 32064)

# LLaVA-NeXT with its usual base crop and four tiles; row separators are no content tokens and are left out.
SHAPES: dict[str, Shape] = {
    "llava-1.5-7b": Shape("LLaVA-1.5 7B", *_7B, tokens=576),
    "llava-1.5-13b": Shape("LLaVA-1.5 13B", *_13B, tokens=576),
    "llava-next-7b": Shape("LLaVA-NeXT 7B", *_7B, tokens=2880, crops=5),
    "llava-next-13b": Shape("LLaVA-NeXT 13B", *_13B, tokens=2880, crops=5),
}


def shape(name: str) -> Shape:
    """A shape by name. Raises `CannotPrune` for a name that is not in `SHAPES`."""
    if name not in SHAPES:
        raise CannotPrune(f"There are no sizes for {name!r}; the models are {', '.join(SHAPES)}.")
    return SHAPES[name]


# Their authors' code takes one count for all crops: sharing out a remainder is ours.
ONE_COUNT = ("cdpruner", "script_released")


@dataclass(frozen=True)
class Cost:
    """A method at a budget.

    entering: visual tokens that enter each layer. claimed: the count in the name that the authors' own convention gives
    to this run, None if they do not name it by a count. configuration: that name in words. ours: no such schedule or
    split was published and this project chose it.
    paper_flops: the papers' formula, visual tokens alone, one FLOP per multiply-add. flops: a real forward pass of the
    whole prompt, two per multiply-add. kv_bytes: keys and values of the visual tokens. `*_full`: with every token kept.
    """

    method: str
    title: str
    model: str
    budget: int
    total: int
    entering: tuple[int, ...]
    claimed: int | None
    configuration: str
    ours: bool
    paper_flops: float
    paper_flops_full: float
    flops: float
    flops_full: float
    kv_bytes: int
    kv_bytes_full: int

    @property
    def average(self) -> float:
        """Mean over layers of the visual tokens that enter the layer."""
        return average(self.entering)


def average(entering: tuple[int, ...]) -> float:
    """The project's definition of "average tokens"."""
    return sum(entering) / len(entering)


def average_leaving(entering: tuple[int, ...]) -> float:
    """Mean over layers of the visual tokens that leave the layer: what SparseVLM's authors log and name runs by."""
    return (sum(entering[1:]) + entering[-1]) / len(entering)


def cost(method: Any, model: Shape, budget: int, text_tokens: int = 0) -> Cost:
    """What a method (a registry name or an instance) does with a budget on a model of that shape.

    Raises `CannotPrune` with the reason if the method cannot reach the budget or the model has fewer tokens.
    """
    pruner = _instance(method)
    if check_budget(budget, model.tokens) < budget:
        raise CannotPrune(
            f"A budget of {budget} is more than the {model.tokens} visual tokens that this model has for a picture."
        )
    if pruner.name == "full":
        budget = model.tokens
    layers = model.num_hidden_layers
    inside = pruner.acts == "inside"
    entering = tuple(pruner.schedule(budget, model.tokens, layers)) if inside else (budget,) * layers
    lengths = tuple(count + text_tokens for count in entering)
    claimed, configuration, ours = named(pruner, model, budget, entering)
    return Cost(
        method=pruner.name,
        title=pruner.title,
        model=model.title,
        budget=budget,
        total=model.tokens,
        entering=entering,
        claimed=claimed,
        configuration=configuration,
        ours=ours,
        paper_flops=prefill_flops(entering, model),
        paper_flops_full=prefill_flops(model.tokens, model),
        flops=full_flops(lengths, model),
        flops_full=full_flops(model.tokens + text_tokens, model),
        kv_bytes=kv_cache_bytes(entering, model, model.bytes_per_value),
        kv_bytes_full=kv_cache_bytes(model.tokens, model, model.bytes_per_value),
    )


def _instance(method: Any) -> Any:
    if not isinstance(method, str):
        return method
    if method not in PRUNERS:
        raise CannotPrune(f"There is no method {method!r}; the methods are {', '.join(PRUNERS)}.")
    return PRUNERS[method]()


def named(pruner: Any, model: Shape, budget: int, entering: tuple[int, ...]) -> tuple[int | None, str, bool]:
    """How the authors would name a run: (the count in that name or None, the name in words, chosen by this project)."""
    if budget == model.tokens:
        return model.tokens, "every token", False
    naming = {"fastv": _fastv, "pdrop": _pdrop, "sparsevlm": _sparsevlm, "visionzip": _visionzip, "trim": _trim}
    if pruner.name in naming:
        return naming[pruner.name](model, budget, entering)
    if model.crops == 1 or pruner.name == "divprune":
        return budget, f"{budget} tokens", False
    uneven = pruner.name in ONE_COUNT and budget % model.crops > 0
    return budget, f"{budget} tokens ({budget / model.crops:g} per crop)", uneven


def fastv_rank(budget: int, total: int, layers: int, k: int = 2) -> float:
    """Tokens to keep after k layers so that the average is the budget, before rounding; below 1 it is out of reach."""
    return (layers * budget - k * total) / (layers - k)


def _fastv(model: Shape, budget: int, entering: tuple[int, ...]) -> tuple[int | None, str, bool]:
    k, keep = entering.count(model.tokens), entering[-1]
    exact = fastv_rank(budget, model.tokens, len(entering), k)
    return keep, f"K = {k}, rank {keep} ({exact:.1f} before rounding)", k != 2


def _pdrop(model: Shape, budget: int, entering: tuple[int, ...]) -> tuple[int | None, str, bool]:
    stages, ratio = pdrop.plan(budget, model.tokens, len(entering))
    ours = abs(ratio - pdrop.PUBLISHED) > 1e-3 or min(stages) != len(entering) // 4
    layers = ", ".join(map(str, stages))
    return None, f"layers {layers}, ratio {ratio:.3f}; named by layers and ratios, not by a count", ours


def _sparsevlm(model: Shape, budget: int, entering: tuple[int, ...]) -> tuple[int | None, str, bool]:
    kept, published = sparsevlm.plan(budget, model.tokens, len(entering))
    leaving = average_leaving(entering)
    counts = "/".join(map(str, kept.values()))
    return int(leaving), f"keeps {counts} and recycles; named by tokens leaving a layer, {leaving:.1f}", not published


def _visionzip(model: Shape, budget: int, entering: tuple[int, ...]) -> tuple[int | None, str, bool]:
    shares = split_budget(budget, [model.tokens // model.crops] * model.crops)
    merged = [round(share * visionzip.CONTEXTUAL_SHARE) for share in shares]
    per_crop = " per crop" if model.crops > 1 else ""
    ours = any(share not in visionzip.PUBLISHED for share in shares)
    return budget, f"{shares[0] - merged[0]} dominant + {merged[0]} contextual{per_crop}", ours


def _trim(model: Shape, budget: int, entering: tuple[int, ...]) -> tuple[int | None, str, bool]:
    per_crop = " per crop" if model.crops > 1 else ""
    share = split_budget(budget, [model.tokens // model.crops] * model.crops)[0]
    # The authors' code breaks on several crops.
    return budget, f"{share - 1} patches + 1 mean token{per_crop}", model.crops > 1
