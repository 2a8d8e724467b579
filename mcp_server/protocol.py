"""What the server serves beside tools: resources, prompts, completions and subscriptions, by the caller's key.

Other addresses than ours, such as an extension's `skill://`, go on to whoever registered them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import grpc
from mcp import MCPError
from mcp.server import CacheHint, MCPServer
from mcp.server.context import ServerRequestContext
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    PromptArgument,
    PromptMessage,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from mcp.types import Prompt as ListedPrompt

from dripstone.v1 import workflow_pb2
from dripstone.v1.client import ApiError
from mcp_server.callers import Caller, Callers, visit_of
from mcp_server.completions import complete
from mcp_server.corrections import nearest
from mcp_server.extensions.skills import is_listed
from mcp_server.prompts import PROMPTS, BadPromptArguments, Prompt
from mcp_server.readers import NoSuchResource
from mcp_server.resources import (
    DOCUMENTS,
    KINDS,
    SCHEME,
    Document,
    Kind,
    document_of,
    kind_of,
    told,
)
from mcp_server.subscriptions import Subscriptions
from mcp_server.tool import Tool, scopes_of
from mcp_server.values import UNTRUSTED, clip

LISTED_MS = 30_000
"""How long a listing is good for: it depends on the key's scopes, which are believed for as long."""

CACHE_HINTS: Mapping[Any, CacheHint] = {
    method: CacheHint(ttl_ms=LISTED_MS, scope="private")
    for method in ("resources/list", "resources/templates/list", "prompts/list")
}
"""For the constructor of the server; what is read says itself how long it is good for."""

PAGE = 50
_WORKFLOWS = "workflows:"
_WORKFLOW = next(kind for kind in KINDS if kind.name == "workflow")
_JSON = "application/json"

Context = ServerRequestContext[Any, Any]


def register(
    server: MCPServer[Any],
    callers: Callers,
    tools: Mapping[str, Tool],
    subscriptions: Subscriptions | None = None,
) -> None:
    """Serve these beside a server's `tools`."""
    beside = Beside(server, callers, tools)
    watching = subscriptions or Subscriptions(callers, shows=beside.shows)
    low = server._lowlevel_server  # the library pages no lists and hands completions no caller by its public way
    low.add_request_handler("resources/list", PaginatedRequestParams, beside.list_resources)
    low.add_request_handler("resources/templates/list", PaginatedRequestParams, beside.list_templates)
    low.add_request_handler("resources/read", ReadResourceRequestParams, beside.read_resource)
    low.add_request_handler("prompts/list", PaginatedRequestParams, beside.list_prompts)
    low.add_request_handler("prompts/get", GetPromptRequestParams, beside.get_prompt)
    low.add_request_handler("completion/complete", CompleteRequestParams, beside.complete)
    low.add_request_handler("subscriptions/listen", SubscriptionsListenRequestParams, watching.listen)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, watching.subscribe)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, watching.unsubscribe)


class Beside:
    """The handlers of what is served beside tools."""

    def __init__(self, server: MCPServer[Any], callers: Callers, tools: Mapping[str, Tool]) -> None:
        self._server = server
        self._callers = callers
        self._tools = tools
        found = server._lowlevel_server.get_request_handler("resources/read")
        assert found is not None
        self._read_other = found.handler

    async def list_resources(self, ctx: Context, params: PaginatedRequestParams) -> ListResourcesResult:
        """List documents and what extensions have, then every workflow, page by page."""
        caller = await self._who(ctx)
        cursor = params.cursor or ""
        has_workflows = self.shows(ctx, _WORKFLOW) and self._may(
            caller, ("WorkflowService.ListWorkflows", *_WORKFLOW.methods)
        )
        if not cursor:
            listed = [_listed(one) for one in DOCUMENTS if self.shows(ctx, one) and self._may(caller, one.methods)]
            listed += [one for one in await self._server.list_resources() if is_listed(str(one.uri))]
            return ListResourcesResult(resources=listed, next_cursor=_WORKFLOWS if has_workflows else None)
        if not (cursor.startswith(_WORKFLOWS) and has_workflows):
            raise MCPError(INVALID_PARAMS, "The cursor is not of this list. Begin again without one.")
        request = workflow_pb2.ListWorkflowsRequest(page_size=PAGE, page_token=cursor.removeprefix(_WORKFLOWS))
        try:
            page = await self._callers.for_request(ctx.request).workflows.ListWorkflows(request)
        except grpc.aio.AioRpcError as error:
            _refuse(error, "")
        following = _WORKFLOWS + page.next_page_token if page.next_page_token else None
        return ListResourcesResult(resources=[_workflow(one) for one in page.workflows], next_cursor=following)

    async def list_templates(self, ctx: Context, params: PaginatedRequestParams) -> ListResourceTemplatesResult:
        """List the forms of addresses that the caller can read, then those of extensions."""
        caller = await self._who(ctx)
        listed = [_template(one) for one in KINDS if self.shows(ctx, one) and self._may(caller, one.methods)]
        return ListResourceTemplatesResult(resource_templates=listed + await self._server.list_resource_templates())

    async def read_resource(self, ctx: Context, params: ReadResourceRequestParams) -> Any:
        """Read one address under the caller's key. Raises MCPError that names the nearest address, or what to do."""
        uri = str(params.uri)
        if not uri.startswith(SCHEME):
            return await self._read_other(ctx, params)
        client = self._callers.for_request(ctx.request)
        document, named = document_of(uri), kind_of(uri)
        try:
            if document is not None and self.shows(ctx, document):
                return _read(document, uri, told(document, await document.read(client)))
            if named is not None and self.shows(ctx, named[0]):
                return _read(named[0], uri, told(named[0], await named[0].read(client, named[1])))
        except NoSuchResource as missing:
            near = nearest(missing.name, missing.known, cutoff=0.6)
            hint = f"Did you mean {near}?" if near else f"Known: {', '.join(missing.known[:30])}."
            raise MCPError(INVALID_PARAMS, f"{missing} {hint}", data=_nothing_at(uri)) from None
        except grpc.aio.AioRpcError as error:
            _refuse(error, uri)
        forms = [one.template for one in KINDS if self.shows(ctx, one)]
        forms += [one.uri for one in DOCUMENTS if self.shows(ctx, one)]
        near = nearest(uri[:200], forms, cutoff=0.5)
        hint = f"Did you mean {near}?" if near else f"There are {', '.join(forms) or 'none here'}."
        raise MCPError(
            INVALID_PARAMS,
            f"Nothing has the address {uri[:200]}. {hint}",
            data=_nothing_at(uri),
        )

    async def list_prompts(self, ctx: Context, params: PaginatedRequestParams) -> ListPromptsResult:
        """List the prompts whose tools the caller has."""
        shown = self._shown(await self._who(ctx), ctx)
        return ListPromptsResult(prompts=[_prompt(prompt) for prompt in shown])

    async def get_prompt(self, ctx: Context, params: GetPromptRequestParams) -> GetPromptResult:
        """Return a prompt with its arguments filled in. Raises MCPError for what does not fit."""
        shown = {prompt.name: prompt for prompt in self._shown(await self._who(ctx), ctx)}
        prompt = shown.get(params.name)
        if prompt is None:
            near = nearest(params.name, list(shown), cutoff=0.4)
            hint = f"Did you mean {near}?" if near else f"There are {', '.join(shown) or 'none for this key'}."
            raise MCPError(INVALID_PARAMS, f"There is no prompt {params.name[:80]}. {hint}")
        try:
            text = prompt.filled(params.arguments or {})
        except BadPromptArguments as wrong:
            raise MCPError(INVALID_PARAMS, str(wrong)) from None
        message = PromptMessage(role="user", content=TextContent(type="text", text=text))
        return GetPromptResult(description=prompt.description, messages=[message])

    async def complete(self, ctx: Context, params: CompleteRequestParams) -> CompleteResult:
        """Return the values for an argument of a prompt or an address, as far as the caller may see them."""
        known = (params.context.arguments or {}) if params.context is not None else {}
        ref = params.ref
        if isinstance(ref, PromptReference):
            offered = ref.name in {prompt.name for prompt in self._shown(await self._who(ctx), ctx)}
        else:
            offered = any(one.template == ref.uri and self.shows(ctx, one) for one in KINDS)
        if not offered:
            return CompleteResult(completion=Completion(values=[]))
        client = self._callers.for_request(ctx.request)
        return CompleteResult(completion=await complete(client, params.argument.name, params.argument.value, known))

    def shows(self, ctx: Context, one: Kind | Document) -> bool:
        """Tell whether a resource is there for whoever came to an address: where tools of its toolsets are."""
        visit = visit_of(ctx.request)
        return any(
            tool.toolset in one.toolsets
            and (visit is None or visit.view.shows(tool.toolset, reads=bool(tool.annotations.read_only_hint)))
            for tool in self._tools.values()
        )

    def _shown(self, caller: Caller, ctx: Context) -> list[Prompt]:
        visit = visit_of(ctx.request)
        usable = {
            name
            for name, tool in self._tools.items()
            if self._may(caller, tool.methods)
            and (visit is None or visit.view.shows(tool.toolset, reads=bool(tool.annotations.read_only_hint)))
        }
        return [prompt for prompt in PROMPTS if usable.issuperset(prompt.tools)]

    @staticmethod
    def _may(caller: Caller, methods: Iterable[str]) -> bool:
        needed = tuple(methods)
        return not (caller.lacks(scopes_of(needed)) or caller.kept_from(needed))

    async def _who(self, ctx: Context) -> Caller:
        try:
            return await self._callers.who(ctx.request)
        except grpc.aio.AioRpcError as error:
            _refuse(error, "")


def _read(one: Kind | Document, uri: str, text: str) -> ReadResourceResult:
    return ReadResourceResult(
        contents=[
            TextResourceContents(
                uri=uri, text=text, mime_type=_JSON, _meta=dict(UNTRUSTED) if one.from_others else None
            )
        ],
        ttl_ms=one.fresh_ms,
        cache_scope="private" if one.from_others else "public",
    )


def _listed(one: Document) -> Resource:
    return Resource(uri=one.uri, name=one.name, title=one.title, description=one.description, mime_type=_JSON)


def _template(one: Kind) -> ResourceTemplate:
    return ResourceTemplate(
        uri_template=one.template, name=one.name, title=one.title, description=one.description, mime_type=_JSON
    )


def _workflow(one: workflow_pb2.Workflow) -> Resource:
    return Resource(uri=_WORKFLOW.uri(one.id), name=one.id, title=clip(one.title, 100) or None, mime_type=_JSON)


def _prompt(prompt: Prompt) -> ListedPrompt:
    return ListedPrompt(
        name=prompt.name,
        title=prompt.title,
        description=prompt.description,
        arguments=[
            PromptArgument(name=one.name, description=one.description, required=one.required)
            for one in prompt.arguments
        ],
    )


def _nothing_at(uri: str) -> dict[str, str]:
    return {"uri": uri[:200], "reason": "NOT_FOUND"}


def _refuse(error: grpc.aio.AioRpcError, uri: str) -> NoReturn:
    """Raise what the protocol says of the core's error: in its words, never in those of a library."""
    one = ApiError.of(error)
    ours = one.code in ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
    hidden = one.code in ("INTERNAL", "UNKNOWN") or not one.message
    message = "The core could not answer." if hidden else f"{one.message} {one.hint}".strip()
    data = {"uri": uri[:200], "reason": one.reason, "retry_after": one.retry_after}
    raise MCPError(
        INTERNAL_ERROR if ours else INVALID_PARAMS,
        message,
        data={name: value for name, value in data.items() if value},
    ) from None
