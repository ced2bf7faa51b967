"""A flow as text for Graphviz."""

from stepflow.drawing.graph import Edge, Node, graph_of
from stepflow.drawing.scene import fills
from stepflow.flow.model import Flow

_SHAPES = {"input": "ellipse", "output": "ellipse", "if": "diamond", "coalesce": "diamond"}


def dot_text(flow: Flow, *, servers: bool = True, details: bool = True) -> str:
    graph = graph_of(flow)
    colours = fills(graph, servers=servers)
    lines = [
        "digraph workflow {",
        '  graph [rankdir=TB, fontname="Helvetica"]',
        '  node [fontname="Helvetica", style="rounded,filled"]',
        '  edge [fontname="Helvetica", fontsize=10, color="#64748b"]',
        *(_node(node, colours[node.key], servers=servers, details=details) for node in graph.nodes),
        *(_edge(edge) for edge in graph.edges),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _node(node: Node, fill: str, *, servers: bool, details: bool) -> str:
    rows = [node.label, node.component, node.server] if servers else [node.label]
    label = "\\n".join(_escaped(row) for row in rows if row)
    style = '"filled"' if node.kind != "step" else '"rounded,filled"'
    tip = f', tooltip="{_escaped(node.tip)}"' if details and node.tip else ""
    shape = _SHAPES.get(node.kind, "box")
    return f'  "{_escaped(node.key)}" [label="{label}", shape={shape}, style={style}, fillcolor="{fill}"{tip}]'


def _edge(edge: Edge) -> str:
    label = f' [label="{_escaped(edge.label)}"]' if edge.label else ""
    return f'  "{_escaped(edge.source)}" -> "{_escaped(edge.target)}"{label}'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", " ")
