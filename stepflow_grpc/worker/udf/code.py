"""From the text of a function to something that can be called."""

import ast
import builtins
import inspect
import json
import linecache
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, ModuleType
from typing import Any, TypeAlias

Function: TypeAlias = Callable[..., Any]


class CodeError(ValueError):
    """The text can't be made a function. Says why, and what to write."""


class Record(dict[str, Any]):
    """An object of the input, whose fields can be read as attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the input has no field {name!r}") from None


def compiled(code: str, name: str) -> Function:
    """The function that a text is: one that it defines, an expression, or the body of one that returns something.

    The text is a module: its functions see its imports and each other. `json`, `math` and `re` are there. Names of
    helpers begin with an underscore, so that it is plain which function is meant.

    Raises:
        CodeError: there is none, or more than one.
    """
    module = _module(code, name)
    try:
        tree = ast.parse(code, name)
        if not any(_returns(statement) for statement in tree.body):
            if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
                return _of_expression(tree.body[0].value, name, module)
            if functions := _public_functions(tree):
                return _of_module(tree, name, module, functions)
            if not any(isinstance(statement, ast.If | ast.Raise) for statement in tree.body):
                raise CodeError("it defines no public function, is no expression, and returns nothing")
        return _of_body(tree, name, module)
    except SyntaxError as error:
        raise CodeError(f"line {error.lineno}: {error.msg}") from None


def arguments(function: Function, input: Any, context: Any) -> Sequence[Any]:
    """What a function is called with: the input, and where it takes a second argument the context."""
    try:
        parameters = [each for each in inspect.signature(function).parameters.values() if each.kind in _POSITIONAL]
    except (TypeError, ValueError):
        return (input,)  # some builtins do not tell
    if not parameters:
        return ()
    has_fields = parameters[0].annotation in (parameters[0].empty, dict, "dict", Any, "Any")
    given = with_fields(input) if has_fields else input
    return (given, context) if len(parameters) > 1 else (given,)


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def with_fields(value: Any) -> Any:
    """The value, with every object in it as a `Record`."""
    if isinstance(value, dict):
        return Record((name, with_fields(each)) for name, each in value.items())
    if isinstance(value, list):
        return [with_fields(each) for each in value]
    return value


def _module(code: str, name: str) -> ModuleType:
    """A module for the text to fill; tracebacks show its lines."""
    module = ModuleType(name)
    known = {key: value for key, value in vars(builtins).items() if key != "input"}
    vars(module).update(__builtins__=known, json=json, math=math, re=re)
    sys.modules[name] = module
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    return module


def _returns(node: ast.AST) -> bool:
    """Whether it returns from where it stands, rather than from a function inside."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return False
    return isinstance(node, ast.Return) or any(_returns(child) for child in ast.iter_child_nodes(node))


def _public_functions(tree: ast.Module) -> list[str]:
    names = dict.fromkeys(name for statement in tree.body for name in _defined(statement))
    return [name for name in names if not name.startswith("_")]


def _defined(node: ast.AST) -> Iterator[str]:
    """The names of functions that a statement defines in the module, inside of `if` and `try` too."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
        for child in ast.iter_child_nodes(node):
            yield from _defined(child)


def _of_module(tree: ast.Module, name: str, module: ModuleType, names: Sequence[str]) -> Function:
    if len(names) > 1:
        shown = ", ".join(names)
        raise CodeError(f"it defines several public functions ({shown}): begin the names of helpers with an underscore")
    exec(_code(tree, name, "exec"), vars(module))
    function: Function = vars(module)[names[0]]
    return function


def _of_expression(expression: ast.expr, name: str, module: ModuleType) -> Function:
    """What the expression gives, if that can be called; else a function of `input` that gives what it does."""
    try:
        value = eval(_code(ast.Expression(expression), name, "eval"), vars(module))
    except Exception:  # noqa: BLE001 - such as the name `input`, which only a call has
        value = None
    if callable(value):
        function: Function = value
        return function
    shell = ast.parse("lambda input, context: None", name, "eval")
    assert isinstance(shell.body, ast.Lambda)
    shell.body.body = expression
    made: Function = eval(_code(shell, name, "eval"), vars(module))
    return made


def _of_body(tree: ast.Module, name: str, module: ModuleType) -> Function:
    shell = ast.parse("def function(input, context): pass", name)
    assert isinstance(shell.body[0], ast.FunctionDef)
    shell.body[0].body = tree.body
    exec(_code(shell, name, "exec"), vars(module))
    function: Function = vars(module)["function"]
    return function


def _code(tree: ast.Module | ast.Expression, name: str, mode: str) -> CodeType:
    made: CodeType = compile(ast.fix_missing_locations(tree), name, mode)
    return made
