"""The Video tab in a real browser: a clip is uploaded and asked about, and scrubbing through it costs no request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import clips as files

PLAYER = "#video-player .vp"
GRID = "#video-grid .tg"
DONE = "document.querySelector('#video-answers .ans')?.dataset.state === 'done'"
LOADED = (
    f"document.querySelector('{PLAYER}').dataset.loaded === document.querySelector('{PLAYER}').dataset.places && "
    f"Number(document.querySelector('{PLAYER}').dataset.places) > 0"
)
# Counted from the tokens that the canvas draws as kept, apart from the player's own way.
COUNTED = """() => {
    const grid = ScriptGrid.get('video-grid');
    const counts = grid.data.blocks.map(() => 0);
    grid.kept.mask.forEach((kept, i) => { counts[grid.data.block[i]] += kept; });
    return counts;
}"""
PIXELS = """() => {
    const canvas = document.querySelector('#video-grid [data-part=canvas]');
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0;
    for (let i = 0; i < data.length; i += 4) sum = (sum * 31 + data[i] + 7 * data[i + 1] + 11 * data[i + 2]) % 1000003;
    return sum;
}"""


def show(see: Any, query: str = "") -> Any:
    """The page with the Video tab open and its clip answered."""
    see.page.goto(f"{see.address}?tab=video&{query}")
    see.until(DONE, timeout=240_000)
    see.until(LOADED)
    return see.page


def player(see: Any, name: str) -> str:
    return str(see.page.get_attribute(PLAYER, f"data-{name}"))


def frame_is(see: Any, index: int) -> None:
    see.until(
        f"document.querySelector('{PLAYER}').dataset.frame === '{index}' && "
        f"document.querySelector('{GRID}').dataset.frame === '{index}'"
    )


def test_uploads_a_clip_asks_scrubs_and_reads_the_timeline(visit: Any, tmp_path: Path) -> None:
    see = visit()
    page = show(see)
    before = see.data("media", GRID)
    page.click("#video-media button[aria-label='Clear'], #video-media button[title='Clear']")
    see.until(f"document.querySelector('{GRID}').classList.contains('tg-blank')", timeout=120_000)
    assert not page.locator(PLAYER).is_visible(), "a player without a video"
    page.set_input_files("#video-media input[type=file]", str(files.write(tmp_path / "mine.webm", frames=30)))
    see.until(f"document.querySelector('{GRID}').dataset.media !== '{before}'", timeout=120_000)
    assert see.data("kept", GRID) == "256"
    page.fill("#video-question textarea", "does a star appear in the video ?")
    page.click("#video-run")
    see.until(f"{DONE} && document.querySelector('#video-answers [data-part=stale]').hidden", timeout=240_000)
    see.until(LOADED)
    assert page.inner_text("#video-answers [data-card=pruned] [data-part=text]")
    assert page.inner_text("#video-answers [data-card=full] [data-part=text]")
    assert "nats" in page.inner_text("#video-answers [data-part=kl]")
    assert page.locator("#video-counters .cnt-row").count() == 5
    assert "only knows sticker scenes" in page.inner_text("#video-answers [data-part=notices]")

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    seen = {page.evaluate(PIXELS)}
    page.focus("#video-player [data-part=line]")
    for index in range(1, 8):
        page.keyboard.press("ArrowRight")
        frame_is(see, index)
        seen.add(page.evaluate(PIXELS))
    assert len(seen) == 8, "every frame of this clip looks different"
    page.keyboard.press("Home")
    frame_is(see, 0)
    line = page.locator("#video-player [data-part=line]").bounding_box()
    page.mouse.click(line["x"] + 0.56 * line["width"], line["y"] + 30)
    frame_is(see, 4)
    page.locator("#video-player .vp-thumb").nth(6).click()
    frame_is(see, 6)
    page.click("#video-player [data-part=next]")
    frame_is(see, 7)
    page.focus("#video-player [data-part=line]")
    page.keyboard.press("Space")
    see.until(f"document.querySelector('{PLAYER}').dataset.playing === 'true'")
    see.until(
        f"document.querySelector('{PLAYER}').dataset.playing === 'false' && "
        f"document.querySelector('{PLAYER}').dataset.frame === '7'"
    )
    assert asked == [], "scrubbing asked the server"

    bars = [int(bar) for bar in player(see, "bars").split(",")]
    assert bars == [32] * 8 == page.evaluate(COUNTED)
    assert page.get_attribute("#video-player [data-part=line]", "aria-valuenow") == "8"
    assert "32 of 144 tokens kept" in page.get_attribute("#video-player [data-part=line]", "aria-valuetext")
    assert "Every frame keeps 32 tokens" in page.inner_text("#video-player [data-part=most]")


def test_a_shared_budget_goes_where_the_question_is(visit: Any) -> None:
    see = visit()
    page = show(see, "v_scope=global&v_example=launch")
    bars = [int(bar) for bar in player(see, "bars").split(",")]
    assert sum(bars) == 256 and bars == page.evaluate(COUNTED)
    assert min(bars[4:]) > max(bars[:4]), "the rocket comes in at half time"
    most = int(player(see, "most"))
    assert bars[most] == max(bars)
    assert f"Most kept: frame {most + 1}" in page.inner_text("#video-player [data-part=most]")
    page.click("#video-player [data-part=jump]")
    frame_is(see, most)
    assert f"{max(bars)} of 144 tokens kept" in page.inner_text("#video-player [data-part=now]")


def test_the_slider_moves_the_bars_without_the_server(visit: Any) -> None:
    see = visit()
    page = show(see, "v_example=drive")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("""() => {
        const range = document.querySelector('#video-each input[type=range]');
        range.value = 50;
        range.dispatchEvent(new Event('input', { bubbles: true }));
    }""")
    see.until(f"document.querySelector('{PLAYER}').dataset.bars === '{','.join(['50'] * 8)}'")
    assert see.data("kept", GRID) == "400" and [50] * 8 == page.evaluate(COUNTED)
    assert [url for url in asked if "queue" in url or "file=" in url] == []
    see.until("!document.querySelector('#video-answers [data-part=stale]').hidden")
    assert "256 tokens" in page.inner_text("#video-answers [data-part=stale]")


def test_the_bars_of_the_browser_are_the_servers(visit: Any, served: Any) -> None:
    from script_core.media import read_media
    from ui.video_answer import Watched
    from ui.video_examples import clips
    from ui.video_state import VideoSettings
    from ui.video_timeline import kept_in, most, places

    page = visit().page
    page.goto(served.address)
    page.wait_for_function("window.ScriptVideoCore", timeout=120_000)
    engine = served.host.engine("stickers-video")
    media = read_media(clips()[2].path, 8)
    for scope, method in (("crop", "script"), ("global", "script"), ("global", "random"), ("crop", "fastv")):
        wanted = VideoSettings(question=clips()[2].question, scope=scope, method=method, each=48)
        watched = Watched.of(engine, media, wanted, "")
        selected = engine.select(
            watched.encoded, wanted.question, pruner=watched.pruner, budget=watched.settings.budget
        )
        value = json.loads(json.dumps(watched.drawn(selected, set_budget=True)))
        grid = watched.encoded.tokens.grid
        expected = kept_in(grid, places(grid, media.times), selected.selection.kept)
        found = page.evaluate(
            """([value, budget]) => {
                const data = ScriptCore.decode(value);
                const bars = ScriptVideoCore.bars(data, ScriptCore.keep(data, budget).mask);
                return { bars, most: ScriptVideoCore.most(bars) };
            }""",
            [value, watched.settings.budget],
        )
        assert found["bars"] == expected, (scope, method)
        assert found["most"] == (-1 if most(expected) is None else most(expected))


def test_a_broken_file_is_a_sentence(visit: Any, tmp_path: Path) -> None:
    see = visit()
    page = show(see)
    broken = tmp_path / "broken.webm"
    broken.write_bytes(b"\x1aE\xdf\xa3 and nothing else")
    page.click("#video-media button[aria-label='Clear'], #video-media button[title='Clear']")
    page.set_input_files("#video-media input[type=file]", str(broken))
    page.wait_for_selector("#video-media-note .note-error", timeout=60_000)
    assert "damaged or cut short" in page.inner_text("#video-media-note")


def test_a_phone_shows_the_whole_player(visit: Any) -> None:
    see = visit(width=390, height=844)
    page = show(see)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for part in ("line", "thumbs", "play", "most"):
        box = page.locator(f"#video-player [data-part={part}]").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, part
    page.click("#video-player [data-part=next]")
    frame_is(see, 1)
