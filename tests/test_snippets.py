"""Every snippet and link of the page, run and opened as it is shown."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.serving import QUESTION, SHORT
from ui import snippets
from ui.examples import examples
from ui.state import Settings, from_query

ROOT = Path(__file__).parent.parent


AWKWARD = 'is there a dog ? "it\'s" $(touch /nowhere) `x` \\ \n #{} \U0001f436'


@pytest.mark.parametrize("own", [False, True], ids=["example", "own picture"])
@pytest.mark.parametrize("kind", ["Python", "gradio_client", "curl"])
def test_snippets_run_as_they_are_shown(
    kind: str,
    own: bool,
    server: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings(question=" ".join(AWKWARD.split()), budget=24, tau=0.3, answer_tokens=SHORT)
    example = None if own else examples()[0]
    code = snippets.snippet(kind, settings, address=server.address, example=example, model="stickers", first="stickers")
    if own:
        shutil.copy(examples()[1].path, tmp_path / "picture.png")
    else:
        (tmp_path / "assets").symlink_to(ROOT / "assets")
    if kind != "curl":
        monkeypatch.chdir(tmp_path)
        exec(compile(code, "snippet.py", "exec"), {})
        assert capsys.readouterr().out.strip().endswith("24 of 576")
        return
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    told = json.loads([line[6:] for line in done.stdout.splitlines() if line.startswith("data: ")][-1])[0]
    assert (told["kept"], told["total"]) == (24, 576)
    assert told["settings"]["tau"] == 0.3 and told["settings"]["question"] == settings.question


def test_link_opens_the_same_settings(server: SimpleNamespace) -> None:
    from urllib.parse import parse_qsl, urlsplit

    settings = Settings(question="where is the cat ?", budget=99, gamma=2.5, method="divprune", flip=True)
    made = snippets.snippet(
        "Link", settings, address=server.address, example=examples()[2], model="stickers-anyres", first="stickers"
    )
    query = dict(parse_qsl(urlsplit(made).query))
    assert from_query(query) == (settings, ())
    assert query["example"] == examples()[2].id and query["model"] == "stickers-anyres"
    plain = snippets.snippet("Link", Settings(), address="http://a/", example=None, model="stickers", first="stickers")
    assert plain == "http://a/"


def test_share_texts_and_files(server: SimpleNamespace) -> None:
    from ui.pictures import Pictures
    from ui.share import Sharing
    from ui.state import DEFAULTS, NAMES

    sharing = Sharing(SimpleNamespace(host=server.host), Pictures())  # type: ignore[arg-type]
    settings = DEFAULTS.but(question=QUESTION, answer_tokens=SHORT)
    values = tuple(getattr(settings, name) for name in NAMES)
    path = str(examples()[0].path)
    text, note = sharing.text("Link", server.address, "stickers", path, values)
    assert "example=breakfast" in text and note == ""
    bad = tuple("x" if name == "tau" else value for name, value in zip(NAMES, values, strict=True))
    text, note = sharing.text("curl", server.address, "stickers", path, bad)
    assert text == "" and "tau must be a number" in note
    for kind, start in (("JSON", b"{"), ("PNG", b"\x89PNG"), ("CSV", b"schema,")):
        file = json.loads(sharing.file(kind, "stickers", path, *values))
        assert base64.b64decode(file["base64"]).startswith(start) and file["name"] == f"script-script-64.{kind.lower()}"
    with pytest.raises(ValueError, match="Choose a picture first"):
        sharing.file("CSV", "stickers", None, *values)
