"""What a store keeps of a run, read in pieces of a fair size."""

import msgspec

from stepflow.errors import FlowInvalidError, InputInvalidError
from stepflow.flow.model import Flow
from stepflow.flow.read import flow_from_json
from stepflow.plan.overrides import apply_overrides
from stepflow.protocols import Blobs
from stepflow.records import BlobId, Json

ROWS = 64
"""Packed rows that are read at once: as much as may keep an engine's loop busy for a moment."""


async def read_flow_blob(blobs: Blobs, flow_id: BlobId, overrides: Json = None) -> Flow | None:
    """A stored flow; None where it is stored no more or can't be read any more."""
    blob = await blobs.get(flow_id)
    if blob is None:
        return None
    try:
        flow = flow_from_json(msgspec.json.decode(blob.content))
    except (msgspec.DecodeError, FlowInvalidError):
        return None
    try:
        return apply_overrides(flow, overrides)
    except (FlowInvalidError, InputInvalidError):
        return flow  # ids are the same
