"""Where a flow names steps, the input and variables."""

from stepflow.flow.model import InputRef, StepRef, VariableRef
from stepflow.flow.read import flow_from_json
from stepflow.plan.uses import Use, uses


def test_uses_come_in_the_order_of_the_document_with_both_paths() -> None:
    flow = flow_from_json(
        {
            "steps": [
                {
                    "id": "a",
                    "component": "/c",
                    "timeout": {"$variable": "wait"},
                    "input": [{"$coalesce": [1, {"$input": "x"}]}, {"$literal": {"$step": "not a reference"}}],
                }
            ],
            "output": {"$if": {"$variable": "v", "default": {"$step": "a"}}, "then": {"k": {"$step": "a"}}},
        }
    )

    assert list(uses(flow)) == [
        Use(InputRef(("x",)), ("steps", 0, "input", 0, 1), ("steps", 0, "input", 0, "$coalesce", 1, "$input"), 0),
        Use(VariableRef(("wait",)), ("steps", 0, "timeout"), ("steps", 0, "timeout", "$variable"), 0),
        Use(VariableRef(("v",), StepRef("a")), ("output", "condition"), ("output", "$if", "$variable"), None),
        Use(StepRef("a"), ("output", "condition"), ("output", "$if", "default", "$step"), None),
        Use(StepRef("a"), ("output", "then", "k"), ("output", "then", "k", "$step"), None),
    ]
