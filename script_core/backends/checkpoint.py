"""Reading a checkpoint, from a folder or the hub: weights from safetensors only, and no code that comes with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from script_core.backends.base import CannotLoad, ModelInfo
from script_core.backends.joint import JointSpace, load_joint
from script_core.backends.placement import Placement
from script_core.backends.progress import Step, Told, silent

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


def load_parts(source: str, family: str, place: Placement, told: Told = silent) -> Parts:
    """A LLaVA-1.5 or LLaVA-NeXT checkpoint, with the joint space of its CLIP tower. Raises `CannotLoad`."""
    if family == "llava":
        from transformers.models.llava.modeling_llava import LlavaForConditionalGeneration as Model
    else:
        from transformers.models.llava_next.modeling_llava_next import (  # type: ignore[assignment]
            LlavaNextForConditionalGeneration as Model,
        )
    parts = read(source, Model, place, told, template=VICUNA)
    with _quietly(source):
        joint = load_joint(source, parts.model, place.device)
    offers = {"cls_attention", "encoder", "in_model"} | ({"joint"} if joint is not None else set())
    return replace(parts, joint=joint, info=replace(parts.info, family=family, offers=frozenset(offers)))


def read(
    source: str,
    model_class: Any,
    place: Placement,
    told: Told = silent,
    *,
    template: str,
    processor: dict[str, Any] | None = None,
    **more: Any,
) -> Parts:
    """Model, tokenizer and settings. `template` and `processor` serve checkpoints that bring none.
    `more` goes to `from_pretrained`.

    Offers what every language model does, "in_model". Raises `CannotLoad`, also if a single weight is missing.
    """
    from transformers import AutoTokenizer

    with _quietly(source, told):
        config = more.get("config") or model_class.config_class.from_pretrained(source)
        more |= place.options(model_class, config)
        model, report = model_class.from_pretrained(
            source, dtype=place.dtype, use_safetensors=True, attn_implementation="sdpa", output_loading_info=True,
            **more,
        )  # fmt: skip
        missing = sorted(report["missing_keys"])
        if missing:
            raise CannotLoad(f"The weights of {source} lack {missing[0]} and cannot be used.")
        tokenizer = AutoTokenizer.from_pretrained(source)
        found = read_json(source, "preprocessor_config.json") or _nested_processor(source) or processor or {}
        check(source, model, found)
        if not place.direct:
            if place.device.type != "cpu":
                told(Step("move"))
            model = model.to(place.device)
        model = model.eval()
        theirs = _template(source)
    precision = str(place.dtype).removeprefix("torch.")
    offers = frozenset({"in_model"})
    info = ModelInfo(source, source, str(place.device), precision, "", offers, placed=place.shown())
    return Parts(model, tokenizer, found, theirs or tokenizer.chat_template or template, None, info)


@contextmanager
def _quietly(source: str, told: Told = silent) -> Iterator[None]:
    """Without transformers' tables of unexpected weights, and with one sentence for whatever goes wrong."""
    from transformers.utils import logging

    shown = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    before = logging.set_tqdm_hook(lambda bar, given, options: _heard(bar, given, options, told))
    try:
        yield
    except CannotLoad:
        raise
    except Exception as error:  # broken weights surface as anything from OSError to SafetensorError
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CannotLoad(f"{source} cannot be loaded: {first[:200]}") from error
    finally:
        logging.set_tqdm_hook(before)
        logging.set_verbosity(shown)
        logging.enable_progress_bar()


def _heard(bar: Any, given: tuple[Any, ...], options: dict[str, Any], told: Told) -> Any:
    """In place of transformers' progress bar: tells how many of the tensors have been read."""
    if not given or not hasattr(given[0], "__len__"):
        return bar(*given, **options)
    total = len(given[0])

    def counted() -> Iterator[Any]:
        for at, item in enumerate(given[0]):
            told(Step("read", at, total))
            yield item

    return counted()


def check(source: str, model: Any, processor: dict[str, Any]) -> None:
    """Raises `CannotLoad` for what the pruned prefill cannot run."""
    if not processor:
        raise CannotLoad(f"{source} has no preprocessor_config.json, so pictures cannot be prepared for it.")
    if any("sliding" in kind for kind in getattr(model.config.get_text_config(), "layer_types", None) or ()):
        raise CannotLoad(f"{source} uses sliding-window attention, which the pruned prefill does not support.")


def eos_ids(parts: Parts) -> frozenset[int]:
    """Every token that ends an answer."""
    known = parts.model.generation_config.eos_token_id
    ids = known if isinstance(known, list) else [known]
    ids = [*ids, parts.tokenizer.eos_token_id]
    return frozenset(int(i) for i in ids if i is not None)


def settings(parts: Parts, *without: str) -> dict[str, Any]:
    """The image processor's settings, ready for the constructor of one of its classes."""
    names = ("image_processor_type", "processor_class", "feature_extractor_type", *without)
    return {name: value for name, value in parts.processor.items() if name not in names}


def read_json(source: str, name: str) -> dict[str, Any]:
    path = find(source, name)
    return json.loads(path.read_text(encoding="utf-8")) if path else {}


def find(source: str, name: str) -> Path | None:
    """A file of the checkpoint, or None if it has none of that name."""
    from transformers.utils import cached_file

    found = cached_file(
        source, name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return Path(found) if found else None


def _nested_processor(source: str) -> dict[str, Any]:
    return read_json(source, "processor_config.json").get("image_processor", {})


def _template(source: str) -> str | None:
    """The processor's chat template: a .jinja file, or the older JSON file."""
    path = find(source, "chat_template.jinja")
    return path.read_text(encoding="utf-8") if path else read_json(source, "chat_template.json").get("chat_template")
