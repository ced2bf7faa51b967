"""Which steps a step needs, as its flow is written."""

from stepflow.flow.model import Flow, StepRef
from stepflow.plan.uses import expression_uses


def needs_of(flow: Flow | None) -> list[tuple[int, ...]]:
    """By step, the steps whose values its input names."""
    if flow is None:
        return []
    places = {step.id: index for index, step in enumerate(flow.steps)}
    return [
        tuple(
            dict.fromkeys(
                places[use.ref.step]
                for use in expression_uses(step.input, (), (), index)
                if isinstance(use.ref, StepRef) and use.ref.step in places
            )
        )
        for index, step in enumerate(flow.steps)
    ]
