"""A flow as a PNG picture. Needs Pillow; the shapes are those of the SVG."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

from stepflow.drawing.graph import graph_of
from stepflow.drawing.scene import PAPER, Box, Curve, Polygon, Scene, Shape, Text, measure, scene_of
from stepflow.flow.model import Flow

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

_SCALE = 2.0  # pixels a unit of the drawing
_FINER = 2  # painted so much larger, then shrunk: Pillow's lines have no soft edges
_MOST = 6_000_000  # pixels of a picture; larger drawings get fewer a unit
_FONTS = ("DejaVuSans{}.ttf", "Arial{}.ttf", "Helvetica{}.ttf")


def draw_png(
    flow: Flow, *, servers: bool = True, details: bool = True, notes: Mapping[str, str] | None = None
) -> bytes:
    """Raises: ModuleNotFoundError where Pillow is not installed."""
    title = flow.name or "flow"
    return png_of(scene_of(graph_of(flow, notes), title=title, servers=servers, details=details))


def png_of(scene: Scene) -> bytes:
    from PIL import Image, ImageDraw

    scale = min(_SCALE, (_MOST / (scene.width * scene.height)) ** 0.5)
    width, height = round(scene.width * scale), round(scene.height * scale)
    image = Image.new("RGB", (width * _FINER, height * _FINER), PAPER)
    painter = _Painter(ImageDraw.Draw(image), scale * _FINER)
    for shape in scene.shapes:
        painter.paint(shape)
    file = io.BytesIO()
    image.resize((width, height), Image.Resampling.BOX).quantize(256, dither=Image.Dither.NONE).save(file, "PNG")
    return file.getvalue()


class _Painter:
    def __init__(self, draw: "ImageDraw.ImageDraw", scale: float) -> None:
        self._draw = draw
        self._scale = scale
        self._fonts: dict[tuple[float, bool], ImageFont.ImageFont | ImageFont.FreeTypeFont] = {}

    def paint(self, shape: Shape) -> None:
        pen = max(1, round(1.4 * self._scale))
        match shape:
            case Box():
                corners = self._points((shape.x, shape.y), (shape.x + shape.width, shape.y + shape.height))
                self._draw.rounded_rectangle(
                    corners, shape.radius * self._scale, fill=shape.fill, outline=shape.stroke, width=pen
                )
            case Polygon():
                points = self._points(*shape.points)
                self._draw.polygon(points, fill=shape.fill)
                self._draw.line([*points, points[0], points[1]], fill=shape.stroke, width=pen, joint="curve")
            case Curve():
                self._draw.line(self._points(*_steps(shape)), fill=shape.stroke, width=pen, joint="curve")
            case Text():
                self._write(shape)
            case _:
                assert_never(shape)

    def _write(self, shape: Text) -> None:
        """Set the text no wider than the layout thought it would be."""
        font = self._font(shape.size, shape.bold)
        room = measure(shape.text, shape.size, bold=shape.bold) * self._scale
        taken = font.getlength(shape.text)
        if taken > room:
            font = self._font(shape.size * room / taken, shape.bold)
        where = (shape.x * self._scale, shape.y * self._scale)
        self._draw.text(where, shape.text, fill=shape.fill, font=font, anchor="lm" if shape.start else "mm")

    def _font(self, size: float, bold: bool) -> "ImageFont.ImageFont | ImageFont.FreeTypeFont":
        key = (round(size, 2), bold)
        if key not in self._fonts:
            self._fonts[key] = _load_font(size * self._scale, bold)
        return self._fonts[key]

    def _points(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x * self._scale, y * self._scale) for x, y in points]


def _load_font(pixels: float, bold: bool) -> "ImageFont.ImageFont | ImageFont.FreeTypeFont":
    """A font of the system, or the one inside Pillow: a slim machine has none."""
    from PIL import ImageFont

    for name in _FONTS:
        try:
            return ImageFont.truetype(name.format("-Bold" if bold and "DejaVu" in name else ""), pixels)
        except OSError:
            continue
    return ImageFont.load_default(pixels)


def _steps(curve: Curve, count: int = 24) -> list[tuple[float, float]]:
    """Points on the cubic curve that leaves and arrives upright."""
    (x, y), (to_x, to_y) = curve.start, curve.end
    points = []
    for index in range(count + 1):
        t = index / count
        across = t * t * (3 - 2 * t)
        down = 1.5 * t * (1 - t) + t**3
        points.append((x + (to_x - x) * across, y + (to_y - y) * down))
    return points
