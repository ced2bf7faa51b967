"""Pictures of a flow: SVG, PNG, DOT and Mermaid. Pure text and arithmetic; only PNG needs an extra library."""

from stepflow.drawing.svg import draw_svg

__all__ = ["draw_svg"]
