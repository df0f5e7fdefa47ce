"""The hub's own client against a hub on this machine: what is listed, what is fetched, and what is counted."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from script_core.backends import load
from script_core.backends.base import CannotLoad
from script_core.backends.progress import Step
from tests.hub import ROOMY

COMMIT = "a" * 40


class LocalHub(BaseHTTPRequestHandler):
    """As much of the hub as the client asks for, over the files of one repository."""

    protocol_version = "HTTP/1.1"
    files: dict[str, Path] = {}
    fetched: list[str] = []

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/a/b/tree/"):
            self._json([
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(name)}
                for name, file in self.files.items()
            ])  # fmt: skip
        elif path.startswith("/api/models/a/b"):
            self._json({"id": "a/b", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]})
        elif path.startswith(f"/a/b/resolve/{COMMIT}/"):
            name = path.split(f"/{COMMIT}/")[1]
            if self.command == "GET":
                self.fetched.append(name)
            self._send(self.files[name].read_bytes(), {"ETag": f'"{_etag(name)}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(b"", {}, 404)

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, body: bytes, headers: dict[str, str], code: int = 200) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _etag(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


@pytest.fixture()
def client(llava_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HfApi]:
    """The real client of a hub with one repository, which also holds pickles and code."""
    folder = tmp_path / "repository"
    shutil.copytree(llava_folder, folder)
    (folder / "pytorch_model.bin").write_bytes(b"never")
    (folder / "modeling.py").write_text("raise SystemExit")
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    handler = type("Handler", (LocalHub,), {"files": files, "fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield HfApi(endpoint=f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    assert not [name for name in handler.fetched if name.endswith((".bin", ".py")) or "/" in name]  # type: ignore[attr-defined]


def test_every_byte_is_counted_once_and_only_safe_files_come(client: HfApi, tmp_path: Path) -> None:
    steps: list[Step] = []
    backend = load("a/b", device="cpu", hub=client, machine=ROOMY, told=steps.append)
    assert (backend.info.source, backend.info.name) == ("a/b", "b")
    counted = [step for step in steps if step.phase == "download"]
    kept = [file for file in (tmp_path / "cache").rglob("snapshots/*/*") if file.is_file()]
    assert counted[0].done == 0 and counted[-1].done == counted[-1].total == sum(file.stat().st_size for file in kept)
    assert [step.done for step in counted] == sorted(step.done for step in counted)

    steps.clear()
    load("a/b", device="cpu", hub=client, machine=ROOMY, told=steps.append)
    assert "download" not in {step.phase for step in steps}  # from the cache


def test_a_repository_that_is_not_there_is_one_sentence(client: HfApi) -> None:
    with pytest.raises(CannotLoad, match="a/c could not be fetched from the model hub .*check the name"):
        load("a/c", device="cpu", hub=client, machine=ROOMY)
