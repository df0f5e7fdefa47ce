"""Loading a model in the real page: progress, a second visitor meanwhile, and the end of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import app
from tests.browser import free_port, settle
from tests.hub import ROOMY, SIZE, FakeHub
from ui import page
from ui.runtime import Host


@dataclass
class Halting(FakeHub):
    """Stops half-way through a download until it is let go on, and says when it has got there."""

    half: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def snapshot_download(self, repo_id: str, *, dry_run: bool = False, tqdm_class: Any = None, **options: Any) -> Any:
        if not dry_run:
            bar = tqdm_class(total=0, unit="B")
            bar.update(SIZE)
            self.half.set()
            assert self.go_on.wait(300)
        return super().snapshot_download(repo_id, dry_run=dry_run, tqdm_class=tqdm_class, **options)


@pytest.fixture(scope="module")
def served(llava_folder: Path) -> Iterator[SimpleNamespace]:
    hub = Halting(llava_folder)
    host = Host(hub=hub, look=lambda: ROOMY, device="cpu")
    demo = page.build(host)
    address = app.serve(demo, host, app.arguments(["--port", str(free_port())]), block=False)
    yield SimpleNamespace(address=address, host=host, hub=hub)
    hub.go_on.set()
    demo.close()


def opened(chrome: Any, address: str) -> Any:
    view = chrome.new_page(viewport={"width": 1366, "height": 900})
    view.goto(address)
    settle(view)
    return view


def choose(view: Any, title: str) -> None:
    view.locator("#ask-model input").click()
    view.get_by_role("option", name=title, exact=True).click()
    view.locator("#ask-load").wait_for(state="visible", timeout=60_000)


def test_a_load_is_shown_while_others_ask(chrome: Any, served: SimpleNamespace) -> None:
    first = opened(chrome, served.address)
    choose(first, "LLaVA-1.5 7B")
    assert "a download of 14.1 GB" in first.locator("#ask-model-note").inner_text()
    weights = first.locator("#ask-bits input")
    assert weights.count() == 3 and "bit" in first.locator("#ask-bits").inner_text()
    first.locator("#ask-load").click()
    first.wait_for_selector('.load[data-phase="download"]', timeout=60_000)
    assert "downloading" in first.locator("#badge").inner_text()
    assert first.locator("#ask-load").is_disabled()

    second = opened(chrome, served.address)
    choose(second, "LLaVA-NeXT 7B")
    second.locator("#ask-load").click()
    note = second.locator("#ask-model-note .note-error")
    note.wait_for(timeout=60_000)
    assert "Another model is being loaded (LLaVA-1.5 7B: downloading" in note.inner_text()
    assert second.locator("#ask-model input").input_value() == "Stickers, 576 tokens"
    second.locator("#ask-run").click()
    second.wait_for_function("document.querySelector('.ans')?.innerText.includes('answered live in')", timeout=60_000)
    assert first.locator(".load").count() == 1  # answered while the load stood still

    served.hub.go_on.set()
    first.wait_for_function(
        "document.querySelector('#ask-model-note')?.innerText === 'LLaVA-1.5 7B is loaded.'", timeout=60_000
    )
    assert "LLaVA-1.5 7B \u00b7 cpu \u00b7 float32" in first.locator("#badge").inner_text()
    assert first.locator("#ask-load").is_hidden()
