"""The registry: every method by the name that the page, the command line and links use."""

from __future__ import annotations

from script_core.pruners.base import CannotPrune as CannotPrune
from script_core.pruners.cdpruner import CDPruner
from script_core.pruners.cls_attention import ClsAttention
from script_core.pruners.divprune import DivPrune
from script_core.pruners.fastv import FastV
from script_core.pruners.full import Full
from script_core.pruners.gsp import GSP
from script_core.pruners.pdrop import PDrop
from script_core.pruners.random_baseline import Random
from script_core.pruners.script import QCSP, Script
from script_core.pruners.script_released import ScriptReleased
from script_core.pruners.similarity_only import SimilarityOnly
from script_core.pruners.sparsevlm import SparseVLM
from script_core.pruners.trim import Trim
from script_core.pruners.uniform import Uniform
from script_core.pruners.visionzip import VisionZip

_METHODS = (
    Script,
    ScriptReleased,
    QCSP,
    GSP,
    CDPruner,
    DivPrune,
    VisionZip,
    Trim,
    FastV,
    PDrop,
    SparseVLM,
    ClsAttention,
    SimilarityOnly,
    Random,
    Uniform,
    Full,
)

PRUNERS: dict[str, type] = {method.name: method for method in _METHODS}
