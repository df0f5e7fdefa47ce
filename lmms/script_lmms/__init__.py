"""Registers this project's engine with lmms-eval 0.7 as the model `script_demo`."""

from __future__ import annotations

from typing import Any


def manifests() -> Any:
    """What the entry point `lmms_eval.models` asks for; imported late, as lmms-eval calls this while it is loading."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="script_demo", simple_class_path="script_lmms.model.ScriptDemo")
