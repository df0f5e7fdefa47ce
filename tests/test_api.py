"""The public endpoints: what is public, what REST, client and agents get, and every snippet as it is shown."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from script_core import PRUNERS
from script_core.engine import Engine
from script_core.spacefile.manifest import load
from tests.browser import free_port
from ui import export, figure, mcp, snippets
from ui.examples import examples
from ui.guard import Allowance
from ui.limits import read_picture
from ui.runtime import NotReady
from ui.state import Settings, from_query

ROOT = Path(__file__).parent.parent
QUESTION = "is there a dog ?"
SHORT = 3  # tokens of an answer


@pytest.fixture(scope="module")
def server() -> Iterator[SimpleNamespace]:
    """The real page with the embedded model, served to agents, too."""
    import app
    from ui import page
    from ui.runtime import Host

    host = Host()
    demo = page.build(host)
    address = app.serve(demo, host, app.arguments(["--port", str(free_port()), "--mcp"]), block=False)
    host.wait()
    yield SimpleNamespace(address=address.rstrip("/"), host=host, demo=demo, client=Client(address, verbose=False))
    demo.close()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


def rest(server: SimpleNamespace, name: str, body: dict[str, Any]) -> Any:
    """POST, then read the stream of events to its end; the endpoint's value, or the error's sentence."""
    post = urllib.request.Request(
        f"{server.address}/gradio_api/call/v2/{name}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(post, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{server.address}/gradio_api/call/{name}/{event}", timeout=120) as answer:
        lines = [line.decode().strip() for line in answer]
    kind = [line[7:] for line in lines if line.startswith("event: ")][-1]
    data = json.loads([line[6:] for line in lines if line.startswith("data: ")][-1])
    return data[0] if kind == "complete" else data


# ---- what is public ----------------------------------------------------------------------------------------------


def test_exactly_the_declared_endpoints_are_public(server: SimpleNamespace) -> None:
    with urllib.request.urlopen(f"{server.address}/gradio_api/info", timeout=60) as answer:
        info = json.load(answer)
    assert set(info["named_endpoints"]) == {f"/{name}" for name in load().api.endpoints}
    assert info["unnamed_endpoints"] == {}
    for name, endpoint in info["named_endpoints"].items():
        assert endpoint["description"], name
        for parameter in endpoint["parameters"]:
            assert parameter["type"] or parameter["parameter_name"] == "image", (name, parameter)
    named = {p["parameter_name"]: p for p in info["named_endpoints"]["/answer"]["parameters"]}
    assert [n for n, p in named.items() if not p["parameter_has_default"]] == ["image", "question"]
    assert named["method"]["type"]["enum"] == list(PRUNERS)


def test_the_pages_own_events_cannot_be_called(server: SimpleNamespace) -> None:
    for fn in server.demo.fns.values():
        if fn.api_name not in load().api.endpoints:
            assert fn.api_visibility == "private", fn.api_name
    with pytest.raises(Exception, match="(?i)no endpoint|cannot find|not found|invalid"):
        server.client.predict(api_name="/arrived")


def test_endpoints_share_the_pages_lane(server: SimpleNamespace) -> None:
    by_name = {fn.api_name: fn for fn in server.demo.fns.values()}
    for name in ("answer", "explain", "compare"):
        assert by_name[name].concurrency_id == "model" and by_name[name].concurrency_limit == 1
    for name in ("methods", "models"):
        assert by_name[name].concurrency_limit is None


# ---- what they answer --------------------------------------------------------------------------------------------


def test_answer_by_client_is_the_librarys(server: SimpleNamespace, engine: Engine) -> None:
    told = server.client.predict(
        image="balloons", question=QUESTION, budget=32, answer_tokens=SHORT, api_name="/answer"
    )
    path = next(example.path for example in examples() if example.id == "balloons")
    ours = engine.ask(path, QUESTION, budget=32, max_new_tokens=SHORT)
    assert told["answer"] == ours.answer and (told["kept"], told["total"]) == (32, 576)
    assert told["settings"]["method"] == "script" and told["counters"]["generated"] == ours.counters.generated
    assert len(json.dumps(told)) < 3000


def test_answer_takes_an_uploaded_file_and_base64(server: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    Image.fromarray(np.full((60, 80, 3), 90, dtype=np.uint8)).save(path)
    given = {"question": QUESTION, "budget": 16, "answer_tokens": SHORT, "api_name": "/answer"}
    uploaded = server.client.predict(image=handle_file(str(path)), **given)
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    inside = server.client.predict(image=uri, **given)
    assert uploaded["answer"] == inside["answer"] and uploaded["kept"] == inside["kept"] == 16


def test_explain_by_rest_is_the_librarys(server: SimpleNamespace, engine: Engine) -> None:
    told = rest(server, "explain", {"image": "balloons", "question": QUESTION, "budget": 40, "tau": 0.4})
    path = next(example.path for example in examples() if example.id == "balloons")
    ours = engine.select(path, QUESTION, pruner=PRUNERS["script"](tau=0.4), budget=40).selection
    assert told["selection"]["kept"] == ours.kept.tolist()
    assert told["selection"]["order"] == ours.order.tolist()
    tokens = told["tokens"]
    assert {len(values) for values in tokens.values()} == {576}
    np.testing.assert_allclose(tokens["relevance"], ours.scores["relevance"].numpy(), rtol=1e-4, atol=1e-6)
    assert told["blocks"][0]["rows"] == 24 and max(tokens["row"]) == 23


def test_compare_measures_each_method_against_all_tokens(server: SimpleNamespace) -> None:
    told = server.client.predict(
        image="balloons", question=QUESTION, methods=["full", "fastv", "random"], budget=100,
        answer_tokens=SHORT, api_name="/compare",
    )  # fmt: skip
    rows = {row["method"]: row for row in told["methods"]}
    assert rows["full"]["kl_first_nats"] == 0 and rows["full"]["same"] and rows["full"]["kept"] == 576
    assert "cannot" in rows["fastv"] and "100" in rows["fastv"]["cannot"]  # four layers cannot average that low
    assert rows["random"]["kept"] == 100 and rows["random"]["kl_answer_nats"] >= 0


def test_methods_and_models_are_listed(server: SimpleNamespace) -> None:
    methods = server.client.predict(api_name="/methods")
    assert [one["name"] for one in methods] == list(PRUNERS)
    script = methods[0]
    assert script["parameters"]["tau"] == 0.5 and script["reads_question"] and "2512.01949" in script["about"]
    models = {one["name"]: one for one in server.client.predict(api_name="/models")}
    assert models["stickers"]["loaded"] and models["stickers"]["first"]
    assert not models["llava-hf/llava-1.5-7b-hf"]["loaded"]
    assert "balloons" in models["stickers"]["examples"]


GOOD = {"image": "balloons", "question": QUESTION}


@pytest.mark.parametrize(
    "given, words",
    [
        ({"question": ""}, "Type a question"),
        ({"question": "x" * 2001}, "the limit is 2,000"),
        ({"question": ["a", "b"], "budget": "many"}, "The budget must be a whole number."),
        ({"budget": 0}, "The budget must be at least 1"),
        ({"budget": 2.5}, "The budget must be a whole number"),
        ({"tau": "high"}, "tau must be a number from 0 to 1"),
        ({"gamma": -1}, "gamma must lie between 0 and 10"),
        ({"answer_tokens": 100_000}, "between 1 and 256"),
        ({"method": "magic"}, "The method must be one of script"),
        ({"scope": "galaxy"}, "The scope must be one of crop, global"),
        ({"model": "llava-hf/llava-1.5-7b-hf"}, "the models that can be asked are stickers"),
        ({"model": "../../etc"}, "There is no such model here"),
        ({"image": "no-such-example"}, "the examples are breakfast"),
        ({"image": ""}, "Give a picture"),
        ({"image": None}, "Give a picture"),
        ({"image": 7}, "Give a picture"),
        ({"image": "data:image/png,abc"}, "must hold base64"),
        ({"image": "data:image/png;base64,@@@"}, "damaged"),
        ({"image": "data:image/png;base64," + base64.b64encode(b"no picture").decode()}, "no picture that can be read"),
        ({"image": "data:image/png;base64," + "A" * 30_000_000}, "more than 20 MB"),
        ({"image": "http://127.0.0.1:1/x.png"}, "neither a data: URI nor an example's name"),
    ],
)
def test_every_refusal_is_a_sentence(given: dict[str, Any], words: str, server: SimpleNamespace) -> None:
    with pytest.raises(AppError) as raised:
        server.client.predict(**{**GOOD, **given}, api_name="/answer")
    said = str(raised.value)
    assert words in said and "Traceback" not in said and str(ROOT) not in said


def test_compare_wants_two_to_eight_methods(server: SimpleNamespace) -> None:
    for methods in ([], ["script"], ["script", "script"], list(PRUNERS)[:9], "script", ["script", "magic"]):
        with pytest.raises(AppError, match="Choose 2 to 8 methods|There is no method"):
            server.client.predict(**GOOD, methods=methods, api_name="/compare")


def test_a_failure_that_nobody_foresaw_is_one_sentence(
    server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any, **named: Any) -> None:
        raise KeyError("/srv/secret/path")

    monkeypatch.setattr(Engine, "ask", broken)
    with pytest.raises(AppError, match="Something went wrong on the server") as raised:
        server.client.predict(**GOOD, api_name="/answer")
    assert "secret" not in str(raised.value)


def test_calls_are_rationed_by_address() -> None:
    allowance = Allowance(3, addresses=2)
    assert [allowance.wait("a", now) for now in (0, 1, 2)] == [0, 0, 0]
    assert allowance.wait("a", 30) == 30 and allowance.wait("b", 30) == 0
    assert allowance.wait("a", 60.5) == 0  # the first call is a minute old
    allowance.wait("c", 61)  # more addresses than are remembered: the one that was quiet longest is forgotten
    assert allowance.wait("b", 61) == 0


def test_too_many_calls_are_told_when_to_come_back(server: SimpleNamespace) -> None:
    from ui.api import Endpoints

    calls = Endpoints(server.host, per_minute=1)
    assert calls.methods()
    with pytest.raises(NotReady, match="calls a minute are answered; the next one in 60 seconds"):
        calls.models()


# ---- agents ------------------------------------------------------------------------------------------------------


def test_agents_get_exactly_the_endpoints(server: SimpleNamespace) -> None:
    assert mcp.tools(server.address) == set(load().api.endpoints)
    mcp.check(server.address, load().api.endpoints)
    with pytest.raises(mcp.NoAgents, match="where answer, dance were declared"):
        mcp.check(server.address, ["answer", "dance"])
    with pytest.raises(mcp.NoAgents, match="offers no tools"):
        mcp.check(f"http://127.0.0.1:{free_port()}", ["answer"])


def test_an_agent_can_ask(server: SimpleNamespace) -> None:
    import anyio
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def ask() -> tuple[list[Any], Any]:
        async with streamablehttp_client(f"{server.address}{load().api.mcp_path}") as (read, write, _):
            async with ClientSession(read, write) as session:
                await session.initialize()
                tools = (await session.list_tools()).tools
                given = {"image": "balloons", "question": QUESTION, "answer_tokens": SHORT}
                return tools, await session.call_tool("answer", given)

    tools, told = anyio.run(ask)
    described = {tool.name: tool for tool in tools}
    assert "pruning method" in described["answer"].description
    assert set(described["answer"].inputSchema["properties"]) >= {"image", "question", "method", "budget"}
    assert not told.isError and '"kept": 64' in told.content[0].text.replace("'", '"')


def test_mcp_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(mcp.NoAgents, match="requirements-mcp.txt"):
        mcp.prepare()


# ---- snippets ----------------------------------------------------------------------------------------------------

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


# ---- what people take away ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(engine: Engine) -> dict[str, Any]:
    settings = Settings(question=QUESTION, budget=50, answer_tokens=SHORT)
    return export.report(engine, read_picture(examples()[0].path), settings)


def test_report_says_all_that_is_needed_to_repeat_it(made: dict[str, Any], engine: Engine) -> None:
    again = json.loads(json.dumps(made, allow_nan=False))
    assert again["schema"] == "script-report/1"
    assert set(again) == {
        "schema", "made", "settings", "seeds", "versions", "model", "media", "answers", "fidelity", "selection",
        "blocks", "tokens",
    }  # fmt: skip
    assert {"torch", "transformers", "gradio", "python", "script_core"} <= set(again["versions"])
    assert again["seeds"] == {"method": 0, "decoding": "greedy"}
    assert {len(values) for values in again["tokens"].values()} == {576}
    settings = Settings(**again["settings"])
    repeated = export.report(engine, read_picture(examples()[0].path), settings)
    for key in ("answers", "fidelity", "selection"):
        if key == "selection":
            assert repeated[key]["kept"] == again[key]["kept"]
        elif key == "answers":
            assert repeated[key]["pruned"]["token_ids"] == again[key]["pruned"]["token_ids"]
        else:
            assert repeated[key] == again[key]


def test_csv_is_one_row_that_no_spreadsheet_runs(made: dict[str, Any]) -> None:
    evil = {**made, "settings": {**made["settings"], "question": '=HYPERLINK("http://x","y")'}}
    rows = list(csv.DictReader(io.StringIO(export.csv_row(evil))))
    assert len(rows) == 1 and rows[0]["kept"] == "50" and rows[0]["total"] == "576"
    assert rows[0]["question"].startswith("'=HYPERLINK")
    assert float(rows[0]["kl_first_nats"]) >= 0


def test_figure_shows_kept_tokens_and_holds_no_metadata(made: dict[str, Any], tmp_path: Path) -> None:
    media = read_picture(examples()[0].path)
    picture = Image.open(io.BytesIO(figure.figure(made, media)))
    assert picture.format == "PNG" and not picture.getexif() and picture.info.keys() <= {"dpi"}
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    side = 900
    cell = side / 24
    bright, dark = [], []
    source = np.asarray(Image.fromarray(media.frames[0]).resize((side, side))).astype(int)
    for index in range(576):
        row, col = divmod(index, 24)
        y, x = int((row + 0.5) * cell), int((col + 0.5) * cell)
        far = np.abs(pixels[y, x] - source[y, x]).max()
        (bright if index in made["selection"]["kept"] else dark).append(far)
    assert max(bright) < 40, "kept tokens show the picture"
    assert np.median(dark) > 60, "dropped tokens are veiled"


def test_place_and_camera_do_not_leave_with_an_export(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "home.jpg"
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    Image.fromarray(np.full((64, 64, 3), 120, dtype=np.uint8)).save(path, exif=exif)
    assert b"SecretCamera" in path.read_bytes()
    media = read_picture(path)
    report = export.report(engine, media, Settings(question=QUESTION, budget=9, answer_tokens=1))
    for held in (json.dumps(report).encode(), export.csv_row(report).encode(), figure.figure(report, media)):
        assert b"SecretCamera" not in held and b"home.jpg" not in held and str(tmp_path).encode() not in held


def test_shown_pictures_are_made_anew(tmp_path: Path) -> None:
    from ui.tokengrid import shown_pictures

    path = tmp_path / "place.jpg"
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    Image.fromarray(np.full((64, 64, 3), 120, dtype=np.uint8)).save(path, exif=exif)
    shown = shown_pictures(read_picture(path))[0]["path"]
    assert b"SecretCamera" not in Path(shown).read_bytes()


def test_share_texts_and_files(server: SimpleNamespace) -> None:
    from ui.share import Sharing
    from ui.state import DEFAULTS, NAMES

    sharing = Sharing(SimpleNamespace(host=server.host))  # type: ignore[arg-type]
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
