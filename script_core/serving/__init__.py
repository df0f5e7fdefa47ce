"""One engine for many machines: workers that hold models, and a page that asks them.

    front end:  RemoteEngine --- Request ---> Cluster (Ray Serve) ---> Worker: Engine
                replay: no event twice        consistent hash on       one store of encodings
                                              the picture's hash       per worker

`remote`, `replay`, `messages` and `worker` are plain Python and know no Ray: a `Cluster` is anything that can call a
worker. `cluster` is that for Ray Serve and `app` is the deployment; only these two import ray (requirements-ray.txt).
See docs/scale.md.
"""

from script_core.serving.remote import RemoteEngine as RemoteEngine
from script_core.serving.replay import Busy as Busy
from script_core.serving.replay import Lost as Lost
from script_core.serving.replay import Unreachable as Unreachable
from script_core.serving.worker import Worker as Worker
