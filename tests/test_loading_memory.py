"""What a model needs, what a machine has, and the sentence when that is not enough."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from script_core.backends import KNOWN, SMALL, Wish, machine, obstacle
from script_core.backends.machine import Machine, Need, lacking


def test_what_is_lacking_is_named_with_the_fix() -> None:
    need = Need(device=15e9, host=14e9, fetch=14e9)
    assert lacking(need, Machine((24_000_000_000,), 1 << 36, 1 << 36), True, "x") == ""
    assert "needs about 15 GB of GPU memory and 9.0 GB" in lacking(
        need, Machine((9_000_000_000,)), True, "the small one"
    )
    several = lacking(need, Machine((6_000_000_000, 6_000_000_000)), True, "the small one")
    assert "12 GB of GPU memory on 2 GPUs are free: choose the small one." in several
    assert "install accelerate" in lacking(need, Machine((24_000_000_000,), 1 << 30, 1 << 36), True, "x")
    assert "no GPU" in lacking(need, Machine((), 1 << 30), False, "x")
    assert lacking(need, Machine(), False, "x") == ""  # nothing is known, so nothing is refused


def test_fewer_bits_and_wider_numbers_change_what_is_needed() -> None:
    for known in KNOWN.values():
        sizes = [known.needs(bits) for bits in ("4bit", "8bit", "")]
        assert sizes == sorted(sizes) and sizes[-1] == known.memory * 1e9
        assert known.needs("", wide=True) == 2 * sizes[-1]
        assert sizes[0] > 0.25 * known.download * 1e9


def test_every_family_says_what_it_takes() -> None:
    from script_core.backends.loading import FAMILIES

    classes = [getattr(import_module(f"script_core.backends.{module}"), name) for module, name in FAMILIES.values()]
    assert {known.family for known in KNOWN.values()} == {"llava", "llava_next", *(cls.family for cls in classes)}
    for name, known in KNOWN.items():
        assert name == known.id and name.count("/") == 1
        # 16-bit weights are two bytes a parameter; what is needed on top of them is more than nothing
        assert known.download == pytest.approx(2 * known.parameters, rel=0.06)
        assert known.download < known.memory < known.download + 7
    assert KNOWN[SMALL].memory == min(known.memory for known in KNOWN.values())


def test_obstacles_are_known_without_a_network(llava_folder: Path) -> None:
    poor = Machine((), 3_000_000_000, 1 << 40)
    assert "8.0 GB" in obstacle(Wish(SMALL, "cpu"), poor) and "sticker model" in obstacle(Wish(SMALL, "cpu"), poor)
    assert obstacle(Wish(SMALL, "cpu"), Machine((), 9_000_000_000, 1 << 40)) == ""
    assert obstacle(Wish("stickers", "cpu"), Machine((), 1, 1)) == ""
    assert obstacle(Wish(str(llava_folder), "cpu"), Machine((), 1, 1)).startswith("It needs about 0.0 GB")


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "5000", "memory.current": "4000", "memory.stat": "file 2900\ninactive_file 2500\n"}, 3500),
        ({"memory.max": "5000", "memory.current": "4000", "memory.stat": "file 2900\ninactive_file many\n"}, 1000),
        ({"memory.max": "5000", "memory.current": "4000"}, 1000),
        ({"memory.max": "max", "memory.current": "4000", "memory.stat": "inactive_file 2500\n"}, 1 << 30),
        (
            {
                "memory/memory.limit_in_bytes": "5000",
                "memory/memory.usage_in_bytes": "4000",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 2500\n",
            },
            3500,
        ),
    ],
)
def test_files_that_a_container_has_read_are_not_memory_in_use(
    files: dict[str, str], free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_proc", lambda: 1 << 30)
    assert machine._host() == free
