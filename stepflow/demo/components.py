"""The components of the audit, as three registries: `data`, `python` and `ml`.

Mount them at /data, /python and /ml. Workers behind named queues can serve the same registries; the flows don't change.
"""

import ast
import gc
import io
import tokenize
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from types import CodeType
from typing import Any

import msgspec

from stepflow import Components

OLDEST = (3, 7)
SHORTEST_SHAPE = 12  # lines: what is shorter looks alike by chance
SHORTEST_CODE = 100  # bytes of byte code
TOP = 20
READERS = 2  # threads: files are read much faster than they are analysed
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What the parser raises for text that is not Python: NUL characters are a ValueError, deep nesting the last two."""


@asynccontextmanager
async def collect_garbage_rarely() -> AsyncIterator[None]:
    """Syntax trees are many small objects without cycles: looking for cycles took a third of the parsing."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 100)
    yield
    gc.set_threshold(*before)


data = Components()
python = Components(lifespan=collect_garbage_rarely)
ml = Components(lifespan=collect_garbage_rarely)


class Place(msgspec.Struct, frozen=True):
    path: str


class Text(msgspec.Struct, frozen=True):
    text: str | None  # None: the file is not text in the encoding it declares


class SourceText(msgspec.Struct, frozen=True):
    text: str | None
    bytes: int
    lines: int


class Function(msgspec.Struct, frozen=True):
    name: str
    line: int
    lines: int
    complexity: int = 1


class Measures(msgspec.Struct, frozen=True):
    """`documented` is the share of modules, classes and functions that have a docstring; None where there are none."""

    parses: bool
    functions: int = 0
    documented: float | None = None
    complexity: int = 0  # of the most complex function
    longest: Function | None = None


class Shape(msgspec.Struct, frozen=True):
    """`hash` is equal for functions made of the same instructions, whatever the names and numbers in them."""

    hash: str
    name: str
    lines: int


class Shapes(msgspec.Struct, frozen=True):
    shapes: list[Shape]


class Grammar(msgspec.Struct, frozen=True):
    parses: bool


@data.component("/read", max_concurrency=READERS)
def read(input: Place) -> SourceText:
    """The text of a source file, decoded as Python would."""
    content = Path(input.path).read_bytes()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
        text.encode()
    except (SyntaxError, UnicodeError, LookupError):
        return SourceText(None, len(content), content.count(b"\n"))
    return SourceText(text, len(content), len(text.splitlines()))


@python.component("/measure", process=True)
def measure(input: Text) -> Measures:
    """How many functions a file has, how long, how branched and how well documented they are."""
    try:
        tree = _parse(input.text)
    except UNREADABLE:
        return Measures(parses=False)
    functions, definitions, documented = _survey(tree)
    return Measures(
        parses=True,
        functions=len(functions),
        documented=round(documented / definitions, 3) if definitions else None,
        complexity=max((function.complexity for function in functions), default=0),
        longest=max(functions, key=lambda function: (function.lines, -function.line), default=None),
    )


@python.component("/oldest", process=True)
def oldest(input: Text) -> Grammar:
    """Succeeds where Python 3.7 could read the file, and raises SyntaxError where it could not."""
    _parse(input.text, filename="source", feature_version=OLDEST)
    return Grammar(parses=True)


@ml.component("/signature", process=True)
def signature(input: Text) -> Shapes:
    """The shape of every function that is long enough to be recognised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = compile(input.text or "", "<source>", "exec", dont_inherit=True, optimize=0)
    except UNREADABLE:
        return Shapes([])
    functions = [(code, _line_count(code)) for code in _function_codes(module) if len(code.co_code) >= SHORTEST_CODE]
    return Shapes([Shape(_shape(code), code.co_name, lines) for code, lines in functions if lines >= SHORTEST_SHAPE])


def _parse(text: str | None, **options: Any) -> ast.Module:
    if text is None:
        raise SyntaxError("not text in the encoding it declares")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree: ast.Module = ast.parse(text, **options)
        return tree


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (ast.ClassDef, *FUNCTIONS)
DECISIONS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
COMPOUND: dict[type[ast.AST], tuple[str, ...]] = {
    kind: tuple(field for field in kind._fields if field in ("body", "orelse", "finalbody", "handlers", "cases"))
    for kind in (*DEFINITIONS, *DECISIONS, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
}


def _survey(tree: ast.Module) -> tuple[list[Function], int, int]:
    """The functions, and how many definitions there are and how many of them have a docstring.

    Only statements are visited. Complexity is McCabe's over statements: 1, and 1 a branch, loop, handler or case.
    """
    owners: list[ast.AST] = [tree]
    complexity = [1]
    pending: list[tuple[list[ast.AST], int]] = [(list(tree.body), 0)]
    while pending:
        block, owner = pending.pop()
        for node in block:
            fields = COMPOUND.get(type(node))
            if fields is None:
                continue
            inside = owner
            if isinstance(node, DEFINITIONS):
                inside = len(owners)
                owners.append(node)
                complexity.append(1)
            elif isinstance(node, DECISIONS):
                complexity[owner] += 1
            pending.extend([(getattr(node, field), inside) for field in fields])
    definitions = [node for node in owners if isinstance(node, (ast.Module, *DEFINITIONS)) and node.body]
    counted = zip(owners, complexity, strict=True)
    functions = [_function(node, count) for node, count in counted if isinstance(node, FUNCTIONS)]
    return functions, len(definitions), sum(_has_docstring(node.body[0]) for node in definitions)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, complexity: int) -> Function:
    return Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1, complexity)


def _has_docstring(first: ast.stmt) -> bool:
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _function_codes(code: CodeType) -> Iterator[CodeType]:
    """Every function's code below this one; lambdas and comprehensions count as parts of the function around them."""
    for inner in _inner_codes(code):
        if inner.co_flags & 1 and not inner.co_name.startswith("<"):  # 1 is CO_OPTIMIZED: a class body lacks it
            yield inner
        yield from _function_codes(inner)


def _inner_codes(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _shape(code: CodeType) -> str:
    digest = blake2b(digest_size=8)
    pending = [code]
    while pending:
        part = pending.pop()
        digest.update(bytes((part.co_argcount, part.co_kwonlyargcount)))
        digest.update(part.co_code[::2])  # an instruction is two bytes: the operation and its operand
        pending += _inner_codes(part)
    return digest.hexdigest()


def _line_count(code: CodeType) -> int:
    return _last_line(code) - code.co_firstlineno + 1


def _last_line(code: CodeType) -> int:
    own = max((line for _, _, line in code.co_lines() if line), default=code.co_firstlineno)
    return max([own, *(_last_line(inner) for inner in _inner_codes(code))])


class FileFacts(msgspec.Struct, frozen=True):
    """One output of `module.yaml`."""

    file: str
    package: str
    bytes: int
    lines: int
    measures: Measures
    shapes: list[Shape]
    grammar: str  # "3.7", "newer", or "none": no grammar of this interpreter either


class Files(msgspec.Struct, frozen=True):
    files: list[FileFacts]


class RankedFunction(msgspec.Struct, frozen=True):
    file: str
    name: str
    lines: int


class Ranking(msgspec.Struct, frozen=True):
    files: int
    lines: int
    functions: int
    newer: int
    unreadable: int
    longest: list[RankedFunction]


class Copy(msgspec.Struct, frozen=True):
    """Functions of one shape in different files."""

    lines: int
    places: list[str]  # "file name", one for each file


class Copies(msgspec.Struct, frozen=True):
    count: int
    longest: list[Copy]


class Package(msgspec.Struct, frozen=True):
    package: str
    files: int
    lines: int
    functions: int
    documented: float | None  # the mean of its files
    newer: int


class Packages(msgspec.Struct, frozen=True):
    packages: list[Package]


class Report(msgspec.Struct, frozen=True):
    ranking: Ranking
    copies: Copies
    packages: list[Package]


@python.component("/ranking")
def rank(input: Files) -> Ranking:
    """Totals, and the longest functions of all."""
    longest = [
        RankedFunction(facts.file, facts.measures.longest.name, facts.measures.longest.lines)
        for facts in input.files
        if facts.measures.longest
    ]
    return Ranking(
        files=len(input.files),
        lines=sum(facts.lines for facts in input.files),
        functions=sum(facts.measures.functions for facts in input.files),
        newer=sum(facts.grammar == "newer" for facts in input.files),
        unreadable=sum(facts.grammar == "none" for facts in input.files),
        longest=sorted(longest, key=lambda function: (-function.lines, function.file))[:TOP],
    )


@ml.component("/lookalikes")
def find_lookalikes(input: Files) -> Copies:
    """Functions that occur in more than one file."""
    places: dict[str, dict[str, Shape]] = {}
    for facts in input.files:
        for shape in facts.shapes:
            places.setdefault(shape.hash, {}).setdefault(facts.file, shape)
    copies = [
        Copy(max(shape.lines for shape in found.values()), [f"{file} {shape.name}" for file, shape in found.items()])
        for found in places.values()
        if len(found) > 1
    ]
    return Copies(len(copies), sorted(copies, key=lambda copy: (-copy.lines, copy.places))[:TOP])


@python.component("/packages")
def sum_by_package(input: Files) -> Packages:
    """The packages, the largest first."""
    by_name = groupby(sorted(input.files, key=lambda facts: facts.package), key=lambda facts: facts.package)
    packages = [_sum(name, list(files)) for name, files in by_name]
    return Packages(sorted(packages, key=lambda package: (-package.lines, package.package)))


def _sum(name: str, files: list[FileFacts]) -> Package:
    shares = [facts.measures.documented for facts in files if facts.measures.documented is not None]
    return Package(
        package=name,
        files=len(files),
        lines=sum(facts.lines for facts in files),
        functions=sum(facts.measures.functions for facts in files),
        documented=round(sum(shares) / len(shares), 3) if shares else None,
        newer=sum(facts.grammar == "newer" for facts in files),
    )


@data.component("/report")
def report(input: Report) -> Report:
    """Everything on one page."""
    return input
