"""The registry: every method by the name that the page, the command line and links use."""

from __future__ import annotations

from script_core.pruners.base import CannotPrune as CannotPrune
from script_core.pruners.full import Full
from script_core.pruners.gsp import GSP
from script_core.pruners.random_baseline import Random
from script_core.pruners.script import QCSP, Script
from script_core.pruners.uniform import Uniform

PRUNERS: dict[str, type] = {cls.name: cls for cls in (Script, GSP, QCSP, Random, Uniform, Full)}
