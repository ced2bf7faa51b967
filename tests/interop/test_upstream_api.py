"""One program of the reference system, with every method of its client and of its workers' context, on both servers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow]

WORKER = """
import asyncio, os
import msgspec
from stepflow_py.worker import StepflowContext, StepflowServer, blob_store, execution_context
from stepflow_py.worker import exceptions
from stepflow_py.worker.grpc_worker import run_grpc_worker

server = StepflowServer()


class Point(msgspec.Struct):
    x: int
    y: int = 2


@server.component
def move(at: Point) -> Point:
    return Point(x=at.x + 1, y=at.y * 2)


@server.component(id="named", subpath="/core/{*rest}", description="Path parameters.")
async def named(input: dict, rest: str) -> dict:
    return {"rest": rest, "input": input}


@server.component(subpath="/user/{id}/get")
def user(input: dict, id: str) -> str:
    return id


RAISED = {
    "execution": lambda: exceptions.StepflowExecutionError("no", {"a": 1}),
    "runtime": lambda: exceptions.StepflowRuntimeError("no"),
    "validation": lambda: exceptions.StepflowValidationError("no"),
    "not found": lambda: exceptions.ComponentNotFoundError("c"),
    "base": lambda: exceptions.StepflowError("no"),
    "value": lambda: ValueError("no"),
    "type": lambda: TypeError("no"),
    "os": lambda: OSError("no"),
    "key": lambda: KeyError("no"),
}


@server.component
async def fail(input: dict) -> dict:
    raise RAISED[input["how"]]()


@server.component
async def same(v: object) -> object:
    return v


FLOW = {"steps": [{"id": "m", "component": "/mine/move", "input": {"$input": "$"}}], "output": {"$step": "m"}}
BAD = {"steps": [{"id": "f", "component": "/mine/fail", "input": {"how": "type"}}], "output": {"$step": "f"}}


@server.component
async def context(input: dict, ctx: StepflowContext) -> dict:
    found = execution_context.get()
    blob = await ctx.put_blob({"b": 1, "a": [2.5, None]})
    binary = await blob_store.put_blob_binary(b"\\x00\\xff")
    flow_id = await ctx.put_blob(FLOW, blob_type="flow")
    told = {
        "known": [bool(each) for each in (ctx.run_id, ctx.flow_id)] + [ctx.step_id, ctx.attempt],
        "same": [found.run_id == ctx.run_id, found.step_id, found.attempt],
        "blob": [blob, await ctx.get_blob(blob), await blob_store.get_blob(blob)],
        "binary": [binary, list(await blob_store.get_blob_binary(binary))],
        "blobs": await blob_store.get_blobs({blob}),
        "run": plain(await ctx.submit_run(FLOW, inputs=[{"x": 1}, {"x": 5, "y": 0}])),
        "flow": await ctx.evaluate_flow(FLOW, {"x": 2}),
        "by id": await ctx.evaluate_flow_by_id(flow_id, {"x": 3}),
        "runs": await ctx.evaluate_run(FLOW, [{"x": 4}, {"x": 5}], max_concurrency=1),
        "runs by id": await ctx.evaluate_run_by_id(
            flow_id, [{"x": 6}], overrides={"steps": {"m": {"value": {"input": {"x": 9}}}}}
        ),
    }
    submitted = await ctx.submit_run_by_id(flow_id, [{"x": 7}])
    told["waited"] = plain(await ctx.get_run(submitted["run_id"], wait=True))
    try:
        await ctx.evaluate_flow(BAD, {})
    except Exception as error:
        told["failed"] = [type(error).__name__, str(error)]
    try:
        await ctx.get_blob("0" * 64)
    except Exception as error:
        told["no blob"] = type(error).__name__
    try:
        await ctx.evaluate_flow_by_id("0" * 64, {})
    except Exception as error:
        told["no flow"] = type(error).__name__
    return told


def plain(status):
    for result in status.get("results", ()):
        result["completed_at"] = bool(result["completed_at"])
    return {key: status[key] for key in ("status", "items", "results") if key in status} | {
        "keys": sorted(set(status) - {"root_run_id", "parent_run_id", "flow_name", "created_at_seqno"})
    }


asyncio.run(run_grpc_worker(server, os.environ["STEPFLOW_TASKS_URL"], os.environ["STEPFLOW_QUEUE_NAME"]))
"""

CLIENT = """
import asyncio, json, os, sys
import grpc
from pathlib import Path
from google.protobuf.json_format import MessageToDict
from stepflow_py import StepflowClient
from stepflow_py.config import StepflowConfig, GrpcPluginConfig, BuiltinPluginConfig, RouteRule
from stepflow_py.worker import FlowBuilder, Value
from stepflow_py.proto import runs_pb2

CONFIG = StepflowConfig(
    plugins={
        "builtin": BuiltinPluginConfig(),
        "mine": GrpcPluginConfig(
            command=sys.executable, args=["worker.py"], queueName="mine", env={"GREETING": "hi"}
        ),
    },
    routes={"/builtin": [RouteRule(plugin="builtin")], "/mine": [RouteRule(plugin="mine")]},
    workingDirectory=os.getcwd(),
)


def built():
    builder = FlowBuilder(name="built", description="By the builder.", version="1", metadata={"a": 1})
    first = builder.add_step(
        id="first", component="/mine/move", input_data={"x": Value.input("$.x"), "y": Value.variable("by", 3)}
    )
    second = builder.add_step(
        id="second",
        component="/mine/same",
        input_data={
            "point": Value.step("first"),
            "y": Value.step("first", "$.y"),
            "text": Value.literal({"$step": "no"}),
        },
    )
    builder.set_output({"last": Value.step("second"), "name": Value.variable("name")})
    builder.set_variables_schema(
        {
            "type": "object",
            "properties": {
                "by": {"type": "number", "default": 4, "env_var": "BY"},
                "name": {"type": "string", "env_var": "NAME", "description": "Who."},
            },
            "required": ["name"],
        }
    )
    return builder.build()


def one(component, input={"$input": "$"}, **more):
    return {"steps": [{"id": "s", "component": component, "input": input, **more}], "output": {"$step": "s"}}


def results(response):
    return [
        MessageToDict(each, preserving_proto_field_name=True) | {"completed_at": each.HasField("completed_at")}
        for each in response.results
    ]


async def names(events):
    async for event in events:
        if event.WhichOneof("event") != "item_completed":
            yield event.WhichOneof("event")


async def refused(call):
    try:
        return "not refused", MessageToDict(await call)
    except grpc.aio.AioRpcError as error:
        return error.code().name


async def play(client, told):
    told["healthy"] = await client.is_healthy()
    listed = await client.list_components()
    told["complete"] = listed.complete
    told["components"] = sorted(
        (e.component_id, e.HasField("input_schema")) for e in listed.components if e.plugin == "mine"
    )
    told["no schemas"] = [
        e.HasField("input_schema")
        for e in (await client.list_components(exclude_schemas=True)).components
        if e.plugin == "mine"
    ]

    dry = await client.store_flow(built(), dry_run=True)
    stored = await client.store_flow(built())
    told["stored"] = [dry.stored, len(dry.flow_id), stored.stored, stored.diagnostics.num_fatal]
    bad = await client.store_flow(
        {"steps": [{"id": "a", "component": "/x", "input": {"$step": "nowhere"}}], "output": {"$step": "a"}}
    )
    told["fatal"] = [bad.stored, bad.diagnostics.num_fatal > 0]
    told["variables"] = {
        name: [v.required, v.env_var, MessageToDict(v.default_value)]
        for name, v in (await client.get_flow_variables(stored.flow_id)).variables.items()
    }

    os.environ["BY"], os.environ["NAME"] = "5", "env"
    told["env"] = results(await client.run(stored.flow_id, {"x": 1}, populate_variables_from_env=True))
    told["explicit"] = results(
        await client.run(stored.flow_id, {"x": 1}, variables={"name": "me"}, populate_variables_from_env=True)
    )
    told["variables given"] = results(
        await client.run(stored.flow_id, [{"x": 1}, {"x": 2}], variables={"name": "me", "by": 0}, max_concurrency=1)
    )
    told["overridden"] = results(
        await client.run(
            stored.flow_id,
            {"x": 1},
            variables={"name": "me"},
            overrides={"steps": {"first": {"value": {"input": {"x": 40}}}}},
        )
    )
    told["bad overrides"] = [
        await refused(client.run(stored.flow_id, {"x": 1}, {"name": "me"}, overrides=each))
        for each in (
            {"first": {"value": {"input": {"x": 1}}}},
            {"steps": {"nowhere": {"value": {}}}},
            {"steps": {"first": {"$type": "json_patch", "value": []}}},
        )
    ]

    kinds = {}
    for how in ("execution", "runtime", "validation", "not found", "base", "value", "type", "os", "key"):
        flow = await client.store_flow(one("/mine/fail", {"how": how}))
        (result,) = results(await client.run(flow.flow_id, {}))
        kinds[how] = [result["error_code"], result["error_message"]]
    told["exceptions"] = kinds
    told["bad input"] = [
        results(await client.run((await client.store_flow(one("/mine/move"))).flow_id, [{"x": "no"}]))[0][
            "error_code"
        ]
    ]
    told["defaulted"] = results(
        await client.run(
            (
                await client.store_flow(
                    one("/mine/fail", {"how": "type"}, onError={"action": "useDefault", "defaultValue": {"d": 1}})
                )
            ).flow_id,
            {},
        )
    )
    told["unknown component"] = results(
        await client.run((await client.store_flow(one("/mine/nothing"))).flow_id, {})
    )[0]["status"]
    for name, path in (("rest", "/mine/core/a/b%20c/d"), ("user", "/mine/user/42/get")):
        told[name] = results(await client.run((await client.store_flow(one(path))).flow_id, {"k": 1}))

    flow = (await client.store_flow(one("/mine/same"))).flow_id
    values = [
        {"n": 1.0, "f": 2.5, "t": "é\\u0000", "l": [], "o": {}, "z": None, "b": False},
        7,
        "text",
        None,
        [1, [2]],
        True,
    ]
    told["values"] = results(await client.run(flow, values))
    told["none"] = MessageToDict((await client.run(flow, [])).summary)["status"]
    sleeping = (await client.store_flow(one("/builtin/sleep", {"duration_ms": {"$input": "$.ms"}}))).flow_id
    slept = await client.run(sleeping, {"ms": 3000}, wait_timeout=0)
    told["slept"] = [slept.summary.status, [each.status for each in slept.results]]
    told["still"] = (await client.get_run(slept.summary.run_id, wait=True, wait_timeout=0)).summary.status
    late = await refused(client.run(sleeping, {"ms": 3000}, timeout=0.2))
    told["late"] = late in ("DEADLINE_EXCEEDED", "CANCELLED")  # the one or the other, by chance
    submitted = await client.submit(flow, [{"a": 1}, {"a": 2}])
    run_id = submitted.summary.run_id
    told["submitted"] = [submitted.summary.status, submitted.summary.items.total]
    waited = await client.get_run(run_id, wait=True)
    told["waited"] = [
        waited.summary.status,
        MessageToDict(waited.summary.items),
        sorted((s.step_id, s.status, s.component) for s in waited.steps),
    ]
    told["items"] = [
        {**each, "completed_at": bool(each["completed_at"])} for each in await client.get_run_items(run_id)
    ]
    told["events"] = [name async for name in names(client.status_events(run_id))]
    told["some events"] = [
        e.WhichOneof("event")
        async for e in client.status_events(
            run_id,
            event_types=[runs_pb2.STATUS_EVENT_TYPE_STEP_COMPLETED, runs_pb2.STATUS_EVENT_TYPE_RUN_COMPLETED],
            include_results=True,
        )
    ]
    told["results of events"] = sorted(
        [
            json.dumps(MessageToDict(e.step_completed.result))
            async for e in client.status_events(run_id, include_results=True)
            if e.HasField("step_completed")
        ]
    )
    numbers = [e.sequence_number async for e in client.status_events(run_id)]
    told["since"] = [
        [e.sequence_number async for e in client.status_events(run_id, since=numbers[-1])]
        == [n for n in numbers if n >= numbers[-1]],
        sorted(numbers) == numbers,
    ]
    nested = (await client.store_flow(one("/builtin/eval", {"flow_id": flow, "input": {"q": 1}}))).flow_id
    done = await client.run(nested, {})
    told["nested"] = [
        results(done)[0]["status"],
        sorted({name async for name in names(client.status_events(done.summary.run_id, include_sub_runs=True))}),
    ]
    told["context"] = results(await client.run((await client.store_flow(one("/mine/context"))).flow_id, {}))
    told["refused"] = [
        await refused(client.get_run("x")),
        await refused(client.get_run("0" * 32)),
        await refused(client.run("x", {})),
        await refused(client.run("0" * 64, {})),
        await refused(client.get_flow_variables("0" * 64)),
        await refused(client.store_flow({"steps": 5})),
    ]
    try:
        [e async for e in client.status_events("11111111-1111-1111-1111-111111111111")]
    except grpc.aio.AioRpcError as error:
        told["no events"] = error.code().name
    told["no items"] = await client.get_run_items("11111111-1111-1111-1111-111111111111")


async def main():
    told = {}
    async with StepflowClient.local(CONFIG, env={"EXTRA": "1"}, log_level="warn") as client:
        await play(client, told)
    Path(sys.argv[1]).write_text(json.dumps(told))


asyncio.run(main())
"""


def told(folder: Path, python: Path, name: str, **environment: str) -> dict[str, Any]:
    """What the program says of a server."""
    line = [python, "client.py", name]
    done = subprocess.run(
        line, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found


def test_a_program_hears_from_our_server_what_it_hears_from_the_reference(
    tmp_path: Path, upstream_python: Path
) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "client.py").write_text(CLIENT)
    binary = tmp_path / "server"
    binary.write_text(f"#!{sys.executable}\nfrom stepflow_grpc.serving.command import server\nserver()\n")
    binary.chmod(0o755)

    by_reference = told(tmp_path, upstream_python, "reference")
    by_ours = told(tmp_path, upstream_python, "ours", STEPFLOW_DEV_BINARY=str(binary))

    assert len(by_reference) == 35
    for name, heard in by_reference.items():
        assert (name, by_ours[name]) == (name, heard)
    assert by_ours.keys() == by_reference.keys()
