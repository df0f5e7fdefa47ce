"""Workers in a real local Ray cluster: `python -m tests.cluster` (`make ray`; minutes, needs requirements-ray.txt).

A worker with the embedded model and a tiny random one, a second one once there is work for it, two front ends, and
HAProxy before them as docs/haproxy.cfg has it. What must hold: load brings the second worker, answers are the local
engine's bit for bit, they stream, both workers serve, a worker killed in the middle of answers costs none and repeats
nothing, and a front end killed leaves the page up. Prints figures as JSON.
"""

from __future__ import annotations

import os
import secrets

# Before Ray is imported, which is by every module here.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
