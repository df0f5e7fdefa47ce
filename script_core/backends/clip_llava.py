"""What LLaVA-1.5 and LLaVA-NeXT share: a CLIP tower, a projector, and a language model with a spliced-in picture.

transformers' own classes hold the weights; the order in which their parts run is written out here, because pruning
needs what lies between them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from script_core.backends.base import CannotLoad, ModelInfo, Prompt, on_cpu
from script_core.backends.joint import JointSpace, load_joint
from script_core.media import Media
from script_core.tokens import Block, EncoderState, Grid, Query, Selection, VisualTokens

# LLaVA's conversation format for Vicuna, for checkpoints that bring no template of their own.
VICUNA = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %} ASSISTANT:{% endfor %}"
)


@dataclass(frozen=True, eq=False)
class Parts:
    """A loaded checkpoint: the model, its tokenizer, its image processor's settings, and a joint space if any."""

    model: Any
    tokenizer: Any
    processor: dict[str, Any]
    template: str
    joint: JointSpace | None
    info: ModelInfo

    def named(self, name: str, source: str, only_stickers: bool = False) -> Parts:
        return replace(self, info=replace(self.info, name=name, source=source, only_stickers=only_stickers))


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


class ClipLlava:
    """The members of `Backend` for both families; each adds how it cuts and lays out a picture."""

    family: ClassVar[str]
    newline: Tensor | None = None

    def __init__(self, parts: Parts) -> None:
        self.model = parts.model
        self.info = replace(parts.info, family=self.family)
        self.language_model = parts.model.model.language_model
        self.lm_head = parts.model.lm_head
        self.text_config = parts.model.config.get_text_config()
        self.eos_ids = _eos_ids(parts)
        self._tokenizer = parts.tokenizer
        self._template = parts.template
        self._joint = parts.joint
        self._tower = parts.model.model.vision_tower
        self._projector = parts.model.model.multi_modal_projector
        self._depth = _depth(parts.model.config)

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
        hidden, keys, cls = self._look(views.pixels.to(self.lm_head.weight))
        projected = self._projector(hidden[:, 1:])
        cols = torch.tensor([block.cols for block in views.blocks])[place.view]
        joint = None if self._joint is None else on_cpu(self._joint.visual(hidden[:, 1:]))
        attention = on_cpu(cls)
        return VisualTokens(
            features=on_cpu(projected)[place.view, place.patch],
            grid=Grid(views.blocks, place.view, place.patch // cols, place.patch % cols),
            joint=None if joint is None else joint[place.view, place.patch],
            cls_attention=attention.mean(1)[place.view, place.patch],
            encoder=EncoderState(on_cpu(hidden), on_cpu(keys), attention, place.patch, self._project),
            newlines=place.newlines,
            newline=self.newline,
            relevance_sign=1.0 if self._joint is None else self._joint.sign,
        )

    @torch.no_grad()
    def _project(self, states: Tensor) -> Tensor:
        return on_cpu(self._projector(states.to(self.lm_head.weight)))

    def _look(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run the tower up to the layer that the projector reads, and no further.

        Returns its hidden states (B, 1 + p, v), and from its attention the keys averaged over heads (B, 1 + p, e) and
        CLS over patches (B, heads, p). That one attention row is computed by hand, so the layers keep their SDPA.
        """
        hidden = self._tower.pre_layrnorm(self._tower.embeddings(pixels))
        before = hidden
        for layer in self._tower.encoder.layers[: self._depth]:
            before = hidden
            hidden = layer(hidden, None)
        last = self._tower.encoder.layers[self._depth - 1]
        inner = last.self_attn
        states = last.layer_norm1(before)
        keys = inner.k_proj(states).unflatten(-1, (-1, inner.head_dim))  # (B, 1 + p, heads, e)
        query = inner.q_proj(states[:, :1]).unflatten(-1, (-1, inner.head_dim))
        scores = torch.einsum("bqhe,bkhe->bhk", query.float(), keys.float()) * inner.scale
        return hidden, keys.mean(2), scores.softmax(-1)[..., 1:]

    @torch.no_grad()
    def query(self, question: str) -> Query:
        ids = self._tokenizer(self._plain(question), add_special_tokens=False)["input_ids"] or [min(self.eos_ids)]
        features = self.language_model.embed_tokens(torch.tensor(ids, device=self.lm_head.weight.device))
        joint = None if self._joint is None else on_cpu(self._joint.text(question))
        return Query(question, on_cpu(features), joint)

    def _plain(self, question: str) -> str:
        """The question without strings that the tokenizer would read as its control tokens."""
        for control in self._tokenizer.all_special_tokens:
            question = question.replace(control, " ")
        return question

    def prompt_ids(self, question: str) -> tuple[list[int], list[int]]:
        """Token ids before and after the picture."""
        parts = [{"type": "image"}, {"type": "text", "text": self._plain(question)}]
        text = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": parts}],
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=True,
        )
        opens = self._tokenizer.bos_token is not None and text.startswith(self._tokenizer.bos_token)
        ids = self._tokenizer(text, add_special_tokens=not opens)["input_ids"]
        spot = ids.index(self.model.config.image_token_id)
        return ids[:spot], ids[spot + 1 :]

    @torch.no_grad()
    def build(
        self,
        question: str,
        tokens: VisualTokens,
        selection: Selection | None,
        *,
        newlines: str = "all",
        positions: str = "compact",
    ) -> Prompt:
        before, after = self.prompt_ids(question)
        weight = self.lm_head.weight
        rows, source, ids, span = splice(tokens, selection, newlines)
        text = self.language_model.embed_tokens(torch.tensor(before + after, device=weight.device))
        embeddings = torch.cat([text[: len(before)], rows.to(text), text[len(before) :]])
        ends = len(before) + (span if positions == "original" else len(rows))
        middle = len(before) + (ids if positions == "original" else torch.arange(len(rows)))
        numbers = torch.cat([torch.arange(len(before)), middle, torch.arange(ends, ends + len(after))])
        visual = torch.zeros(len(embeddings), dtype=torch.bool)
        visual[len(before) : len(before) + len(rows)] = True
        sources = torch.full((len(embeddings),), -1)
        sources[visual] = source
        return Prompt(
            embeddings[None],
            numbers[None].to(weight.device),
            visual.to(weight.device),
            sources.to(weight.device),
            ends + len(after),
        )

    def new_cache(self) -> Any:
        from transformers.cache_utils import DynamicCache

        return DynamicCache(config=self.text_config)

    def decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)


def splice(
    tokens: VisualTokens, selection: Selection | None, newlines: str
) -> tuple[Tensor, Tensor, Tensor, int]:
    """The visual rows of a prompt: embeddings (r, d), source (r,), their place among all visual rows (r,), and how
    many visual rows there would be with nothing pruned."""
    kept = torch.arange(len(tokens)) if selection is None else selection.kept
    held = _held_newlines(tokens, kept, newlines)
    every = torch.sort(torch.cat([2 * torch.arange(len(tokens)), 2 * tokens.newlines + 1])).values
    if selection is not None and selection.inserted is not None and len(selection.inserted) != len(kept):
        count = len(selection.inserted)  # merged rows that stand for no single token: read last, in their own order
        at = torch.arange(len(every) - count, len(every)).clamp(min=0)
        return selection.inserted, torch.full((count,), -1), at, len(every)
    keys = torch.cat([2 * kept, 2 * held + 1])  # a newline comes right behind the token that it follows
    order = torch.argsort(keys)
    content = tokens.features[kept] if selection is None or selection.inserted is None else selection.inserted
    source = kept if selection is None or selection.inserted is None else torch.full_like(kept, -1)
    rows = content if tokens.newline is None else torch.cat([content, tokens.newline.expand(len(held), -1)])
    source = torch.cat([source, torch.full((len(held),), -1)])
    return rows[order], source[order], torch.searchsorted(every, keys[order]), len(every)


def _held_newlines(tokens: VisualTokens, kept: Tensor, newlines: str) -> Tensor:
    if newlines == "none" or tokens.newline is None or not len(tokens.newlines):
        return torch.empty(0, dtype=torch.int64)
    if newlines == "all":
        return tokens.newlines
    present = torch.zeros(len(tokens) + 1, dtype=torch.int64)
    present[kept + 1] = 1
    count = present.cumsum(0)  # count[i] = tokens kept among the first i
    blocks = tokens.grid.blocks
    base = int((tokens.grid.block == 0).sum()) if len(blocks) > 1 and blocks[0].kind == "base" else 0  # has no newlines
    starts = torch.cat([torch.tensor([base]), tokens.newlines[:-1] + 1])
    return tokens.newlines[count[tokens.newlines + 1] > count[starts]]


def _depth(config: Any) -> int:
    """How many layers of the tower run for the hidden state that the projector reads."""
    layer, layers = config.vision_feature_layer, config.vision_config.num_hidden_layers
    if not isinstance(layer, int) or config.vision_feature_select_strategy != "default":
        raise CannotLoad("This checkpoint mixes several layers of its vision tower, which is not supported here.")
    depth = layer if layer >= 0 else layers + 1 + layer
    if not 1 <= depth <= layers:
        raise CannotLoad(f"This checkpoint reads layer {layer} of a vision tower with {layers} layers.")
    return depth


def _eos_ids(parts: Parts) -> frozenset[int]:
    known = parts.model.generation_config.eos_token_id
    ids = known if isinstance(known, list) else [known]
    ids = [*ids, parts.tokenizer.eos_token_id]
    return frozenset(int(i) for i in ids if i is not None)


def load_parts(source: str, family: str, device: torch.device, dtype: torch.dtype) -> Parts:
    """Read a checkpoint from a folder or the hub. Raises `CannotLoad`."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    if family == "llava":
        from transformers.models.llava.modeling_llava import LlavaForConditionalGeneration as Model
    else:
        from transformers.models.llava_next.modeling_llava_next import (  # type: ignore[assignment]
            LlavaNextForConditionalGeneration as Model,
        )
    shown = logging.get_verbosity()
    logging.set_verbosity_error()  # loading one tower of CLIP would list every weight of the other as unexpected
    logging.disable_progress_bar()
    try:
        model, report = Model.from_pretrained(
            source, dtype=dtype, use_safetensors=True, attn_implementation="sdpa", output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(source)
        processor = _read_json(source, "preprocessor_config.json") or _nested_processor(source)
        if report["missing_keys"]:
            raise CannotLoad(f"The weights of {source} lack {sorted(report['missing_keys'])[0]} and cannot be used.")
        model = model.to(device).eval()
        _check(source, model, processor)
        joint = load_joint(source, model, device)
    except CannotLoad:
        raise
    except Exception as error:  # broken weights surface as anything from OSError to SafetensorError
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CannotLoad(f"{source} cannot be loaded: {first[:200]}") from error
    finally:
        logging.set_verbosity(shown)
        logging.enable_progress_bar()
    offers = {"cls_attention", "encoder", "in_model"} | ({"joint"} if joint is not None else set())
    info = ModelInfo(source, source, str(device), str(dtype).removeprefix("torch."), family, frozenset(offers))
    template = _template(source) or tokenizer.chat_template or VICUNA
    return Parts(model, tokenizer, processor, template, joint, info)


def _check(source: str, model: Any, processor: dict[str, Any]) -> None:
    if not processor:
        raise CannotLoad(f"{source} has no preprocessor_config.json, so pictures cannot be prepared for it.")
    if any("sliding" in kind for kind in getattr(model.config.get_text_config(), "layer_types", None) or ()):
        raise CannotLoad(f"{source} uses sliding-window attention, which the pruned prefill does not support.")


def _nested_processor(source: str) -> dict[str, Any]:
    return _read_json(source, "processor_config.json").get("image_processor", {})


def _template(source: str) -> str | None:
    """The processor's chat template: a .jinja file, or the older JSON file."""
    path = _find(source, "chat_template.jinja")
    return path.read_text(encoding="utf-8") if path else _read_json(source, "chat_template.json").get("chat_template")


def _read_json(source: str, name: str) -> dict[str, Any]:
    path = _find(source, name)
    return json.loads(path.read_text(encoding="utf-8")) if path else {}


def _find(source: str, name: str) -> Path | None:
    from transformers.utils import cached_file

    found = cached_file(
        source, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return Path(found) if found else None
