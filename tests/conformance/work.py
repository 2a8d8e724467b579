"""Tasks that the suite begins by name, in memory; every other task is the product's."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import require_client_extension
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import INTERNAL_ERROR, CallToolRequestParams, ElicitResult

from mcp_server.extensions.tasks import TASKS, Task, Work, understands_tasks
from tests.conformance.rounds import form

Context = ServerRequestContext[Any, Any]
LONGEST = 30.0
"""Seconds that a task computes at most."""

ENDED = ("completed", "failed", "cancelled")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Job:
    """A task under way."""

    id: str
    status: Any = "working"
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)
    questions: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    running: asyncio.Task[None] | None = None

    def become(self, status: str) -> None:
        self.status, self.updated = status, now()

    async def ask(self, **questions: Any) -> dict[str, Any]:
        """Wait until a person has answered every question."""
        self.questions = {
            f"{self.id}-{key}": question.model_dump(mode="json", by_alias=True, exclude_none=True)
            for key, question in questions.items()
        }
        self.become("input_required")
        await self.answered.wait()
        self.become("working")
        return self.answers

    def take(self, answers: Mapping[str, Any]) -> None:
        """Take answers to open questions."""
        for key in set(answers) & set(self.questions):
            del self.questions[key]
            self.answers[key] = answers[key]
        if not self.questions:
            self.answered.set()

    def task(self) -> Task:
        return Task(
            self.id,
            self.status,
            self.created,
            self.updated,
            poll_ms=200,
            ttl_ms=600_000,
            questions=self.questions,
            result=self.result,
            error=self.error,
        )


def greet(name: str) -> str:
    """Greet, at once."""
    return f"Hello, {name}!"


async def slow_compute(seconds: float = 0.0, label: str = "") -> str:
    """Compute for some seconds."""
    await asyncio.sleep(min(seconds, LONGEST))
    return f"{label or 'It'} took {seconds:g} seconds."


async def failing_job() -> str:
    """Fail, after a while."""
    await asyncio.sleep(0.5)
    raise ToolError("This job always fails.")


async def protocol_error_job() -> str:
    """Fail by the protocol."""
    raise MCPError(INTERNAL_ERROR, "This job breaks.")


async def confirm_delete(filename: str) -> str:
    """Delete a file, once a person has confirmed it."""
    return f"{filename} is kept: nobody could be asked."


async def multi_input() -> str:
    """Ask two things at once."""
    return "Nobody could be asked."


TOOLS: tuple[Callable[..., Any], ...] = (
    greet,
    slow_compute,
    failing_job,
    protocol_error_job,
    confirm_delete,
    multi_input,
)


async def _confirm_delete(job: Job, params: CallToolRequestParams) -> str:
    filename = (params.arguments or {}).get("filename", "")
    (answer,) = (await job.ask(confirm=form(f"Delete {filename}?", "confirm", "boolean"))).values()
    confirmed = answer.get("action") == "accept" and (answer.get("content") or {}).get("confirm")
    return f"{filename} is {'deleted' if confirmed else 'kept'}."


async def _multi_input(job: Job, params: CallToolRequestParams) -> str:
    answers = await job.ask(name=form("Your name?", "name"), confirm=form("Go on?", "confirm", "boolean"))
    return f"{len(answers)} answers came."


async def _greet_in_task(job: Job, params: CallToolRequestParams) -> str:
    answer = (params.input_responses or {})["user_name"]
    assert isinstance(answer, ElicitResult)
    return greet(str((answer.content or {}).get("name")))


def _plain(function: Callable[..., Awaitable[str]]) -> Callable[[Job, CallToolRequestParams], Awaitable[str]]:
    return lambda job, params: function(**(params.arguments or {}))


JOBS: Mapping[str, Callable[[Job, CallToolRequestParams], Awaitable[str]]] = {
    "slow_compute": _plain(slow_compute),
    "failing_job": _plain(failing_job),
    "protocol_error_job": _plain(protocol_error_job),
    "confirm_delete": _confirm_delete,
    "multi_input": _multi_input,
    "test_tool_with_task": _greet_in_task,
}
ONLY_AS_TASKS = ("failing_job",)


class FixtureWork:
    """The suite's tasks, and beside them those of other work."""

    def __init__(self, others: Work) -> None:
        self._others = others
        self._jobs: dict[str, Job] = {}
        self._numbers = itertools.count(1)

    async def begin(self, params: CallToolRequestParams, ctx: Context, call_next: CallNext) -> HandlerResult | Task:
        """Begin a task where the call is one of the suite's that the client takes a task for."""
        if params.name not in JOBS:
            return await self._others.begin(params, ctx, call_next)
        if params.name in ONLY_AS_TASKS:
            require_client_extension(ctx, TASKS)
        asks_first = params.name == "test_tool_with_task" and not params.input_responses
        if asks_first or not understands_tasks(ctx):
            return await call_next(ctx)
        job = Job(f"fixture-{next(self._numbers)}")
        self._jobs[job.id] = job
        begun = job.task()
        job.running = asyncio.create_task(self._run(job, params))
        return begun

    async def _run(self, job: Job, params: CallToolRequestParams) -> None:
        try:
            job.result = _told(await JOBS[params.name](job, params), is_error=False)
            job.become("completed")
        except ToolError as error:
            job.result = _told(str(error), is_error=True)
            job.become("completed")
        except MCPError as error:
            job.error = {"code": error.error.code, "message": error.error.message}
            job.become("failed")
        except asyncio.CancelledError:
            job.become("cancelled")
            raise

    async def find(self, task_id: str, ctx: Context) -> Task:
        """Return a task."""
        job = self._jobs.get(task_id)
        return await self._others.find(task_id, ctx) if job is None else job.task()

    async def answer(self, task_id: str, answers: Mapping[str, Any], ctx: Context) -> None:
        """Take answers to a task's questions."""
        job = self._jobs.get(task_id)
        if job is None:
            await self._others.answer(task_id, answers, ctx)
        else:
            job.take(answers)

    async def cancel(self, task_id: str, ctx: Context) -> None:
        """End a task that has not ended."""
        job = self._jobs.get(task_id)
        if job is None:
            await self._others.cancel(task_id, ctx)
        elif job.status not in ENDED and job.running is not None:
            job.running.cancel()
            job.become("cancelled")


def _told(text: str, *, is_error: bool) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": is_error}
