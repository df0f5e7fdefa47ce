"""The GPU kernels become machine code for the GPUs that people have, on a machine without one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from script_core.kernels import triton_walk

# Turing (T4), Ampere (A100), Hopper (H100, H200), Blackwell.
ARCHITECTURES = (75, 80, 90, 120)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"

VALUES, INDICES, COUNT, SCALAR = "*fp64", "*i64", "i32", "fp32"
TYPES = {"order": INDICES, "indices": INDICES, "floor": SCALAR} | dict.fromkeys(("n", "k", "step", "tiles"), COUNT)

# Every kernel with the constants and warps of its smallest and its largest launch.
LAUNCHES = {
    "one token": (triton_walk._walk_crop, {"BLOCK": 1, "CHUNK": triton_walk.CHUNK}, 4),
    "a small crop": (triton_walk._walk_crop, {"BLOCK": 256, "CHUNK": triton_walk.CHUNK}, 4),
    "the largest crop": (triton_walk._walk_crop, {"BLOCK": triton_walk.CROP, "CHUNK": triton_walk.CHUNK}, 8),
    "the start of a large walk": (triton_walk._begin, {"TILE": triton_walk.TILE}, 4),
    "a pick of 2,880": (triton_walk._pick, {"TILE": triton_walk.TILE, "TILES": 16, "CHUNK": triton_walk.CHUNK}, 4),
    "a pick of 11,648": (triton_walk._pick, {"TILE": triton_walk.TILE, "TILES": 64, "CHUNK": triton_walk.CHUNK}, 4),
}


def compiled(kernel: Any, constants: dict[str, int], warps: int, architecture: int) -> Any:
    signature = {name: TYPES.get(name, VALUES) for name in kernel.arg_names} | dict.fromkeys(constants, "constexpr")
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    options = {"num_warps": warps} | triton_walk.ROUNDING
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("launch", LAUNCHES)
def test_kernels_compile_and_keep_what_they_work_on_in_registers(
    launch: str, architecture: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # compiled now, not found
    kernel, constants, warps = LAUNCHES[launch]
    made = compiled(kernel, constants, warps, architecture)
    machine_code = tmp_path / "kernel.cubin"
    machine_code.write_bytes(made.asm["cubin"])
    told = subprocess.run(
        [TOOLS / "cuobjdump", "-res-usage", machine_code], capture_output=True, text=True, check=True
    ).stdout
    used = dict(field.split(":") for field in told.splitlines()[-1].split() if field.count(":") == 1)
    # Bytes per thread that found no room in registers; a walk that keeps its residuals there has 8 KiB a program.
    assert int(used["STACK"]) + int(used["LOCAL"]) <= 16, told
    assert int(used["REG"]) * 32 * warps <= 1 << 16


def test_a_crop_waits_for_all_its_lanes_between_two_picks() -> None:
    kernel, constants, warps = LAUNCHES["the largest crop"]
    text = compiled(kernel, constants, warps, 90).asm["ptx"]
    end_of_a_pick = text[text.index("sqrt.rn.f64") :]
    end_of_a_pick = end_of_a_pick[: end_of_a_pick.index("$L__BB")]
    assert end_of_a_pick.rindex("st.global") < end_of_a_pick.index("bar.sync")  # the next pick reads other lanes' rows
