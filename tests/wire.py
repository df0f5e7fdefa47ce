"""Requests exactly as they go over the wire, for tests of what strangers may send."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

XSS = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"\'><svg onload=window.hacked=1>{{7*7}}${1}'


def rest(address: str, path: str, body: Any = None, *, method: str = "", raw: bytes | None = None) -> tuple[int, bytes]:
    """A request whose path goes over the wire as it is, dots and all."""
    host = urlsplit(address).netloc
    connection = http.client.HTTPConnection(host, timeout=60)
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    connection.request(method or ("POST" if data else "GET"), path, data, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def call(address: str, name: str, body: dict[str, Any]) -> tuple[str, Any]:
    """("complete" or "error", value or sentence) of one endpoint, by REST."""
    status, told = rest(address, f"/gradio_api/call/v2/{name}", body)
    if status != 200:
        return "error", told.decode()
    _, stream = rest(address, f"/gradio_api/call/{name}/{json.loads(told)['event_id']}")
    lines = stream.decode().splitlines()
    kind = [line[7:] for line in lines if line.startswith("event: ")][-1]
    data = [line[6:] for line in lines if line.startswith("data: ")][-1]
    return kind, json.loads(data)
