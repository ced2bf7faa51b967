"""Types as schemas that stand on their own and can be written into a flow."""

from collections.abc import Mapping

from stepflow.flow.schema import resolve_ref
from stepflow.plan.shared_root import SharedRoot, any_of, kind_of, with_inner
from stepflow.records import Json

_NAMED = ("$defs", "definitions", "schemas")


def standalone(schema: Json, root: SharedRoot, defs: Mapping[str, Json] = {}) -> Json:
    """The schema of a type without references through the root; True where nothing is known.

    A reference to one of the flow's definitions stays one; others are carried along under `$defs`. Values that the
    flow writes become their types: what it gives is described, not repeated.
    """
    copier = _Copier(root, defs)
    written = copier.copy(schema, ())
    if isinstance(written, dict) and copier.defs:
        return {**written, "$defs": copier.defs}
    return written


class _Copier:
    def __init__(self, root: SharedRoot, flow_defs: Mapping[str, Json]) -> None:
        self.defs: dict[str, Json] = {}
        self._root = root
        self._flow_defs = flow_defs
        self._names: dict[str, str] = {}

    def copy(self, schema: Json, entered: tuple[str, ...]) -> Json:
        """`entered` are the references that led here; none: the type was made of the flow's own expressions."""
        if not isinstance(schema, dict):
            return schema
        ref = schema.get("$ref")
        if isinstance(ref, str):
            return self._reference(ref, {key: part for key, part in schema.items() if key != "$ref"}, entered)
        if not entered:
            schema = _described(schema)
        kept = {key: part for key, part in schema.items() if key not in _NAMED}
        copied = with_inner(kept, lambda each: self.copy(each, entered))
        return _union(copied["anyOf"]) if not entered and copied.keys() == {"anyOf"} else copied

    def _reference(self, ref: str, beside: dict[str, Json], entered: tuple[str, ...]) -> Json:
        target = resolve_ref(ref, self._root.documents)
        if target is None:
            return True
        name = ref.rsplit("/", 1)[-1]
        if ref in self._names:
            found: Json = {"$ref": f"#/$defs/{self._names[ref]}"}
        elif self._is_flows(ref, name, target):
            found = {"$ref": f"#/schemas/$defs/{name}"}
        elif ref.count("/") == 1 and ref not in entered:
            found = self.copy(target, (*entered, ref))  # a whole document is written out where it stands
        else:
            found = {"$ref": f"#/$defs/{self._define(ref, name, target, entered)}"}
        copied = self.copy(beside, (*entered, ref))
        if isinstance(found, dict) and isinstance(copied, dict):
            return {**found, **copied}
        return found

    def _is_flows(self, ref: str, name: str, target: Json) -> bool:
        """Whether the reference leads to a definition of the flow's."""
        document = "/".join(ref.split("/")[:2])
        return name in self._flow_defs and target == resolve_ref(
            f"{document}/schemas/$defs/{name}", self._root.documents
        )

    def _define(self, ref: str, name: str, target: Json, entered: tuple[str, ...]) -> str:
        number = 1
        chosen = name
        while chosen in self.defs or chosen in self._flow_defs:
            number += 1
            chosen = f"{name}{number}"
        self._names[ref] = chosen
        self.defs[chosen] = True  # holds the name while its content is copied
        self.defs[chosen] = self.copy(target, (*entered, ref))
        return chosen


def _described(schema: dict[str, Json]) -> dict[str, Json]:
    """What an expression gives, as one would declare it: types for values, arrays for tuples, open objects."""
    if schema.keys() == {"const"}:
        return _widened(schema["const"])
    if schema.keys() >= {"prefixItems", "minItems", "maxItems"} and schema.get("items") is False:
        return {"type": "array", "items": any_of(schema["prefixItems"])}  # type: ignore[arg-type]
    if schema.keys() == {"type", "items", "minItems", "maxItems"} and schema["maxItems"] == 0:
        return {"type": "array"}
    if schema.keys() == {"type", "properties", "required", "additionalProperties"}:
        return {key: part for key, part in schema.items() if key != "additionalProperties"}
    return schema


def _widened(value: Json) -> dict[str, Json]:
    if isinstance(value, dict):
        fields: dict[str, Json] = {name: _widened(part) for name, part in value.items()}
        return {"type": "object", "properties": fields, "required": list(fields)}
    if isinstance(value, list):
        return {"type": "array", "items": _union([_widened(item) for item in value])}
    return {"type": kind_of(value).replace("fraction", "number")}


def _union(schemas: Json) -> Json:
    """The union of copied types: anything as soon as nothing is known of one, or there is none."""
    listed = schemas if isinstance(schemas, list) else []
    return True if not listed or any(each is True or each == {} for each in listed) else any_of(listed)
