"""What code a value was made by.

A record carries the fingerprint of its task. Where it differs after a crash, "deterministic" no longer means
that the old value would come out again. Formatting, comments, docstrings and decorators do not count.
"""

import ast
import contextlib
import hashlib
import inspect
import textwrap
import threading
from types import CodeType
from typing import Any

from exoflow.graph.description import Describer
from exoflow.graph.naming import qualified_name

__all__ = ["fingerprint"]


def fingerprint(function: Any, version: str | None) -> str:
    """Return a short text that changes when *function* may compute something else.

    Args:
        function: A Python function, or any other callable.
        version: The author's own name for the code; when given, the source is not looked at.
    """
    if version is not None:
        return f"v:{version}"
    try:
        tree = _parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return _of_code(function)
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        tree.decorator_list = []
        first = tree.body[0] if tree.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            tree.body = tree.body[1:]
    return "s:" + hashlib.blake2b(ast.dump(tree).encode(), digest_size=8).hexdigest()


def _parse(source: str) -> ast.Module:
    # Up to 3.11 the parser counts its recursion for all threads together, and raises where two of them meet. A fallback
    # here would be another fingerprint, and look like changed code.
    for _ in range(100):
        with _parsing, contextlib.suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)


_parsing = threading.Lock()


def _of_code(function: Any) -> str:
    """Fall back to bytecode, for functions without source (a shell, `exec`); builtins have only their name."""
    code = getattr(function, "__code__", None)
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(code, CodeType):
        _feed(digest, code)
        # As a source would: it shows the defaults, and not what the function closed over.
        for default in (*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())):
            digest.update(_describe(default))
    else:
        digest.update(qualified_name(function).encode())
    return "c:" + digest.hexdigest()


def _feed(digest: "hashlib.blake2b", code: CodeType) -> None:
    digest.update(code.co_code)
    digest.update(code.co_exceptiontable)
    digest.update(
        repr(
            (
                code.co_names, code.co_varnames, code.co_freevars,
                code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags,
            )
        ).encode()
    )  # fmt: skip
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _feed(digest, constant)
        else:
            digest.update(_describe(constant))


def _describe(value: Any) -> bytes:
    try:
        return Describer().describe(value)
    except Exception:  # a lock as a default, say: of which kind it is has to do
        return Describer().describe(type(value))
