"""Put the project on the hub as a Space: first as a plan to read, then, when told to, for real."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from script_core.spacefile.front_matter import rendered
from script_core.spacefile.manifest import Manifest, SpacefileError

LEFT_OUT = (".ci/*", "tests/*", "benchmarks/*", ".git*", "requirements-dev.txt", "Makefile", "assets/screenshot*")


@dataclass(frozen=True)
class Plan:
    """What publishing would do. files: paths under the root, README.md among them with front matter for the profile."""

    space: str
    profile: str
    hardware: str
    files: tuple[str, ...]
    nbytes: int
    readme: str
    variables: tuple[tuple[str, str], ...]
    revision_note: str

    def text(self) -> str:
        """The plan in a few lines."""
        lines = [
            f"Space {self.space}, profile {self.profile}, hardware {self.hardware or 'as it is'}",
            f"{len(self.files)} files, {self.nbytes / 1e6:.1f} MB",
            *(f"variable {name}={value}" for name, value in self.variables),
        ]
        return "\n".join([*lines, *([self.revision_note] if self.revision_note else [])])


def plan(root: Path, manifest: Manifest, space: str, profile: str) -> Plan:
    """What would be sent where. Raises `SpacefileError` for a name that is no Space's or a model without a revision."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", space):
        raise SpacefileError(f"{space!r} is not the name of a Space; give one like owner/name.")
    chosen = manifest.profile(profile)
    model = manifest.models[chosen.model]
    if not model.embedded and not model.pinned:
        raise SpacefileError(
            f"The profile {profile} starts with {model.source}, whose revision is not pinned; "
            "run `python -m script_core.spacefile pin` and write the hash into the Spacefile."
        )
    names = tuple(name for name in tracked(root) if not any(fnmatch.fnmatch(name, out) for out in LEFT_OUT))
    readme = rendered((root / "README.md").read_text(encoding="utf-8"), manifest, chosen)
    size = sum((root / name).stat().st_size for name in names)
    variables = (("GRADIO_ANALYTICS_ENABLED", "False"),)
    note = f"{model.source} at {model.revision}" if model.revision else ""
    return Plan(space, profile, chosen.hardware, names, size, readme, variables, note)


def tracked(root: Path) -> list[str]:
    """The files that git tracks and that are there: what is published is what is committed."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise SpacefileError("Publishing sends what git tracks, and this folder is no git checkout.")
    return sorted(name for name in done.stdout.split("\0") if name and (root / name).is_file())


def publish(root: Path, what: Plan, client: Any, operation: Callable[..., Any], *, private: bool = True) -> str:
    """Carry a plan out through `client` (a `huggingface_hub.HfApi`); returns the commit's address.

    operation: what makes one file of a commit, `huggingface_hub.CommitOperationAdd`. The Space is made private if there
    is none of that name; an existing one keeps its visibility. Files that the hub has and the plan has not stay.
    """
    client.create_repo(repo_id=what.space, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
    for name, value in what.variables:
        client.add_space_variable(repo_id=what.space, key=name, value=value)
    operations = [
        operation(
            path_in_repo=name,
            path_or_fileobj=what.readme.encode() if name == "README.md" else str(root / name),
        )
        for name in what.files
    ]
    done = client.create_commit(
        repo_id=what.space,
        repo_type="space",
        operations=operations,
        commit_message=f"Publish the profile {what.profile}",
    )
    if what.hardware:
        client.request_space_hardware(repo_id=what.space, hardware=what.hardware)
    return str(getattr(done, "commit_url", done))


def pins(manifest: Manifest, client: Any) -> dict[str, str]:
    """For every model from the hub, the commit that its main branch is at now."""
    return {
        name: str(client.model_info(model.source, timeout=10).sha)
        for name, model in manifest.models.items()
        if not model.embedded
    }
