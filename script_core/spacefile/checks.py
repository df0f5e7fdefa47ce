"""Whether the files around the code agree with the Spacefile. Each check returns sentences; none means agreement."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from script_core.spacefile.front_matter import front_matter, read
from script_core.spacefile.manifest import Manifest, SpacefileError


def check(root: Path, manifest: Manifest) -> list[str]:
    """All disagreements under `root`, as sentences."""
    found: list[str] = []
    for one in CHECKS:
        try:
            found += one(root, manifest)
        except (OSError, SpacefileError) as problem:
            found.append(str(problem))
    return found


def readme(root: Path, manifest: Manifest) -> list[str]:
    """The README's front matter is what `render` would write."""
    if read(_text(root, "README.md")) == front_matter(manifest):
        return []
    return ["README.md: the front matter differs; run `python -m script_core.spacefile render`."]


def dockerfile(root: Path, manifest: Manifest) -> list[str]:
    """The image, user, port, variables, health check and command are the Spacefile's."""
    box, steps = manifest.container, instructions(_text(root, "Dockerfile"))
    told = {name: [rest for word, rest in steps if word == name] for name, _ in steps}
    images = [rest.split(" AS ")[0] for rest in told.get("FROM", [])]
    profile = manifest.profile("docker")
    wanted = {
        f"a stage FROM {box.image}": box.image in images,
        f"a user made with --uid {box.uid}": any(f"--uid {box.uid} " in step for step in told.get("RUN", [])),
        "a USER that is not root": bool(told.get("USER")) and told["USER"][-1] not in ("root", "0"),
        f"EXPOSE {box.port}": told.get("EXPOSE") == [str(box.port)],
        f"a HEALTHCHECK of {manifest.health.path}": any(
            f"127.0.0.1:{box.port}{manifest.health.path}" in step for step in told.get("HEALTHCHECK", [])
        ),
        f"a CMD that runs {manifest.app.entry} with --profile docker": any(
            f'"{manifest.app.entry}"' in step and '"--profile", "docker"' in step for step in told.get("CMD", [])
        ),
        "telemetry switched off": any("GRADIO_ANALYTICS_ENABLED=False" in step for step in told.get("ENV", [])),
    }
    missing = [f"Dockerfile: there is no {what}." for what, there in wanted.items() if not there]
    if profile.host != "0.0.0.0":
        missing.append("Spacefile: profiles.docker.host must be 0.0.0.0, or the container cannot be reached.")
    system = {"HOME", "PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    for name in {name for step in told.get("ENV", []) for name in re.findall(r"(\w+)=", step)} - system:
        if name not in manifest.env:
            missing.append(f"Dockerfile: it sets {name}, which the Spacefile's [env] does not declare.")
    return missing


def instructions(text: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, rest of it in one line) in order, without comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    parts = [line.strip().split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(part[0].upper(), part[1] if len(part) > 1 else "") for part in parts]


def requirements(root: Path, manifest: Manifest) -> list[str]:
    """requirements.txt admits the declared Gradio, and every line has an upper bound."""
    found = []
    pins = re.findall(r"^([A-Za-z0-9_.\[\]-]+)([<>=!~][^#\s]*)", _text(root, "requirements.txt"), re.M)
    for name, bounds in pins:
        if "<" not in bounds and "==" not in bounds:
            found.append(f"requirements.txt: {name}{bounds} has no upper bound, so that another version may break it.")
        if name == "gradio" and not admits(bounds, manifest.app.gradio):
            found.append(f"requirements.txt: gradio{bounds} does not admit {manifest.app.gradio} of the Spacefile.")
    if "gradio" not in {name for name, _ in pins}:
        found.append("requirements.txt: gradio is not pinned.")
    return found


def admits(bounds: str, version: str) -> bool:
    """Whether simple bounds such as ">=6.31,<6.32" admit a version."""
    number = _number(version)
    tests: dict[str, Callable[[tuple[int, ...]], bool]] = {
        ">=": lambda other: number >= other,
        "<=": lambda other: number <= other,
        "==": lambda other: number == other,
        "<": lambda other: number < other,
        ">": lambda other: number > other,
    }
    parts = re.findall(r"(>=|<=|==|<|>)([\d.]+)", bounds)
    return bool(parts) and all(tests[sign](_number(value)) for sign, value in parts)


def _number(version: str) -> tuple[int, ...]:
    parts = [int(part) for part in version.split(".") if part.isdigit()]
    return tuple(parts + [0] * (4 - len(parts)))


def environment(root: Path, manifest: Manifest) -> list[str]:
    """Every environment variable that the served sources read is declared; training reads what its launcher sets."""
    served = [*root.glob("ui/**/*.py"), *root.glob("script_core/**/*.py")]
    return [
        f"{path.relative_to(root)}: it reads {name}, which the Spacefile's [env] does not declare."
        for path in [root / manifest.app.entry, *sorted(served)]
        if "stickers" not in path.parts
        for name in sorted(variables(path.read_text(encoding="utf-8")))
        if name not in manifest.env
    ]


def variables(source: str) -> set[str]:
    """Names that a Python source takes from os.environ by get, setdefault or [...]."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        place: ast.expr | None = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            place, key = node.func.value, node.args[0]
            if node.func.attr == "getenv":
                place = ast.Attribute(ast.Name("os"), "environ")
        elif isinstance(node, ast.Subscript):
            place, key = node.value, node.slice
        if isinstance(place, ast.Attribute) and place.attr == "environ" and isinstance(key, ast.Constant):
            found.add(str(key.value))
    return found


def models(root: Path, manifest: Manifest) -> list[str]:
    """Every model is one that the library knows, and limits are no wider than the library's."""
    from script_core import media, understanding, video
    from script_core.backends import EMBEDDED, KNOWN
    from script_core.engine import MAX_ANSWER

    limits = manifest.limits
    found = [
        f"Spacefile: models.{name}.source is {model.source!r}, which the library does not know."
        for name, model in manifest.models.items()
        if model.source not in KNOWN and model.source not in EMBEDDED
    ]
    widest = {
        "max_pixels": media.MAX_PIXELS,
        "max_question_chars": understanding.MAX_QUESTION,
        "max_new_tokens": MAX_ANSWER,
        "max_frames": video.MAX_FRAMES,
        "max_video_s": video.MAX_SECONDS,
    }
    return found + [
        f"Spacefile: limits.{name} is {getattr(limits, name):,}, more than the library's {top:,}."
        for name, top in widest.items()
        if getattr(limits, name) > top
    ]


def endpoints(root: Path, manifest: Manifest) -> list[str]:
    """The page's public endpoints, as the app itself lists them, are the declared ones."""
    quiet = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    command = [sys.executable, manifest.app.entry, "--endpoints"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=quiet, timeout=300)
    if done.returncode:
        return [f"{manifest.app.entry}: `--endpoints` failed: {done.stderr.strip().splitlines()[-1:]}."]
    real, declared = set(json.loads(done.stdout)), set(manifest.api.endpoints)
    missing = [
        f"Spacefile: the endpoint {name!r} is declared, and the page has none of that name." for name in declared - real
    ]
    return sorted(missing + [f"The page's endpoint {name!r} is public and not declared." for name in real - declared])


def _text(root: Path, name: str) -> str:
    path = root / name
    if not path.is_file():
        raise SpacefileError(f"{name}: there is no such file.")
    return path.read_text(encoding="utf-8")


CHECKS: tuple[Callable[[Path, Manifest], list[str]], ...] = (
    readme,
    dockerfile,
    requirements,
    environment,
    models,
    endpoints,
)
