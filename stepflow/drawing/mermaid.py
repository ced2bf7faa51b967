"""A flow as Mermaid text, as Markdown renderers draw it."""

from stepflow.drawing.graph import Node, graph_of
from stepflow.drawing.scene import fills
from stepflow.flow.model import Flow

_BRACKETS = {"input": ("([", "])"), "output": ("([", "])"), "if": ("{", "}"), "coalesce": ("{", "}")}


def mermaid_text(flow: Flow, *, servers: bool = True) -> str:
    graph = graph_of(flow)
    names = {node.key: f"n{index}" for index, node in enumerate(graph.nodes)}
    colours = fills(graph, servers=servers)
    lines = ["flowchart TD"]
    lines += [f"  {names[node.key]}{_label(node, servers=servers)}" for node in graph.nodes]
    for edge in graph.edges:
        label = f'|"{_escaped(edge.label)}"|' if edge.label else ""
        lines.append(f"  {names[edge.source]} -->{label} {names[edge.target]}")
    lines += [f"  style {names[key]} fill:{fill},stroke:#64748b,color:#0f172a" for key, fill in colours.items()]
    return "\n".join(lines) + "\n"


def _label(node: Node, *, servers: bool) -> str:
    opening, closing = _BRACKETS.get(node.kind, ("[", "]"))
    rows = [node.label, node.component] if servers else [node.label]
    return f'{opening}"{"<br/>".join(_escaped(row) for row in rows if row)}"{closing}'


def _escaped(text: str) -> str:
    """Mermaid knows entities by number, and takes nothing else inside quotes."""
    plain = " ".join(text.split())
    return "".join(f"#{ord(c)};" if c in '"#<>&`;{}[]|\\' else c for c in plain)
