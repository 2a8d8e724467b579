"""`make interop`: agent frameworks, each in an environment of its own, play the flagship story against fresh servers.

Nothing is asked of any model, and the clients reach nothing but this machine. Writes docs/interop.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2

from core.demo.setting import prepare
from dripstone.v1 import agent_pb2, enrollment_pb2, record_pb2, workflow_pb2
from tests.chaos.server_process import ServerProcess
from tests.interop import page
from tests.interop.story import AGENT, APPROVER, BRIEF, EXECUTED, REQUEST, TRUST, Door, Spec

_ROOT = Path(__file__).parents[2]
_HERE = Path(__file__).parent
_ENVIRONMENTS = _ROOT / ".venv-interop"
_NOWHERE = "http://127.0.0.1:9"
_LONGEST_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Framework:
    """A program that agents are built with."""

    folder: str
    name: str
    package: str
    modes: tuple[str, ...] = ("auto",)
    """The eras that it lets its user choose; one where it chooses by itself."""


FRAMEWORKS = (
    Framework("mcp_sdk", "MCP Python SDK, `Client`", "mcp", ("auto", "legacy")),
    Framework("fastmcp", "FastMCP, `Client`", "fastmcp", ("auto", "legacy")),
    Framework("pydantic_ai", "Pydantic AI, `FunctionModel`", "pydantic-ai-slim"),
    Framework("langgraph", "LangGraph with `langchain-mcp-adapters`, scripted chat model", "langchain-mcp-adapters"),
    Framework("openai_agents", "OpenAI Agents SDK, scripted `Model`", "openai-agents"),
)
TRANSPORTS = {"HTTP": "", "HTTP, streams": "/interactive", "stdio": None}
"""What each is called, and its path below the address of the server."""


def python_of(framework: Framework) -> Path:
    """Return the interpreter of a framework's environment, made and filled if need be."""
    folder, wanted = _ENVIRONMENTS / framework.folder, _HERE / framework.folder / "requirements.txt"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists() or ready.read_text() != wanted.read_text():
        print(f"Installing {framework.package} into {folder.relative_to(_ROOT)} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)]
        subprocess.run(install, check=True)
        ready.write_text(wanted.read_text())
    return python


def versions_of(framework: Framework, python: Path) -> dict[str, str]:
    """Return the versions of the framework and of the SDK below it."""
    names = [framework.package, "mcp"]
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    found: dict[str, str] = json.loads(subprocess.check_output([str(python), "-c", code, *names], text=True))
    return found


async def play(framework: Framework, python: Path, mode: str, transport: str, folder: Path) -> dict[str, Any]:
    """Play the story once against a fresh server; return what the client told, or `failed` with the reason."""
    server = ServerProcess(folder, f"sqlite:///{folder / 'dripstone.db'}")
    await server.start()
    try:
        await _prepare(server)
        doors = _doors(server, transport)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(_HERE),
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), _NOWHERE),
            "NO_PROXY": "127.0.0.1,localhost",
            "FASTMCP_CHECK_FOR_UPDATES": "off",
        }
        process = await asyncio.create_subprocess_exec(
            str(python), str(_HERE / framework.folder / "client.py"), json.dumps(asdict(Spec(mode, doors))),
            env=environment, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started = time.perf_counter()
        try:
            out, errors = await asyncio.wait_for(process.communicate(), _LONGEST_SECONDS)
        except TimeoutError:
            process.kill()
            out, errors = await process.communicate()
        seconds = time.perf_counter() - started
        if process.returncode:
            return {"failed": errors.decode()[-3000:] or f"it ended with {process.returncode}"}
        told = {**json.loads(out.splitlines()[-1]), "seconds": round(seconds, 1)}
        return {**told, **await _checked(server, told["result"])}
    finally:
        await server.terminate()


async def _prepare(server: ServerProcess) -> None:
    async with server.client() as client:
        await prepare(client, f"{_NOWHERE}/hooks")
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id=EXECUTED, source=BRIEF, publish=True)
        )
    headers = {"Authorization": f"Bearer {server.connection['api_key']}"}
    async with httpx2.AsyncClient(base_url=server.connection["http"], headers=headers, trust_env=False) as http:
        (await http.post("/v2/event", json=REQUEST)).raise_for_status()
        (await http.post("/api/v1/policies", json={"policy": TRUST})).raise_for_status()


def _doors(server: ServerProcess, transport: str) -> dict[str, Door]:
    known, path = server.connection, TRANSPORTS[transport]
    keys = {AGENT: known["agent_key"], APPROVER: known["approver_api_key"]}
    if path is not None:
        return {who: Door(url=known["mcp"] + path, key=key) for who, key in keys.items()}
    command = [sys.executable, "-m", "core", "mcp"]
    shared = {"PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "proto" / "gen")]), "PATH": os.environ["PATH"]}
    return {
        who: Door(command=command, env={**shared, "DRIPSTONE_TARGET": known["grpc"], "DRIPSTONE_AGENT_KEY": key})
        for who, key in keys.items()
    }


async def _checked(server: ServerProcess, result: dict[str, str]) -> dict[str, Any]:
    """Look at what the story left, by gRPC; return `failed` where it is not what it should be."""
    async with server.client() as client:
        lead = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=result["lead_id"]))
        contact = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=result["contact_id"]))
        enrollment = await client.enrollments.GetEnrollment(
            enrollment_pb2.GetEnrollmentRequest(enrollment_id=result["enrollment_id"])
        )
        execution = await client.agents.GetExecution(agent_pb2.GetExecutionRequest(execution_id=result["execution_id"]))
    left = (
        lead.fields["status"], lead.fields["tier"], contact.fields["first_name"],
        enrollment.contact_id == contact.id, execution.state,
    )  # fmt: skip
    right = ("qualified", "A", "Jane", True, agent_pb2.EXECUTION_STATE_SUCCEEDED)
    return {} if left == right else {"failed": f"the story left {left}, not {right}"}


async def _all(chosen: list[Framework]) -> list[page.Row]:
    rows = []
    for framework in chosen:
        python = await asyncio.to_thread(python_of, framework)
        versions = await asyncio.to_thread(versions_of, framework, python)
        for mode in framework.modes:
            for transport in TRANSPORTS:
                with tempfile.TemporaryDirectory(prefix="dripstone-interop-") as folder:
                    told = await play(framework, python, mode, transport, Path(folder))
                chosen_mode = mode if len(framework.modes) > 1 else ""
                row = page.Row(framework.name, versions, chosen_mode, transport, told)
                print(row.line(), flush=True)
                rows.append(row)
    return rows


def main() -> int:
    """Play every story; return 1 when one failed."""
    names = [framework.folder for framework in FRAMEWORKS]
    parser = argparse.ArgumentParser(prog="python -m tests.interop", description=__doc__)
    parser.add_argument("frameworks", nargs="*", help=f"which: {', '.join(names)}; all by default")
    given = parser.parse_args()
    if unknown := set(given.frameworks) - set(names):
        parser.error(f"there is no {sorted(unknown)[0]}; there are {', '.join(names)}")
    chosen = [one for one in FRAMEWORKS if not given.frameworks or one.folder in given.frameworks]
    rows = asyncio.run(_all(chosen))
    if len(chosen) == len(FRAMEWORKS):
        page.PAGE.write_text(page.written(rows))
    return 1 if any(row.failed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
