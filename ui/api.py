"""The public endpoints: six functions that programs and agents call by REST, `gradio_client` or MCP.

They take what the page takes, are checked by the same rules, wait in the same line for the model, and answer in plain
JSON. Everything else on the page is private. docs/api.md shows calls.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from typing import Any, Literal

import gradio as gr

from script_core.backends.base import CannotLoad
from script_core.engine import Engine, QuestionError
from script_core.media import Media, MediaError
from script_core.pruners import PRUNERS
from script_core.pruners.base import CannotPrune
from script_core.report import Encoded
from ui import export, shortage
from ui.caller import HungUp, Left
from ui.compare_calculator import calculate, choices
from ui.compare_state import check_methods
from ui.context import Context
from ui.examples import examples
from ui.given import Picture, picture
from ui.guard import Allowance, address_of
from ui.limits import LANE, LIMITS
from ui.runtime import Host, NotReady
from ui.state import DEFAULTS, Settings, Unusable, check, pruner_of
from ui.trouble import GENERIC

log = logging.getLogger("script")

Method = Literal[tuple(PRUNERS)]  # type: ignore[valid-type]
Sized = Literal[tuple(name for _, name in choices())]  # type: ignore[valid-type]


class Endpoints:
    """The six functions over one host of models. Their docstrings are what API pages and agents read."""

    def __init__(self, host: Host, per_minute: int = LIMITS.calls_per_minute) -> None:
        self.host = host
        self.allowance = Allowance(per_minute)

    def answer(
        self,
        image: Picture,
        question: str,
        method: Method = "script",
        budget: int = DEFAULTS.budget,
        tau: float = DEFAULTS.tau,
        gamma: float = DEFAULTS.gamma,
        p: float = DEFAULTS.p,
        scope: Literal["crop", "global"] = "crop",
        flip: bool = False,
        newlines: Literal["drop", "row"] = "drop",
        answer_tokens: int = DEFAULTS.answer_tokens,
        model: str = "",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer a question about a picture from the few visual tokens that a pruning method keeps.

        Args:
            image: an uploaded file, a data: URI with base64, or the name of an example such as "balloons".
            question: what to ask, at most 2,000 characters.
            method: the pruning method; the endpoint `methods` lists them.
            budget: how many visual tokens stay.
            tau: cosine similarity from which two tokens are look-alikes, 0 to 1 (Script).
            gamma: weight of how close look-alikes are, 0 to 10 (Script).
            p: share of tokens that the redundancy graph drops, 0 to 1 (Script).
            scope: share the budget out over crops ("crop") or over the whole picture ("global").
            flip: turn the sign of relevance around.
            newlines: whether separators of tile rows are dropped or kept with their row (LLaVA-NeXT).
            answer_tokens: length limit of the answer, 1 to 256.
            model: a model that is loaded here, see the endpoint `models`; empty for the server's first one.

        Returns:
            The answer, how many tokens were kept out of how many, counters (measured and computed apart) and notes.
            `declined`: the embedded model was not asked, as it does not know a word; the answer says which.
        """
        settings, engine, encoded, asked = self._asked(locals())
        result = engine.ask(encoded, settings.question, **asked, max_new_tokens=settings.answer_tokens, stop=Left())
        return export.plain(
            {
                "answer": result.answer,
                "declined": result.declined,
                "model": result.model,
                "device": engine.info.device,
                "kept": result.counters.kept,
                "total": result.counters.total,
                "settings": asdict(settings),
                "counters": asdict(result.counters),
                "notes": [*result.selection.notes, *([result.notice] if result.notice else [])],
            }
        )

    def explain(
        self,
        image: Picture,
        question: str,
        method: Method = "script",
        budget: int = DEFAULTS.budget,
        tau: float = DEFAULTS.tau,
        gamma: float = DEFAULTS.gamma,
        p: float = DEFAULTS.p,
        scope: Literal["crop", "global"] = "crop",
        flip: bool = False,
        model: str = "",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Which visual tokens a method keeps for a question, and every token's scores, without answering it.

        Args:
            image: an uploaded file, a data: URI with base64, or the name of an example such as "balloons".
            question: what relevance is measured against, at most 2,000 characters.
            method: the pruning method; the endpoint `methods` lists them.
            budget: how many visual tokens stay.
            tau: cosine similarity from which two tokens are look-alikes, 0 to 1 (Script).
            gamma: weight of how close look-alikes are, 0 to 10 (Script).
            p: share of tokens that the redundancy graph drops, 0 to 1 (Script).
            scope: share the budget out over crops ("crop") or over the whole picture ("global").
            flip: turn the sign of relevance around.
            model: a model that is loaded here, see the endpoint `models`; empty for the server's first one.

        Returns:
            `kept` and `order` as token indices; `tokens` with one entry per token in each list: block, row, col and the
            scores; `blocks` with the crops or frames that rows and columns refer to.
        """
        settings, engine, encoded, asked = self._asked(locals())
        selected = engine.select(encoded, settings.question, **asked)
        return export.plain({"model": engine.info.name, "settings": asdict(settings), **export.tokens(selected)})

    def compare(
        self,
        image: Picture,
        question: str,
        methods: list[Method] = ["script", "divprune", "random"],  # noqa: B006  (read for the API's description)
        budget: int = DEFAULTS.budget,
        answer_tokens: int = DEFAULTS.answer_tokens,
        model: str = "",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Answer one question with several pruning methods at one budget, each measured against all tokens.

        Args:
            image: an uploaded file, a data: URI with base64, or the name of an example such as "balloons".
            question: what to ask, at most 2,000 characters.
            methods: two to eight method names; the endpoint `methods` lists them.
            budget: how many visual tokens stay, on average over layers.
            answer_tokens: length limit of an answer, 1 to 256.
            model: a model that is loaded here, see the endpoint `models`; empty for the server's first one.

        Returns:
            The answer from all tokens, and a row per method: answer, KL divergence in nats (first token, and mean over
            the full answer), agreement, tokens kept, FLOPs and milliseconds; or why the method cannot be used.
        """
        try:
            chosen = check_methods(methods if isinstance(methods, list) else None)
        except ValueError as problem:
            raise Unusable({"methods": str(problem)}) from None
        settings, engine, media = self._given({**locals(), "method": chosen[0]})
        return export.plain(export.comparison(engine, media, settings, chosen, Left()))

    def calculate(
        self,
        method: Method = "script",
        model: Sized = "llava-1.5-7b",
        budget: int = 192,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """What a token budget means for a method and a model, from their sizes alone: no picture, no weights.

        Args:
            method: the pruning method; the endpoint `methods` lists them.
            model: the model whose sizes count.
            budget: visual tokens entering a layer, on average over layers.

        Returns:
            Visual tokens entering each layer, what the authors call this run, FLOPs (the papers' formula, and a forward
            pass at two per multiply-add) and bytes of the KV cache, each beside those with every token kept.
        """
        self._admit(request)
        found = calculate(self.host, method, model, budget)
        return export.plain({**asdict(found), "average": found.average, "layers": len(found.entering)})

    def methods(self, request: gr.Request | None = None) -> list[dict[str, Any]]:
        """The pruning methods: names, what people call them, where they act, what they need, and their parameters.

        Returns:
            One entry per method.
        """
        self._admit(request)
        return [
            {
                "name": name,
                "title": cls.title,
                "acts": cls.acts,
                "reads_question": cls.reads_question,
                "needs": sorted(cls.needs),
                "about": (inspect.getdoc(inspect.getmodule(cls)) or "").split("\n\n")[0].replace("\n", " "),
                "parameters": {
                    key: parameter.default
                    for key, parameter in inspect.signature(cls).parameters.items()
                    if isinstance(parameter.default, str | int | float | bool | None)
                },
            }
            for name, cls in PRUNERS.items()
        ]

    def models(self, request: gr.Request | None = None) -> list[dict[str, Any]]:
        """The models, which of them can be asked here now, and the example pictures by name.

        Returns:
            One entry per model.
        """
        self._admit(request)
        return [
            {
                "name": name,
                "title": shown,
                "loaded": self.host.loaded(name),
                "first": name == self.host.first,
                "about": self.host.about(name),
                "examples": [example.id for example in examples()],
            }
            for shown, name in self.host.choices()
        ]

    def _admit(self, request: gr.Request | None) -> None:
        wait = self.allowance.wait(address_of(request))
        if wait:
            raise NotReady(
                f"At most {LIMITS.calls_per_minute} calls a minute are answered; the next one in {wait:.0f} seconds."
            )

    def _given(self, given: dict[str, Any]) -> tuple[Settings, Engine, Media]:
        """Checked settings, the engine and the picture of one call, or what speaks against it."""
        self._admit(given["request"])
        settings = check({name: given[name] for name in asdict(DEFAULTS) if name in given})
        name = given["model"]
        if not isinstance(name, str) or (name and not self.host.loaded(name)):
            known = ", ".join(name for _, name in self.host.choices() if self.host.loaded(name))
            raise NotReady(f"There is no such model here; the models that can be asked are {known}.")
        media = picture(given["image"])
        return settings, self.host.engine(name, settings.newlines), media

    def _asked(self, given: dict[str, Any]) -> tuple[Settings, Engine, Encoded, dict[str, Any]]:
        """`_given`, with the picture encoded, and the method and budget as the engine takes them."""
        settings, engine, media = self._given(given)
        encoded = engine.encode(media)
        pruner = pruner_of(settings, encoded.tokens.relevance_sign)
        return settings, engine, encoded, {"pruner": pruner, "budget": min(settings.budget, len(encoded.tokens))}


KNOWN_TROUBLE = (Unusable, MediaError, QuestionError, CannotPrune, CannotLoad, NotReady, HungUp)


def spoken(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with every failure as a sentence that a caller may read."""

    name = getattr(fn, "__name__", "a save")

    @wraps(fn)
    def call(*given: Any, **named: Any) -> Any:
        try:
            return fn(*given, **named)
        except KNOWN_TROUBLE as problem:
            raise gr.Error(str(problem), print_exception=False) from None
        except Exception as problem:
            short = shortage.said(problem)
            if not short:
                log.error("unexpected in %s", name, exc_info=problem)
            shortage.relieved(problem)
            raise gr.Error(short or GENERIC, print_exception=False) from None

    return call


def build(ctx: Context) -> None:
    """Declare the endpoints on the page that is being built. Those that need the model wait in its line."""
    calls = Endpoints(ctx.host)
    for fn in (calls.answer, calls.explain, calls.compare):
        gr.api(spoken(fn), api_name=fn.__name__, **LANE)
    for fn in (calls.calculate, calls.methods, calls.models):
        gr.api(spoken(fn), api_name=fn.__name__, concurrency_limit=None)
