"""The manifest: what is refused and in which words, what `check` notices, what `render` and `publish` would write."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from script_core.spacefile import checks
from script_core.spacefile.__main__ import main
from script_core.spacefile.front_matter import front_matter, read, render, rendered
from script_core.spacefile.manifest import ROOT, Manifest, SpacefileError, load, parse
from script_core.spacefile.publish import pins, plan, publish

TEXT = (ROOT / "Spacefile").read_text()
MANIFEST = load()
SHA = "0123456789abcdef0123456789abcdef01234567"
PINNED = f'revision = "{MANIFEST.models["llava-next-7b"].revision}"'


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("[limits]", "[limits]\nmax_pixel = 3", "[limits] has an unknown key 'max_pixel'; did you mean max_pixels?"),
        ("version = 1", "version = 1\nzebra = 1", "the top level has an unknown key 'zebra'"),
        ("version = 1", "version = 2", "version must be 1"),
        ("queue_max = 20\n", "", "[limits] lacks the key 'queue_max'"),
        ("queue_max = 20", "queue_max = '20'", "limits.queue_max must be a whole number, not '20'"),
        ("queue_max = 20", "queue_max = true", "limits.queue_max must be a whole number"),
        ("queue_max = 20", "queue_max = 0", "limits.queue_max must be at least 1"),
        ("loads = false", "loads = 0", "loads must be true or false"),
        ('model = "llava-next-7b"', 'model = "gpt"', "profiles.cuda.model is 'gpt', which is not in [models]"),
        (PINNED, 'revision = "v1"', "40 hexadecimal digits"),
        ('source = "stickers"', f'source = "stickers"\nrevision = "{SHA}"', "has no revision"),
        ('sdk = "gradio"', 'sdk = "docker"', "app.sdk must be gradio"),
        ('color_to = "gray"', 'color_to = "mauve"', "app.color_to must be one of"),
        ("uid = 1000", "uid = 0", "container.uid must be 1000 or more"),
        ("port = 7860", "port = 80", "container.port must lie between"),
        ("secret = true", 'secret = true\ndefault = "me:1234"', "a secret variable cannot have a default"),
        ('"answer", ', '"answer", "answer", ', "names one endpoint twice"),
        ('"answer", ', '"_lambda_", ', "api.endpoints: '_lambda_' is not"),
        ('tags = ["vision-language",', 'tags = [1, "vision-language",', "app.tags must be a list of texts"),
        ("version = 1", "version = ", "not TOML"),
        ("[health]", "[[health]]", "[health] must be a table"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(old: str, new: str, words: str) -> None:
    assert old in TEXT
    with pytest.raises(SpacefileError) as raised:
        parse(TEXT.replace(old, new, 1))
    assert words in str(raised.value)


def test_profiles_and_limits_are_read() -> None:
    assert set(MANIFEST.profiles) == {"local", "preview", "cpu", "cuda", "zerogpu", "docker"}
    assert not MANIFEST.profile("preview").loads and MANIFEST.profile("docker").host == "0.0.0.0"
    assert all(profile.host == "127.0.0.1" for name, profile in MANIFEST.profiles.items() if name != "docker")
    with pytest.raises(SpacefileError, match="there is no profile 'moon'; the profiles are local"):
        MANIFEST.profile("moon")
    with pytest.raises(SpacefileError, match="no readable Spacefile"):
        load(ROOT / "nowhere")


def test_every_model_from_the_hub_is_pinned_to_a_commit_of_its_own() -> None:
    commits = MANIFEST.revisions()
    assert set(commits) == {model.source for model in MANIFEST.models.values() if not model.embedded}
    assert len(set(commits.values())) == len(commits)
    loose = parse(TEXT.replace(PINNED, 'revision = "main"', 1))
    assert set(commits) - set(loose.revisions()) == {"llava-hf/llava-v1.6-vicuna-7b-hf"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that `check` reads."""
    for name in ("README.md", "Dockerfile", "Spacefile", "requirements.txt", "app.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def changed(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "check, file, old, new, words",
    [
        (
            checks.readme,
            "README.md",
            "sdk_version: 6.31.0",
            "sdk_version: 5.0.0",
            "run `python -m script_core.spacefile",
        ),
        (checks.readme, "README.md", "---\n", "", "does not begin with front matter"),
        (checks.dockerfile, "Dockerfile", "python:3.12-slim", "python:3.11-slim", "FROM python:3.12-slim"),
        (checks.dockerfile, "Dockerfile", "--uid 1000 ", "", "--uid 1000"),
        (checks.dockerfile, "Dockerfile", "USER 1000", "USER root", "USER that is not root"),
        (checks.dockerfile, "Dockerfile", "EXPOSE 7860", "EXPOSE 80", "EXPOSE 7860"),
        (checks.dockerfile, "Dockerfile", "/healthz", "/", "HEALTHCHECK of /healthz"),
        (checks.dockerfile, "Dockerfile", '"docker"]', '"cpu"]', "--profile docker"),
        (checks.dockerfile, "Dockerfile", "ANALYTICS_ENABLED=False", "ANALYTICS_ENABLED=True", "telemetry"),
        (checks.dockerfile, "Dockerfile", "HF_HOME=", "SECRET_DOOR=", "sets SECRET_DOOR"),
        (checks.requirements, "requirements.txt", "gradio>=6.31,<6.32", "gradio>=6.32,<6.33", "does not admit 6.31.0"),
        (checks.requirements, "requirements.txt", "plotly>=7.1,<8", "plotly>=7.1", "no upper bound"),
        (checks.requirements, "requirements.txt", "gradio>=", "radio>=", "gradio is not pinned"),
        (checks.environment, "app.py", "import json", "import json\nX = __import__('os').environ['MY_MODE']", ""),
    ],
)
def test_check_notices(check: Any, file: str, old: str, new: str, words: str, copy: Path) -> None:
    assert check(copy, MANIFEST) == []
    changed(copy, file, old, new)
    try:
        found = " ".join(check(copy, MANIFEST))
    except SpacefileError as problem:
        found = str(problem)
    assert (words or "app.py: it reads MY_MODE") in found


def test_limits_wider_than_the_librarys_and_unknown_models_are_noticed() -> None:
    assert checks.models(ROOT, MANIFEST) == []
    wide = parse(TEXT.replace("max_pixels = 40_000_000", "max_pixels = 900_000_000"))
    assert checks.models(ROOT, wide) == [
        "Spacefile: limits.max_pixels is 900,000,000, more than the library's 64,000,000."
    ]
    strange = parse(TEXT.replace('source = "llava-hf/llava-1.5-7b-hf"', 'source = "some/thing"'))
    assert "some/thing" in checks.models(ROOT, strange)[0]


def test_endpoints_are_compared_with_what_the_app_says(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text('print(\'["answer", "explain", "compare", "calculate", "methods", "_lambda_"]\')')
    assert checks.endpoints(tmp_path, MANIFEST) == [
        "Spacefile: the endpoint 'models' is declared, and the page has none of that name.",
        "The page's endpoint '_lambda_' is public and not declared.",
    ]
    (tmp_path / "app.py").write_text("raise SystemExit('broken')")
    assert "`--endpoints` failed" in checks.endpoints(tmp_path, MANIFEST)[0]


def test_a_missing_file_is_one_of_the_problems(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "Dockerfile").unlink()
    (copy / "app.py").write_text("print('[]')")
    assert main(["--root", str(copy), "check"]) == 1
    assert "Dockerfile: there is no such file." in capsys.readouterr().out
    (copy / "Spacefile").write_text("version = 3")
    assert main(["--root", str(copy), "check"]) == 2
    assert capsys.readouterr().err.startswith("error: In the Spacefile")


def test_render_writes_the_front_matter_once(copy: Path) -> None:
    assert not render(copy, MANIFEST)
    changed(copy, "README.md", "emoji: ", "emoji: x")
    body = (copy / "README.md").read_text().split("---\n", 2)[2]
    assert render(copy, MANIFEST) and not render(copy, MANIFEST)
    assert read((copy / "README.md").read_text()) == front_matter(MANIFEST)
    assert (copy / "README.md").read_text().split("---\n", 2)[2] == body
    assert rendered("# Only text", MANIFEST).endswith("---\n\n# Only text")
    assert "suggested_hardware: zero-a10g" in front_matter(MANIFEST, MANIFEST.profile("zerogpu"))


def test_front_matter_is_what_the_hub_reads() -> None:
    import yaml

    matter = yaml.safe_load(front_matter(MANIFEST))
    assert matter["sdk_version"] == "6.31.0" and matter["python_version"] == "3.12"
    assert matter["title"] == MANIFEST.app.title and matter["tags"] == list(MANIFEST.app.tags)
    assert matter["startup_duration_timeout"] == "15m"


@dataclass
class Recorder:
    """A stand-in for `huggingface_hub.HfApi` that remembers what it was told."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            self.calls.append((name, named))
            return type("Info", (), {"sha": SHA, "commit_url": "https://hub/commit"})

        return call


@pytest.fixture
def repository(copy: Path) -> Path:
    (copy / "secret.txt").write_text("not tracked")
    (copy / "tests").mkdir()
    (copy / "tests" / "test_x.py").write_text("")
    for command in (["init", "-q"], ["add", "README.md", "app.py", "requirements.txt", "tests"]):
        subprocess.run(["git", *command], cwd=copy, check=True)
    return copy


def test_publish_sends_what_is_tracked_and_nothing_else(repository: Path) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi

    what = plan(repository, MANIFEST, "me/script", "preview")
    assert what.files == ("README.md", "app.py", "requirements.txt") and what.hardware == "cpu-basic"
    client = Recorder()
    assert publish(repository, what, client, CommitOperationAdd) == "https://hub/commit"
    names = [name for name, _ in client.calls]
    assert names == ["create_repo", "add_space_variable", "create_commit", "request_space_hardware"]
    told = dict(client.calls)
    assert told["create_repo"]["private"] and told["create_repo"]["repo_type"] == "space"
    sent = {one.path_in_repo: one.path_or_fileobj for one in told["create_commit"]["operations"]}
    assert b"suggested_hardware: cpu-basic" in sent["README.md"]
    import inspect

    for name, given in client.calls:  # the real client takes these arguments
        inspect.signature(getattr(HfApi, name)).bind(None, **given)


@pytest.mark.parametrize(
    "space, profile, words",
    [("script", "preview", "not the name of a Space"), ("me/x", "cuda", "not pinned"), ("me/x", "moon", "no profile")],
)
def test_publish_refuses(space: str, profile: str, words: str, repository: Path) -> None:
    with pytest.raises(SpacefileError, match=words):
        plan(repository, parse(TEXT.replace(PINNED, 'revision = "main"', 1)), space, profile)


def test_a_published_space_says_which_commit_it_loads(repository: Path) -> None:
    assert MANIFEST.models["llava-next-7b"].revision in plan(repository, MANIFEST, "me/x", "cuda").text()


def test_publish_is_dry_unless_told(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(repository), "publish", "me/script"]) == 0
    told = capsys.readouterr().out
    assert "Space me/script, profile preview" in told and "Nothing was sent" in told
    (repository / "Dockerfile").unlink()
    (repository / "app.py").write_text("print('[]')")
    assert main(["--root", str(repository), "publish", "me/script", "--really"]) == 1
    assert "settle these first" in capsys.readouterr().err


def test_publishing_needs_a_checkout(copy: Path) -> None:
    with pytest.raises(SpacefileError, match="no git checkout"):
        plan(copy, MANIFEST, "me/x", "preview")


def test_pins_ask_for_models_from_the_hub_only() -> None:
    client = Recorder()
    found = pins(MANIFEST, client)
    assert set(found) == {name for name, model in MANIFEST.models.items() if not model.embedded}
    assert set(found.values()) == {SHA}


def test_env_table_hides_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env"]) == 0
    told = capsys.readouterr().out
    assert "| `SCRIPT_AUTH` | (secret) |" in told and "`127.0.0.1`" in told


def test_hardware_names_are_the_hubs() -> None:
    from huggingface_hub import SpaceHardware

    known = {hardware.value for hardware in SpaceHardware}
    assert {profile.hardware for profile in MANIFEST.profiles.values()} - {""} <= known


def test_reading_the_manifest_is_light() -> None:
    import sys

    code = (
        "import sys; from script_core.spacefile.manifest import load; load();"
        "assert not {'torch', 'gradio', 'transformers', 'numpy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_manifest_is_frozen() -> None:
    with pytest.raises(AttributeError):
        MANIFEST.limits.queue_max = 5  # type: ignore[misc]
    assert isinstance(MANIFEST, Manifest)
