"""What a deployment is described by: messages, addresses, settings, their document, and who imports Ray."""

from __future__ import annotations

import ast
import pickle
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from script_core.serving.cluster import parse
from script_core.serving.messages import portable
from script_core.serving.plan import Plan

ROOT = Path(__file__).parent.parent


def test_what_is_sent_drags_nothing_along() -> None:
    large = torch.randn(1000, 64)
    assert len(pickle.dumps(portable(large[3]))) < 2000 < len(pickle.dumps(large[3]))
    row = portable({"scores": (large[3], large[4].to(torch.bfloat16)), "name": "x"})
    assert torch.equal(row["scores"][0], large[3]) and row["scores"][1].dtype == torch.bfloat16 and row["name"] == "x"


def test_an_address_names_a_cluster_and_an_application() -> None:
    assert parse("ray://auto") == ("auto", "default") == parse("ray://")
    assert parse("ray://head:6379") == ("head:6379", "default")
    assert parse("ray://10.0.0.1:6379/llava") == ("10.0.0.1:6379", "llava")
    for wrong in ("head:6379", "http://head:6379", "ray://head", "ray://head:x/llava"):
        with pytest.raises(ValueError, match="ray://|6379"):
            parse(wrong)


def test_a_plan_comes_from_strings_and_is_checked() -> None:
    plan = Plan.of({"models": "stickers, toy", "replicas": "2", "gpus": "0.5", "most": "4"})
    assert plan.names == ("stickers", "toy")
    options = plan.options()
    assert options["autoscaling_config"]["min_replicas"] == 2 and options["autoscaling_config"]["max_replicas"] == 4
    assert options["ray_actor_options"] == {"num_gpus": 0.5, "num_cpus": 1.0} and "num_replicas" not in options
    assert Plan.of({}).options()["num_replicas"] == 1
    assert {one.name for one in fields(Plan)} >= {"models", "replicas", "most", "gpus", "cpus", "ongoing", "queued"}
    wrongs = ({"replica": "2"}, {"replicas": "two"}, {"replicas": "0"}, {"replicas": "3", "most": "2"}, {"gpus": "1.5"},
              {"models": ","}, {"ongoing": "0"})  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            Plan.of(wrong)


def test_the_document_names_the_settings_that_there_are() -> None:
    document = (ROOT / "docs" / "scale.md").read_text()
    table = document.partition("| setting of")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))) == {
        one.name for one in fields(Plan)
    }
    assert f"Ray {re.search(r'==([0-9.]+)', (ROOT / 'requirements-ray.txt').read_text())[1]}" in document  # type: ignore[index]


def test_only_the_deployment_imports_ray_when_it_is_imported() -> None:
    for path in (ROOT / "script_core").glob("**/*.py"):
        names = {
            name.split(".")[0]
            for node in ast.parse(path.read_text()).body
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )
        }  # fmt: skip
        assert ("ray" in names) == (path.match("serving/app.py")), path
