"""The messages of `stepflow.v1`, as a type checker sees them. Written by `make proto`."""

# ruff: noqa: N802

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from google.protobuf.descriptor import Descriptor
from google.protobuf.internal.containers import (
    MessageMap,
    RepeatedCompositeFieldContainer,
    RepeatedScalarFieldContainer,
    ScalarMap,
)
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

class PutBlobRequest(Message):
    DESCRIPTOR: Descriptor
    @property
    def json_data(self) -> Value: ...
    raw_data: bytes
    blob_type: str
    filename: str
    content_type: str
    def __init__(
        self,
        *,
        json_data: Value | Mapping[str, Any] | None = ...,
        raw_data: bytes | None = ...,
        blob_type: str | None = ...,
        filename: str | None = ...,
        content_type: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["json_data", "raw_data", "filename", "content_type", "content"]) -> bool: ...
    def WhichOneof(self, oneof_group: Literal["content"]) -> Literal["json_data", "raw_data"] | None: ...

class PutBlobResponse(Message):
    DESCRIPTOR: Descriptor
    blob_id: str
    filename: str
    def __init__(
        self,
        *,
        blob_id: str | None = ...,
        filename: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["filename"]) -> bool: ...

class GetBlobRequest(Message):
    DESCRIPTOR: Descriptor
    blob_id: str
    def __init__(
        self,
        *,
        blob_id: str | None = ...,
    ) -> None: ...

class GetBlobResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def json_data(self) -> Value: ...
    raw_data: bytes
    blob_type: str
    blob_id: str
    filename: str
    content_type: str
    def __init__(
        self,
        *,
        json_data: Value | Mapping[str, Any] | None = ...,
        raw_data: bytes | None = ...,
        blob_type: str | None = ...,
        blob_id: str | None = ...,
        filename: str | None = ...,
        content_type: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["json_data", "raw_data", "filename", "content_type", "content"]) -> bool: ...
    def WhichOneof(self, oneof_group: Literal["content"]) -> Literal["json_data", "raw_data"] | None: ...

class ObservabilityContext(Message):
    DESCRIPTOR: Descriptor
    trace_id: str
    span_id: str
    run_id: str
    flow_id: str
    step_id: str
    def __init__(
        self,
        *,
        trace_id: str | None = ...,
        span_id: str | None = ...,
        run_id: str | None = ...,
        flow_id: str | None = ...,
        step_id: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["trace_id", "span_id", "run_id", "flow_id", "step_id"]) -> bool: ...

class ItemStatistics(Message):
    DESCRIPTOR: Descriptor
    total: int
    completed: int
    running: int
    failed: int
    cancelled: int
    def __init__(
        self,
        *,
        total: int | None = ...,
        completed: int | None = ...,
        running: int | None = ...,
        failed: int | None = ...,
        cancelled: int | None = ...,
    ) -> None: ...

class ItemResult(Message):
    DESCRIPTOR: Descriptor
    item_index: int
    status: int
    @property
    def output(self) -> Value: ...
    error_message: str
    error_code: int
    @property
    def completed_at(self) -> Timestamp: ...
    def __init__(
        self,
        *,
        item_index: int | None = ...,
        status: int | str | None = ...,
        output: Value | Mapping[str, Any] | None = ...,
        error_message: str | None = ...,
        error_code: int | str | None = ...,
        completed_at: Timestamp | Mapping[str, Any] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["output", "error_message", "error_code", "completed_at"]) -> bool: ...

class ListRegisteredComponentsRequest(Message):
    DESCRIPTOR: Descriptor
    exclude_schemas: bool
    def __init__(
        self,
        *,
        exclude_schemas: bool | None = ...,
    ) -> None: ...

class ListRegisteredComponentsResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def components(self) -> RepeatedCompositeFieldContainer[ComponentInfoEntry]: ...
    complete: bool
    @property
    def failed_plugins(self) -> RepeatedCompositeFieldContainer[PluginDiscoveryError]: ...
    def __init__(
        self,
        *,
        components: Iterable[ComponentInfoEntry] | None = ...,
        complete: bool | None = ...,
        failed_plugins: Iterable[PluginDiscoveryError] | None = ...,
    ) -> None: ...

class PluginDiscoveryError(Message):
    DESCRIPTOR: Descriptor
    plugin: str
    error: str
    def __init__(
        self,
        *,
        plugin: str | None = ...,
        error: str | None = ...,
    ) -> None: ...

class ComponentInfoEntry(Message):
    DESCRIPTOR: Descriptor
    component_id: str
    description: str
    @property
    def input_schema(self) -> Struct: ...
    @property
    def output_schema(self) -> Struct: ...
    path: str
    plugin: str
    def __init__(
        self,
        *,
        component_id: str | None = ...,
        description: str | None = ...,
        input_schema: Struct | Mapping[str, Any] | None = ...,
        output_schema: Struct | Mapping[str, Any] | None = ...,
        path: str | None = ...,
        plugin: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["description", "input_schema", "output_schema"]) -> bool: ...

class StoreFlowRequest(Message):
    DESCRIPTOR: Descriptor
    @property
    def flow(self) -> Struct: ...
    dry_run: bool
    def __init__(
        self,
        *,
        flow: Struct | Mapping[str, Any] | None = ...,
        dry_run: bool | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["flow"]) -> bool: ...

class StoreFlowResponse(Message):
    DESCRIPTOR: Descriptor
    flow_id: str
    stored: bool
    @property
    def diagnostics(self) -> Diagnostics: ...
    def __init__(
        self,
        *,
        flow_id: str | None = ...,
        stored: bool | None = ...,
        diagnostics: Diagnostics | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["diagnostics"]) -> bool: ...

class GetFlowRequest(Message):
    DESCRIPTOR: Descriptor
    flow_id: str
    def __init__(
        self,
        *,
        flow_id: str | None = ...,
    ) -> None: ...

class GetFlowResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def flow(self) -> Struct: ...
    flow_id: str
    @property
    def all_examples(self) -> RepeatedCompositeFieldContainer[ExampleInput]: ...
    def __init__(
        self,
        *,
        flow: Struct | Mapping[str, Any] | None = ...,
        flow_id: str | None = ...,
        all_examples: Iterable[ExampleInput] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["flow"]) -> bool: ...

class DeleteFlowRequest(Message):
    DESCRIPTOR: Descriptor
    flow_id: str
    def __init__(
        self,
        *,
        flow_id: str | None = ...,
    ) -> None: ...

class DeleteFlowResponse(Message):
    DESCRIPTOR: Descriptor
    def __init__(self) -> None: ...

class GetFlowVariablesRequest(Message):
    DESCRIPTOR: Descriptor
    flow_id: str
    def __init__(
        self,
        *,
        flow_id: str | None = ...,
    ) -> None: ...

class GetFlowVariablesResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def variables(self) -> MessageMap[str, FlowVariable]: ...
    flow_id: str
    def __init__(
        self,
        *,
        variables: Mapping[str, FlowVariable] | None = ...,
        flow_id: str | None = ...,
    ) -> None: ...

class FlowVariable(Message):
    DESCRIPTOR: Descriptor
    description: str
    @property
    def default_value(self) -> Value: ...
    required: bool
    @property
    def schema(self) -> Struct: ...
    env_var: str
    def __init__(
        self,
        *,
        description: str | None = ...,
        default_value: Value | Mapping[str, Any] | None = ...,
        required: bool | None = ...,
        schema: Struct | Mapping[str, Any] | None = ...,
        env_var: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["description", "default_value", "schema", "env_var"]) -> bool: ...

class ExampleInput(Message):
    DESCRIPTOR: Descriptor
    name: str
    description: str
    @property
    def input(self) -> Value: ...
    def __init__(
        self,
        *,
        name: str | None = ...,
        description: str | None = ...,
        input: Value | Mapping[str, Any] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["description", "input"]) -> bool: ...

class Diagnostics(Message):
    DESCRIPTOR: Descriptor
    @property
    def diagnostics(self) -> RepeatedCompositeFieldContainer[Diagnostic]: ...
    num_fatal: int
    num_error: int
    num_warning: int
    def __init__(
        self,
        *,
        diagnostics: Iterable[Diagnostic] | None = ...,
        num_fatal: int | None = ...,
        num_error: int | None = ...,
        num_warning: int | None = ...,
    ) -> None: ...

class Diagnostic(Message):
    DESCRIPTOR: Descriptor
    kind: str
    code: int
    level: int
    formatted: str
    @property
    def data(self) -> Value: ...
    path: str
    experimental: bool
    def __init__(
        self,
        *,
        kind: str | None = ...,
        code: int | None = ...,
        level: int | str | None = ...,
        formatted: str | None = ...,
        data: Value | Mapping[str, Any] | None = ...,
        path: str | None = ...,
        experimental: bool | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["data", "path"]) -> bool: ...

class HealthCheckRequest(Message):
    DESCRIPTOR: Descriptor
    def __init__(self) -> None: ...

class HealthCheckResponse(Message):
    DESCRIPTOR: Descriptor
    status: str
    @property
    def timestamp(self) -> Timestamp: ...
    @property
    def build(self) -> BuildInfo: ...
    def __init__(
        self,
        *,
        status: str | None = ...,
        timestamp: Timestamp | Mapping[str, Any] | None = ...,
        build: BuildInfo | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["timestamp", "build"]) -> bool: ...

class BuildInfo(Message):
    DESCRIPTOR: Descriptor
    git_version: str
    dirty: bool
    rustc_version: str
    profile: str
    @property
    def features(self) -> RepeatedScalarFieldContainer[str]: ...
    target: str
    def __init__(
        self,
        *,
        git_version: str | None = ...,
        dirty: bool | None = ...,
        rustc_version: str | None = ...,
        profile: str | None = ...,
        features: Iterable[str] | None = ...,
        target: str | None = ...,
    ) -> None: ...

class CreateRunRequest(Message):
    DESCRIPTOR: Descriptor
    flow_id: str
    @property
    def input(self) -> RepeatedCompositeFieldContainer[Value]: ...
    @property
    def overrides(self) -> Struct: ...
    @property
    def variables(self) -> MessageMap[str, Value]: ...
    max_concurrency: int
    wait: bool
    timeout_secs: int
    def __init__(
        self,
        *,
        flow_id: str | None = ...,
        input: Iterable[Value | Mapping[str, Any]] | None = ...,
        overrides: Struct | Mapping[str, Any] | None = ...,
        variables: Mapping[str, Value] | None = ...,
        max_concurrency: int | None = ...,
        wait: bool | None = ...,
        timeout_secs: int | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["overrides", "max_concurrency", "timeout_secs"]) -> bool: ...

class CreateRunResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def summary(self) -> RunSummary: ...
    @property
    def results(self) -> RepeatedCompositeFieldContainer[ItemResult]: ...
    def __init__(
        self,
        *,
        summary: RunSummary | None = ...,
        results: Iterable[ItemResult] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["summary"]) -> bool: ...

class ListRunsRequest(Message):
    DESCRIPTOR: Descriptor
    status: int
    flow_name: str
    root_run_id: str
    parent_run_id: str
    roots_only: bool
    max_depth: int
    limit: int
    offset: int
    def __init__(
        self,
        *,
        status: int | str | None = ...,
        flow_name: str | None = ...,
        root_run_id: str | None = ...,
        parent_run_id: str | None = ...,
        roots_only: bool | None = ...,
        max_depth: int | None = ...,
        limit: int | None = ...,
        offset: int | None = ...,
    ) -> None: ...
    def HasField(
        self, field_name: Literal["status", "flow_name", "root_run_id", "parent_run_id", "max_depth", "limit", "offset"]
    ) -> bool: ...

class ListRunsResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def runs(self) -> RepeatedCompositeFieldContainer[RunSummary]: ...
    def __init__(
        self,
        *,
        runs: Iterable[RunSummary] | None = ...,
    ) -> None: ...

class GetRunRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    wait: bool
    timeout_secs: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        wait: bool | None = ...,
        timeout_secs: int | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["timeout_secs"]) -> bool: ...

class GetRunResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def summary(self) -> RunSummary: ...
    @property
    def steps(self) -> RepeatedCompositeFieldContainer[StepStatus]: ...
    def __init__(
        self,
        *,
        summary: RunSummary | None = ...,
        steps: Iterable[StepStatus] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["summary"]) -> bool: ...

class DeleteRunRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    def __init__(
        self,
        *,
        run_id: str | None = ...,
    ) -> None: ...

class DeleteRunResponse(Message):
    DESCRIPTOR: Descriptor
    def __init__(self) -> None: ...

class CancelRunRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    def __init__(
        self,
        *,
        run_id: str | None = ...,
    ) -> None: ...

class CancelRunResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def summary(self) -> RunSummary: ...
    def __init__(
        self,
        *,
        summary: RunSummary | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["summary"]) -> bool: ...

class GetRunItemsRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    result_order: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        result_order: int | str | None = ...,
    ) -> None: ...

class GetRunItemsResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def results(self) -> RepeatedCompositeFieldContainer[ItemResult]: ...
    def __init__(
        self,
        *,
        results: Iterable[ItemResult] | None = ...,
    ) -> None: ...

class GetRunFlowRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    def __init__(
        self,
        *,
        run_id: str | None = ...,
    ) -> None: ...

class GetRunFlowResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def flow(self) -> Struct: ...
    flow_id: str
    def __init__(
        self,
        *,
        flow: Struct | Mapping[str, Any] | None = ...,
        flow_id: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["flow"]) -> bool: ...

class GetRunStepsRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    item_index: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        item_index: int | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["item_index"]) -> bool: ...

class GetRunStepsResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def steps(self) -> RepeatedCompositeFieldContainer[StepStatus]: ...
    def __init__(
        self,
        *,
        steps: Iterable[StepStatus] | None = ...,
    ) -> None: ...

class GetStepDetailRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    step_id: str
    item_index: int
    asof: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        step_id: str | None = ...,
        item_index: int | None = ...,
        asof: int | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["item_index", "asof"]) -> bool: ...

class GetStepDetailResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def step(self) -> StepStatus: ...
    def __init__(
        self,
        *,
        step: StepStatus | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["step"]) -> bool: ...

class GetRunEventsRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    since: int
    @property
    def event_types(self) -> RepeatedScalarFieldContainer[int]: ...
    include_sub_runs: bool
    include_results: bool
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        since: int | None = ...,
        event_types: Iterable[int | str] | None = ...,
        include_sub_runs: bool | None = ...,
        include_results: bool | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["since"]) -> bool: ...

class RunSummary(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    flow_id: str
    flow_name: str
    status: int
    @property
    def items(self) -> ItemStatistics: ...
    @property
    def created_at(self) -> Timestamp: ...
    @property
    def completed_at(self) -> Timestamp: ...
    root_run_id: str
    parent_run_id: str
    orchestrator_id: str
    created_at_seqno: int
    finished_at_seqno: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        flow_id: str | None = ...,
        flow_name: str | None = ...,
        status: int | str | None = ...,
        items: ItemStatistics | None = ...,
        created_at: Timestamp | Mapping[str, Any] | None = ...,
        completed_at: Timestamp | Mapping[str, Any] | None = ...,
        root_run_id: str | None = ...,
        parent_run_id: str | None = ...,
        orchestrator_id: str | None = ...,
        created_at_seqno: int | None = ...,
        finished_at_seqno: int | None = ...,
    ) -> None: ...
    def HasField(
        self,
        field_name: Literal[
            "flow_name",
            "items",
            "created_at",
            "completed_at",
            "parent_run_id",
            "orchestrator_id",
            "finished_at_seqno",
        ],
    ) -> bool: ...

class StepStatus(Message):
    DESCRIPTOR: Descriptor
    step_id: str
    step_index: int
    item_index: int
    status: int
    component: str
    @property
    def output(self) -> Value: ...
    error_message: str
    error_code: int
    @property
    def started_at(self) -> Timestamp: ...
    @property
    def completed_at(self) -> Timestamp: ...
    journal_seqno: int
    @property
    def updated_at(self) -> Timestamp: ...
    def __init__(
        self,
        *,
        step_id: str | None = ...,
        step_index: int | None = ...,
        item_index: int | None = ...,
        status: int | str | None = ...,
        component: str | None = ...,
        output: Value | Mapping[str, Any] | None = ...,
        error_message: str | None = ...,
        error_code: int | str | None = ...,
        started_at: Timestamp | Mapping[str, Any] | None = ...,
        completed_at: Timestamp | Mapping[str, Any] | None = ...,
        journal_seqno: int | None = ...,
        updated_at: Timestamp | Mapping[str, Any] | None = ...,
    ) -> None: ...
    def HasField(
        self,
        field_name: Literal[
            "component",
            "output",
            "error_message",
            "error_code",
            "started_at",
            "completed_at",
            "updated_at",
        ],
    ) -> bool: ...

class StatusEvent(Message):
    DESCRIPTOR: Descriptor
    sequence_number: int
    @property
    def timestamp(self) -> Timestamp: ...
    @property
    def run_created(self) -> RunCreatedEvent: ...
    @property
    def step_started(self) -> StepStartedEvent: ...
    @property
    def step_completed(self) -> StepCompletedEvent: ...
    @property
    def step_ready(self) -> StepReadyEvent: ...
    @property
    def item_completed(self) -> ItemCompletedEvent: ...
    @property
    def run_completed(self) -> RunCompletedEvent: ...
    @property
    def sub_run_created(self) -> SubRunCreatedEvent: ...
    @property
    def steps_needed(self) -> StepsNeededEvent: ...
    def __init__(
        self,
        *,
        sequence_number: int | None = ...,
        timestamp: Timestamp | Mapping[str, Any] | None = ...,
        run_created: RunCreatedEvent | None = ...,
        step_started: StepStartedEvent | None = ...,
        step_completed: StepCompletedEvent | None = ...,
        step_ready: StepReadyEvent | None = ...,
        item_completed: ItemCompletedEvent | None = ...,
        run_completed: RunCompletedEvent | None = ...,
        sub_run_created: SubRunCreatedEvent | None = ...,
        steps_needed: StepsNeededEvent | None = ...,
    ) -> None: ...
    def HasField(
        self,
        field_name: Literal[
            "timestamp",
            "run_created",
            "step_started",
            "step_completed",
            "step_ready",
            "item_completed",
            "run_completed",
            "sub_run_created",
            "steps_needed",
            "event",
        ],
    ) -> bool: ...
    def WhichOneof(self, oneof_group: Literal["event"]) -> str | None: ...

class RunCreatedEvent(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    flow_id: str
    item_count: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        flow_id: str | None = ...,
        item_count: int | None = ...,
    ) -> None: ...

class StepStartedEvent(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    item_index: int
    step_index: int
    step_id: str
    attempt: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        item_index: int | None = ...,
        step_index: int | None = ...,
        step_id: str | None = ...,
        attempt: int | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["step_id"]) -> bool: ...

class StepCompletedEvent(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    item_index: int
    step_index: int
    step_id: str
    status: int
    @property
    def result(self) -> Value: ...
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        item_index: int | None = ...,
        step_index: int | None = ...,
        step_id: str | None = ...,
        status: int | str | None = ...,
        result: Value | Mapping[str, Any] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["step_id", "result"]) -> bool: ...

class StepReadyEvent(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    item_index: int
    step_index: int
    step_id: str
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        item_index: int | None = ...,
        step_index: int | None = ...,
        step_id: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["step_id"]) -> bool: ...

class ItemCompletedEvent(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    item_index: int
    @property
    def result(self) -> Value: ...
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        item_index: int | None = ...,
        result: Value | Mapping[str, Any] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["result"]) -> bool: ...

class RunCompletedEvent(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    status: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        status: int | str | None = ...,
    ) -> None: ...

class SubRunCreatedEvent(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    parent_run_id: str
    flow_id: str
    item_count: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        parent_run_id: str | None = ...,
        flow_id: str | None = ...,
        item_count: int | None = ...,
    ) -> None: ...

class StepsNeededEvent(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    item_index: int
    @property
    def step_ids(self) -> RepeatedScalarFieldContainer[str]: ...
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        item_index: int | None = ...,
        step_ids: Iterable[str] | None = ...,
    ) -> None: ...

class PullTasksRequest(Message):
    DESCRIPTOR: Descriptor
    queue_name: str
    worker_id: str
    def __init__(
        self,
        *,
        queue_name: str | None = ...,
        worker_id: str | None = ...,
    ) -> None: ...

class TaskAssignment(Message):
    DESCRIPTOR: Descriptor
    task_id: str
    @property
    def execute(self) -> ComponentExecuteRequest: ...
    @property
    def list_components(self) -> ListComponentsRequest: ...
    @property
    def context(self) -> TaskContext: ...
    heartbeat_interval_secs: int
    def __init__(
        self,
        *,
        task_id: str | None = ...,
        execute: ComponentExecuteRequest | None = ...,
        list_components: ListComponentsRequest | None = ...,
        context: TaskContext | None = ...,
        heartbeat_interval_secs: int | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["execute", "list_components", "context", "task"]) -> bool: ...
    def WhichOneof(self, oneof_group: Literal["task"]) -> Literal["execute", "list_components"] | None: ...

class TaskContext(Message):
    DESCRIPTOR: Descriptor
    orchestrator_service_url: str
    root_run_id: str
    def __init__(
        self,
        *,
        orchestrator_service_url: str | None = ...,
        root_run_id: str | None = ...,
    ) -> None: ...

class ComponentExecuteRequest(Message):
    DESCRIPTOR: Descriptor
    component_id: str
    @property
    def input(self) -> Value: ...
    attempt: int
    @property
    def observability(self) -> ObservabilityContext: ...
    @property
    def path_params(self) -> ScalarMap[str, str]: ...
    def __init__(
        self,
        *,
        component_id: str | None = ...,
        input: Value | Mapping[str, Any] | None = ...,
        attempt: int | None = ...,
        observability: ObservabilityContext | None = ...,
        path_params: Mapping[str, str] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["input", "observability"]) -> bool: ...

class ComponentExecuteResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def output(self) -> Value: ...
    def __init__(
        self,
        *,
        output: Value | Mapping[str, Any] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["output"]) -> bool: ...

class ListComponentsRequest(Message):
    DESCRIPTOR: Descriptor
    def __init__(self) -> None: ...

class ListComponentsResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def components(self) -> RepeatedCompositeFieldContainer[ComponentInfo]: ...
    def __init__(
        self,
        *,
        components: Iterable[ComponentInfo] | None = ...,
    ) -> None: ...

class ComponentInfo(Message):
    DESCRIPTOR: Descriptor
    component_id: str
    description: str
    input_schema: str
    output_schema: str
    path: str
    def __init__(
        self,
        *,
        component_id: str | None = ...,
        description: str | None = ...,
        input_schema: str | None = ...,
        output_schema: str | None = ...,
        path: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["description", "input_schema", "output_schema"]) -> bool: ...

class ComponentInfoRequest(Message):
    DESCRIPTOR: Descriptor
    component_id: str
    def __init__(
        self,
        *,
        component_id: str | None = ...,
    ) -> None: ...

class ComponentInfoResponse(Message):
    DESCRIPTOR: Descriptor
    @property
    def info(self) -> ComponentInfo: ...
    def __init__(
        self,
        *,
        info: ComponentInfo | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["info"]) -> bool: ...

class GetOrchestratorForRunRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    def __init__(
        self,
        *,
        run_id: str | None = ...,
    ) -> None: ...

class GetOrchestratorForRunResponse(Message):
    DESCRIPTOR: Descriptor
    orchestrator_service_url: str
    def __init__(
        self,
        *,
        orchestrator_service_url: str | None = ...,
    ) -> None: ...

class OrchestratorSubmitRunRequest(Message):
    DESCRIPTOR: Descriptor
    @property
    def run_request(self) -> CreateRunRequest: ...
    subflow_key: str
    root_run_id: str
    def __init__(
        self,
        *,
        run_request: CreateRunRequest | None = ...,
        subflow_key: str | None = ...,
        root_run_id: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["run_request", "subflow_key", "root_run_id"]) -> bool: ...

class OrchestratorGetRunRequest(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    wait: bool
    include_results: bool
    result_order: int
    timeout_secs: int
    root_run_id: str
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        wait: bool | None = ...,
        include_results: bool | None = ...,
        result_order: int | str | None = ...,
        timeout_secs: int | None = ...,
        root_run_id: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["timeout_secs", "root_run_id"]) -> bool: ...

class OrchestratorRunStatus(Message):
    DESCRIPTOR: Descriptor
    run_id: str
    flow_id: str
    flow_name: str
    status: int
    @property
    def items(self) -> ItemStatistics: ...
    @property
    def created_at(self) -> Timestamp: ...
    @property
    def completed_at(self) -> Timestamp: ...
    @property
    def results(self) -> RepeatedCompositeFieldContainer[ItemResult]: ...
    root_run_id: str
    parent_run_id: str
    created_at_seqno: int
    def __init__(
        self,
        *,
        run_id: str | None = ...,
        flow_id: str | None = ...,
        flow_name: str | None = ...,
        status: int | str | None = ...,
        items: ItemStatistics | None = ...,
        created_at: Timestamp | Mapping[str, Any] | None = ...,
        completed_at: Timestamp | Mapping[str, Any] | None = ...,
        results: Iterable[ItemResult] | None = ...,
        root_run_id: str | None = ...,
        parent_run_id: str | None = ...,
        created_at_seqno: int | None = ...,
    ) -> None: ...
    def HasField(
        self, field_name: Literal["flow_name", "items", "created_at", "completed_at", "parent_run_id"]
    ) -> bool: ...

class TaskError(Message):
    DESCRIPTOR: Descriptor
    code: int
    message: str
    @property
    def data(self) -> Struct: ...
    def __init__(
        self,
        *,
        code: int | str | None = ...,
        message: str | None = ...,
        data: Struct | Mapping[str, Any] | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["data"]) -> bool: ...

class CompleteTaskRequest(Message):
    DESCRIPTOR: Descriptor
    task_id: str
    @property
    def response(self) -> ComponentExecuteResponse: ...
    @property
    def error(self) -> TaskError: ...
    @property
    def list_components(self) -> ListComponentsResult: ...
    run_id: str
    def __init__(
        self,
        *,
        task_id: str | None = ...,
        response: ComponentExecuteResponse | None = ...,
        error: TaskError | None = ...,
        list_components: ListComponentsResult | None = ...,
        run_id: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["response", "error", "list_components", "run_id", "result"]) -> bool: ...
    def WhichOneof(self, oneof_group: Literal["result"]) -> Literal["response", "error", "list_components"] | None: ...

class CompleteTaskResponse(Message):
    DESCRIPTOR: Descriptor
    def __init__(self) -> None: ...

class ListComponentsResult(Message):
    DESCRIPTOR: Descriptor
    @property
    def components(self) -> RepeatedCompositeFieldContainer[ComponentInfo]: ...
    def __init__(
        self,
        *,
        components: Iterable[ComponentInfo] | None = ...,
    ) -> None: ...

class TaskHeartbeatRequest(Message):
    DESCRIPTOR: Descriptor
    task_id: str
    worker_id: str
    progress: float
    status_message: str
    run_id: str
    def __init__(
        self,
        *,
        task_id: str | None = ...,
        worker_id: str | None = ...,
        progress: float | None = ...,
        status_message: str | None = ...,
        run_id: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["progress", "status_message", "run_id"]) -> bool: ...

class TaskHeartbeatResponse(Message):
    DESCRIPTOR: Descriptor
    should_abort: bool
    status: int
    def __init__(
        self,
        *,
        should_abort: bool | None = ...,
        status: int | str | None = ...,
    ) -> None: ...

class VsockTaskEnvelope(Message):
    DESCRIPTOR: Descriptor
    @property
    def assignment(self) -> TaskAssignment: ...
    blob_url: str
    tasks_url: str
    otel_endpoint: str
    def __init__(
        self,
        *,
        assignment: TaskAssignment | None = ...,
        blob_url: str | None = ...,
        tasks_url: str | None = ...,
        otel_endpoint: str | None = ...,
    ) -> None: ...
    def HasField(self, field_name: Literal["assignment"]) -> bool: ...
