"""The deployment manifest `Spacefile` (TOML): one checked, frozen value that the app and its tools read.

>>> from script_core.spacefile.manifest import load
>>> manifest = load()
>>> manifest.limits.max_file_mb, manifest.profile("preview").model

From a terminal: `python -m script_core.spacefile check`, `render`, `env`, `pin`, `publish`. The name is borrowed from a
file that described small web services; nothing but this project reads ours.
"""
