"""Playing the story: a lead comes in, an agent qualifies it, a person agrees, sales hears of it by signed webhook."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

import httpx2
from mcp import Client as McpClient
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from core import ids
from core.bootstrap import Core
from core.clock import SystemClock
from core.connection import Connection
from core.demo.receiver import Receiver
from core.demo.setting import SOURCE, WORKFLOW, prepare
from core.settings import Settings
from dripstone.v1.client import Client

PATIENCE_SECONDS = 15.0


class StoryBroke(Exception):
    """A step of the story did not end as it should."""


async def play(settings: Settings, *, leave: bool) -> int:
    """Start a core, play the story, print how to connect; serve on unless `leave`. Returns the exit code."""
    console = Console(highlight=False)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    core = await Core.open(settings, SystemClock())
    await core.start()
    code = 0
    try:
        connection = await core.write_connection(settings.data_dir)
        receiver = Receiver(core.parts.clock.now)
        await receiver.start()
        try:
            await _unless_stopped(Story(console, connection, receiver, core).tell(), stopping)
        except* (StoryBroke, TimeoutError) as broken:
            console.print(f"\n[bold red]The story broke:[/] {_first(broken) or 'a step took too long'}")
            code = 1
        if not leave and code == 0 and not stopping.is_set():
            _how_to_connect(console, connection, settings)
            console.print("\n[dim]Serving. Ctrl-C stops.[/]")
            await stopping.wait()
        await receiver.stop()
    finally:
        await core.stop()
    return code


async def _unless_stopped(story: Coroutine[Any, Any, None], stopping: asyncio.Event) -> None:
    """Play the story, or break it off when the process is asked to stop."""
    playing = asyncio.create_task(story)
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait((playing, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if playing.done():
        playing.result()
    else:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


def _first(error: BaseException) -> BaseException:
    """Return the error inside the groups that the connections' tasks wrap around it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


class Story:
    """The flagship story, step by step, on the console."""

    def __init__(self, console: Console, connection: Connection, receiver: Receiver, core: Core):
        self._console = console
        self._connection = connection
        self._receiver = receiver
        self._run = ids.mint("run", core.parts.clock.now())[-6:]
        self._step = 0

    async def tell(self) -> None:
        """Play every step. Raises StoryBroke or TimeoutError when one does not end as it should."""
        self._console.rule("[bold]Dripstone: the flagship story")
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(self._connection.grpc, self._connection.api_key))
            self._receiver.secret = await prepare(client, self._receiver.url)
            agent = await self._mcp(stack, self._connection.agent_key)
            contact = await self._lead_comes_in()
            plan = await self._qualify(agent, contact)
            if plan["decision"] == "needs_approval":
                await self._approve(stack, agent, plan)
            await self._enroll(agent, contact)

    async def _mcp(self, stack: AsyncExitStack, key: str, asking: ElicitationFnT | None = None) -> McpClient:
        headers = {"Authorization": f"Bearer {key}"}
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS))
        return await stack.enter_async_context(
            McpClient(streamable_http_client(self._connection.mcp, http_client=http), elicitation_callback=asking)
        )

    async def _agree(self, context: Any, params: Any) -> ElicitResult:
        """Answer what the person's client asks them, and show the question."""
        self._show(escape(params.message))
        return ElicitResult(action="accept", content={"confirm": True})

    def _say(self, who: str, what: str) -> None:
        self._step += 1
        self._console.print()
        self._console.print(Padding(f"[bold cyan]{self._step}[/]  [bold]{who}[/]  {what}", (0, 0, 0, 1)))

    def _show(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self._console.print(Padding(f"[green]│[/] {line}", (0, 0, 0, 6)))

    async def _call(self, client: McpClient, tool: str, **arguments: Any) -> Mapping[str, Any]:
        self._console.print(Padding(f"[yellow]→ {tool}[/] [dim]{escape(_brief(arguments))}[/]", (0, 0, 0, 6)))
        result = await client.call_tool(tool, arguments)
        content: Any = result.structured_content
        if result.is_error or not isinstance(content, dict):
            raise StoryBroke(f"{tool} answered: {result.content[0].text if result.content else 'nothing'}")  # type: ignore[union-attr]
        return content

    async def _lead_comes_in(self) -> str:
        email = f"jane.{self._run}@acme.example.com"
        self._say("A web form", f"posts to [blue]{self._connection.http}/v2/event[/]: {email} asks for a demo")
        body = {
            "event_type": "lead",
            "event_name": "demo.requested",
            "source_id": SOURCE,
            "fields": {
                "email": email,
                "first_name": "Jane",
                "company_name": "Acme GmbH",
                "job_title": "Head of Revenue",
                "employees": 120,
                "country": "DE",
            },
        }
        headers = {"Authorization": f"Bearer {self._connection.api_key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS) as http:
            answer = await http.post(f"{self._connection.http}/v2/event", json=body)
        if answer.status_code != 200:
            raise StoryBroke(f"/v2/event answered {answer.status_code}: {answer.text}")
        self._show(f"{answer.status_code} {answer.text}")
        return email

    async def _qualify(self, agent: McpClient, email: str) -> Mapping[str, Any]:
        self._say("The agent", "qualifies the lead over MCP: first a preview, nothing changes")
        plan = await self._call(agent, "qualify-lead", email=email)
        self._show(
            f"score [bold]{plan['score']}[/] = fit {plan['fit']} + engagement {plan['engagement']}, "
            f"tier [bold]{plan['tier']}[/], decision [bold]{plan['decision']}[/]"
        )
        for reason in plan["contributions"]:
            self._show(f"  {reason['points']:>+4}  {reason['rule_id']}  [dim]{reason['when']}[/]")
        owner = plan.get("owner", {})
        self._show(f"owner: {owner.get('display_name', 'nobody')} ({owner.get('method', 'none free')})")
        self._say("The agent", "commits exactly that plan")
        committed = await self._call(
            agent, "qualify-lead", plan_id=plan["plan_id"], mode="commit", idempotency_key=f"qualify-{self._run}"
        )
        self._show(f"{committed['decision']}: {committed.get('approval_reason') or 'applied'}")
        return committed

    async def _approve(self, stack: AsyncExitStack, agent: McpClient, plan: Mapping[str, Any]) -> None:
        self._say("A person", "sees the request and agrees; the agent that asked could not")
        person = await self._mcp(stack, self._connection.approver_api_key, self._agree)
        pending = await self._call(person, "list-approvals", state="pending")
        self._show("\n".join(f"{one['approval_id']}  {one['title']}" for one in pending["approvals"]))
        await self._call(
            person,
            "decide-approval",
            approval_id=plan["approval_id"],
            subject_hash=_hash_of(pending, plan["approval_id"]),
            decision="approve",
            reason="A known account, go ahead.",
            mode="commit",
            idempotency_key=f"approve-{self._run}",
        )
        self._say("The agent", "commits the approved plan: the approval is used up by it")
        done = await self._call(
            agent, "qualify-lead", plan_id=plan["plan_id"], mode="commit", idempotency_key=f"apply-{self._run}"
        )
        if not done["applied"]:
            raise StoryBroke(f"the approved plan was not applied: {done}")
        changes = [f"{change['field']}: {change.get('old') or 'none'} → {change['new']}" for change in done["changes"]]
        self._show("\n".join(changes))

    async def _enroll(self, agent: McpClient, email: str) -> None:
        self._say("The agent", f"enrolls the contact in [blue]{WORKFLOW}[/]: preview, commit, and the same call again")
        contacts = [{"email": email}]
        preview = await self._call(agent, "enroll", workflow_id=WORKFLOW, contacts=contacts)
        self._show(f"would enroll {preview['enrolled_count']}, left out {len(preview['left_out'])}")
        commit = {"mode": "commit", "idempotency_key": f"enroll-{self._run}"}
        first = await self._call(agent, "enroll", **commit, workflow_id=WORKFLOW, contacts=contacts)
        again = await self._call(agent, "enroll", **commit, workflow_id=WORKFLOW, contacts=contacts)
        if not again["replayed"] or again["enrolled"] != first["enrolled"]:
            raise StoryBroke("the repeated call was not answered from the first one")
        enrollment = first["enrolled"][0]["enrollment_id"]
        self._show(f"{enrollment}; the repetition was answered from the first call, nobody is enrolled twice")
        self._say("Sales", f"receives the signed webhook at [blue]{self._receiver.url}[/]")
        arrival = await asyncio.wait_for(self._receiver.next_of("nurture.hot_lead"), PATIENCE_SECONDS)
        self._show(f"{arrival['id']}  [bold]signature verified[/]")
        self._show("\n".join(f"{name}: {escape(str(value))}" for name, value in arrival["data"].items()))
        self._say("Anyone", "can ask why the contact is where it is")
        told = await self._call(agent, "get-enrollment", enrollment_id=enrollment)
        self._show(f"{told['why']}\n{told['what_next']}")
        for entry in told["trace"]:
            self._show(f"  {entry.get('step_id', '·'):<14} {entry['outcome']:<8} {entry.get('reason', '')}")


def _hash_of(pending: Mapping[str, Any], approval_id: str) -> str:
    for approval in pending["approvals"]:
        if approval["approval_id"] == approval_id:
            return str(approval["subject_hash"])
    raise StoryBroke(f"{approval_id} is not among the pending approvals")


def _brief(arguments: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return text if len(text) <= 110 else text[:107] + "…"


def _how_to_connect(console: Console, connection: Connection, settings: Settings) -> None:
    key = connection.agent_key
    file = settings.data_dir / "connection.json"
    console.rule("[bold]How to connect")
    console.print("\n[bold]An agent[/]: put this into its MCP configuration (or use stdio: `dripstone mcp`)")
    console.print_json(
        data={"mcpServers": {"dripstone": {"url": connection.mcp, "headers": {"Authorization": f"Bearer {key}"}}}}
    )
    console.print(f"[bold]A service[/]: gRPC at [blue]{connection.grpc}[/], package dripstone.v1, reflection is on")
    console.print(f"[bold]A backend[/]: HTTP at [blue]{connection.http}[/], described by /openapi.json")
    console.print(
        f"\ncurl -s {connection.http}/api/v1/workflows -H 'Authorization: Bearer {connection.api_key}'",
        soft_wrap=True,
    )
    console.print(f"\n[dim]These addresses and keys also stand in {file}, readable by you alone.[/]")
