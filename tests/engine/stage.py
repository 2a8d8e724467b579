"""Where stories of the engine and its model play: a loop, a receiver, and databases copied from a prepared one."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import make_url

from core import provisioning
from core.clock import ManualClock
from core.store.systems.master_keys import FILE_NAME
from dripstone.v1 import event_pb2, webhook_pb2, workflow_pb2
from tests.chaos.process import Process
from tests.conftest import START, new_postgresql_database
from tests.engine.model import SHORT
from tests.engine.world import WORKFLOW, Keys, World
from tests.receiver import Receiver

_serial = itertools.count()


@dataclass(slots=True)
class Stage:
    """What all stories of a test share."""

    runner: asyncio.Runner
    receiver: Receiver
    folder: Path
    databases: ExitStack
    _templates: dict[str, tuple[str, Keys]] = field(default_factory=dict)

    def run(self, work: Any) -> Any:
        """Carry out what is asynchronous."""
        return self.runner.run(work)

    def on_sqlite(self) -> World:
        """Return a new world with one process on SQLite."""
        template = self.folder / "template.db"
        keys = self._prepared("sqlite", f"sqlite:///{template}")
        path = shutil.copy(template, self.folder / f"story-{next(_serial)}.db")
        return self._world(keys, f"sqlite:///{path}", ["one"])

    def on_postgresql(self, server: str) -> World:
        """Return a new world with two processes on PostgreSQL."""
        template, keys = self._templates.get("postgresql", ("", None))
        if keys is None:
            template = self.databases.enter_context(new_postgresql_database(server))
            keys = self._prepared("postgresql", template)
        url = self.databases.enter_context(self._copied(server, template))
        return self._world(keys, url, ["one", "two"])

    def _world(self, keys: Keys, url: str, names: list[str]) -> World:
        clock = ManualClock(START + timedelta(minutes=1))
        for name in names:  # a copy of a database is of use with its master key alone
            if (key := self.folder / "template" / FILE_NAME).exists():
                (self.folder / name).mkdir(exist_ok=True)
                shutil.copy(key, self.folder / name)
        return World([Process(url, self.folder / name, clock) for name in names], clock, self.receiver, keys)

    def _prepared(self, kind: str, url: str) -> Keys:
        if kind not in self._templates:
            process = Process(url, self.folder / "template", ManualClock(START))
            self._templates[kind] = url, self.run(self._prepare(process))
        return self._templates[kind][1]

    async def _prepare(self, process: Process) -> Keys:
        await process.start()
        made = await provisioning.create_organization(process.core.database, "Acme", "Europe/Berlin")
        keys = Keys(made.org_id, made.api_key, made.approver_key)
        app = event_pb2.CreateSourceRequest(source_id="app", display_name="App", kind=event_pb2.SOURCE_KIND_WEBHOOK)
        workflow = workflow_pb2.CreateWorkflowRequest(workflow_id=WORKFLOW, source=SHORT, publish=True)
        endpoint = webhook_pb2.CreateEndpointRequest(url=self.receiver.url)
        await process.call("WebhookService.CreateEndpoint", endpoint, keys.service)
        await process.call("EventService.CreateSource", app, keys.service)
        await process.call("WorkflowService.CreateWorkflow", workflow, keys.service)
        await process.stop()
        return keys

    @contextmanager
    def _copied(self, server: str, template: str) -> Iterator[str]:
        """Copy a database; drop the copy afterwards."""
        original = make_url(template)
        copy = f"{original.database}_{next(_serial)}"

        async def run(statement: str) -> None:
            connection = await asyncpg.connect(server)
            await connection.execute(statement)
            await connection.close()

        self.run(run(f'CREATE DATABASE "{copy}" TEMPLATE "{original.database}" OWNER "{original.username}"'))
        yield original.set(database=copy).render_as_string(hide_password=False)
        self.run(run(f'DROP DATABASE "{copy}" WITH (FORCE)'))


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Set the stage in a folder."""
    receiver = Receiver()
    with asyncio.Runner() as runner, ExitStack() as databases:
        runner.run(receiver.start())
        yield Stage(runner, receiver, folder, databases)
        runner.run(receiver.stop())
