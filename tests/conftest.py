"""Engines over tiny random checkpoints, made once per run; the served page and a browser, once per file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from script_core.engine import Engine
from tests import tiny
from tests.browser import chrome, served, visit
from tests.serving import engine, server

__all__ = ["chrome", "engine", "served", "server", "visit"]  # fixtures for every file that names them

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def next_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_llava_next(tmp_path_factory.mktemp("llava_next"))


@pytest.fixture(scope="session")
def llava(llava_folder: Path) -> Engine:
    """LLaVA-1.5, 36 tokens."""
    return Engine.load(llava_folder, device="cpu")


@pytest.fixture(scope="session")
def llava_next(next_folder: Path) -> Engine:
    """LLaVA-NeXT, 36 tokens per view, up to 4 tiles."""
    return Engine.load(next_folder, device="cpu")


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    """The five further families, newlines of rows that still hold a token kept."""
    from tests import tiny_families

    made = {}
    for family in tiny_families.FAMILIES:
        folder = tiny_families.save(family, tmp_path_factory.mktemp(family))
        made[family] = Engine.load(folder, device="cpu", newlines="row")
    config = made["llava_video"].backend.model.config  # type: ignore[attr-defined]
    config.image_token_id, config.video_token_id = 270, 271  # the published ids lie beyond a tiny vocabulary
    return made
