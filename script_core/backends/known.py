"""The published models that this project is wired for, and what each takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EMBEDDED = {"stickers": "base", "toy": "base", "stickers-anyres": "anyres", "stickers-video": "video"}
SMALL = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"  # a real model for machines without a big GPU
BITS = ("", "8bit", "4bit")

# Bytes of a model against its 16-bit weights. Only the language model's linear layers are quantised, so that a share
# stays at 16 bits: embeddings, head, vision tower.
_WEIGHTS = {"": 1.0, "8bit": 0.55, "4bit": 0.32}


@dataclass(frozen=True)
class Known:
    """A published model that this project is wired for. Sizes in GB (10^9 bytes) for weights of 16 bits.

    memory: weights, the CLIP text tower if the family has one, and cache and activations of one question with nothing
    pruned. frames: of a video, 0 where it takes pictures only.
    """

    id: str
    title: str
    family: str
    parameters: float  # billions
    download: float
    memory: float
    frames: int = 0

    def needs(self, bits: str = "", wide: bool = False) -> float:
        """Bytes of memory on its device. bits: of `BITS`. wide: weights of 32 bits, as on a CPU."""
        rest = self.memory - self.download
        return 1e9 * (2 * self.memory if wide and not bits else _WEIGHTS[bits] * self.download + rest * (1 + wide))


KNOWN: dict[str, Known] = {
    known.id: known
    for known in (
        Known("llava-hf/llava-1.5-7b-hf", "LLaVA-1.5 7B", "llava", 7.1, 14.1, 16),
        Known("llava-hf/llava-1.5-13b-hf", "LLaVA-1.5 13B", "llava", 13.4, 26.7, 30),
        Known("llava-hf/llava-v1.6-vicuna-7b-hf", "LLaVA-NeXT 7B", "llava_next", 7.1, 14.1, 18),
        Known("llava-hf/llava-v1.6-vicuna-13b-hf", "LLaVA-NeXT 13B", "llava_next", 13.4, 26.7, 32),
        Known("lmms-lab/LLaVA-Video-7B-Qwen2", "LLaVA-Video 7B", "llava_video", 8.0, 16.1, 21, 64),
        Known("LanguageBind/Video-LLaVA-7B-hf", "Video-LLaVA 7B", "video_llava", 7.4, 14.8, 18, 8),
        Known("OpenGVLab/InternVL3-8B-hf", "InternVL3 8B", "internvl", 7.9, 15.9, 19, 16),
        Known("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL 7B", "qwen2_5_vl", 8.3, 16.6, 20, 16),
        Known(SMALL, "LLaVA-OneVision 0.5B", "llava_onevision", 0.9, 1.8, 4, 32),
    )
}


def describe(name: str) -> str:
    """One sentence on what loading this model takes, to be shown before anything is fetched."""
    if name in EMBEDDED:
        return "The embedded sticker model: 7 million parameters, in this repository, nothing to download."
    if name in KNOWN:
        known = KNOWN[name]
        clip = " (and 1.7 GB for CLIP's text tower)" if known.family in ("llava", "llava_next") else ""
        return (
            f"{known.title} ({known.id}): {known.parameters:g} billion parameters, a download of {known.download:g} GB"
            f"{clip}, about {known.memory:g} GB of GPU memory at 16 bits, or {known.needs(wide=True) / 1e9:g} GB of "
            "memory on a CPU at 32."
        )
    if Path(name).is_dir():
        return f"A checkpoint folder with {stored(Path(name)) / 1e9:.2f} GB of weights; nothing to download."
    return f"{name} is not a model that this project knows; its size is shown on its page on the hub."


def instead(name: str, bits: str, quantisable: bool) -> str:
    """What to choose where `name` does not fit, as the end of "choose ..."."""
    fewer = {"": "8-bit or 4-bit weights", "8bit": "4-bit weights"}.get(bits, "") if quantisable else ""
    small = KNOWN[SMALL].title if name != SMALL else "the embedded sticker model"
    return f"{small} or {fewer}" if fewer else small


def stored(folder: Path) -> int:
    """Bytes of a checkpoint's weights."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
