"""`python -m script_core.spacefile check | render | env | pin | publish`: the manifest from a terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from script_core.spacefile.checks import check
from script_core.spacefile.front_matter import render
from script_core.spacefile.manifest import ROOT, Manifest, SpacefileError, load


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all is well, 1 where something disagrees, 2 where the manifest cannot be used."""
    args = _parser().parse_args(argv)
    root = Path(args.root).resolve()
    try:
        return COMMANDS[args.command](root, load(root / "Spacefile"), args)
    except SpacefileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m script_core.spacefile", description=__doc__)
    parser.add_argument("--root", default=str(ROOT), help="folder that holds the Spacefile (default: this project)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "check", help="compare README, Dockerfile, requirements, sources and endpoints with the manifest"
    )
    commands.add_parser("render", help="write the README's front matter from the manifest")
    commands.add_parser("env", help="print the environment variables as a table")
    commands.add_parser("pin", help="ask the hub for the commits that the models are at")
    publishing = commands.add_parser("publish", help="put the project on the hub as a Space; says what it would do")
    publishing.add_argument("space", help="owner/name")
    publishing.add_argument("--profile", default="preview")
    publishing.add_argument("--public", action="store_true", help="make a new Space public (default: private)")
    publishing.add_argument("--really", action="store_true", help="send it; without this nothing leaves the machine")
    return parser


def _check(root: Path, manifest: Manifest, args: argparse.Namespace) -> int:
    problems = check(root, manifest)
    print(
        "\n".join(problems) if problems else "Spacefile, README, Dockerfile, requirements, sources and endpoints agree."
    )
    return 1 if problems else 0


def _render(root: Path, manifest: Manifest, args: argparse.Namespace) -> int:
    print("README.md was written." if render(root, manifest) else "README.md is as it should be.")
    return 0


def _env(root: Path, manifest: Manifest, args: argparse.Namespace) -> int:
    print("| variable | default | what it does |\n|---|---|---|")
    for name, variable in manifest.env.items():
        default = "(secret)" if variable.secret else f"`{variable.default}`" if variable.default else ""
        print(f"| `{name}` | {default} | {variable.about} |")
    return 0


def _pin(root: Path, manifest: Manifest, args: argparse.Namespace) -> int:
    from huggingface_hub import HfApi

    from script_core.spacefile.publish import pins

    try:
        for name, commit in pins(manifest, HfApi()).items():
            print(f'[models.{name}]\nrevision = "{commit}"')
    except Exception as error:  # the hub's client raises a dozen kinds
        raise SpacefileError(f"The hub could not be asked ({type(error).__name__}); check the network.") from error
    return 0


def _publish(root: Path, manifest: Manifest, args: argparse.Namespace) -> int:
    from script_core.spacefile.publish import plan, publish

    what = plan(root, manifest, args.space, args.profile)
    print(what.text())
    if not args.really:
        print("Nothing was sent; add --really to publish this.")
        return 0
    problems = check(root, manifest)
    if problems:
        print("\n".join([*problems, "Nothing was sent; settle these first."]), file=sys.stderr)
        return 1
    from huggingface_hub import CommitOperationAdd, HfApi

    try:
        print(publish(root, what, HfApi(), CommitOperationAdd, private=not args.public))
    except Exception as error:
        raise SpacefileError(
            f"The hub did not take it ({type(error).__name__}); check the login and the name."
        ) from error
    return 0


COMMANDS = {"check": _check, "render": _render, "env": _env, "pin": _pin, "publish": _publish}

if __name__ == "__main__":
    sys.exit(main())
