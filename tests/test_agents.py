"""The endpoints as tools for agents, over the protocol that agents speak."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from script_core.spacefile.manifest import load
from tests.browser import free_port
from tests.serving import QUESTION, SHORT
from ui import mcp


def test_agents_get_exactly_the_endpoints(server: SimpleNamespace) -> None:
    assert mcp.tools(server.address) == set(load().api.endpoints)
    mcp.check(server.address, load().api.endpoints)
    with pytest.raises(mcp.NoAgents, match="where answer, dance were declared"):
        mcp.check(server.address, ["answer", "dance"])
    with pytest.raises(mcp.NoAgents, match="offers no tools"):
        mcp.check(f"http://127.0.0.1:{free_port()}", ["answer"])


def test_an_agent_can_ask(server: SimpleNamespace) -> None:
    import anyio
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def ask() -> tuple[list[Any], Any]:
        async with streamablehttp_client(f"{server.address}{load().api.mcp_path}") as (read, write, _):
            async with ClientSession(read, write) as session:
                await session.initialize()
                tools = (await session.list_tools()).tools
                given = {"image": "balloons", "question": QUESTION, "answer_tokens": SHORT}
                return tools, await session.call_tool("answer", given)

    tools, told = anyio.run(ask)
    described = {tool.name: tool for tool in tools}
    assert "pruning method" in described["answer"].description
    assert set(described["answer"].inputSchema["properties"]) >= {"image", "question", "method", "budget"}
    assert not told.isError and '"kept": 64' in told.content[0].text.replace("'", '"')


def test_mcp_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(mcp.NoAgents, match="requirements-mcp.txt"):
        mcp.prepare()
