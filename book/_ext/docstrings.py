r"""Show the package's docstrings, which are plain text, as pages.

A line `name: what it is` about a parameter or field becomes an item of a list, `code` becomes code, and each equation
that is cited becomes a link to it. Shapes in annotations are written `Array['bands *shape']`.
"""

import ast
import inspect
import re
import textwrap
from pathlib import Path

from reschrom.companion.build.ledger import MENTION

_ARRAY = re.compile(r"~?(?:\w+\.)*(?:Num|Float|Int|Bool|Integer|Shaped)\[~?[\w.]+, '([^']*)'\]")
_CODE = re.compile(r"(`[^`]+`)")
_EMPHASIS = re.compile(r"(?<![\w*])\*(\w[\w -]*\w|\w)\*(?![\w*])")


def linked(text, role, joint=""):
    """Turn the numbers of cited equations into references; `role` is a template such as "{{eq}}`{}`"."""

    def reference(match):
        return joint + role.format(f"eq:{match[1]}") + joint

    return MENTION.sub(lambda mention: re.sub(r"\(?(\d+)\)?", reference, mention[0]), text)


def prose(text):
    """Return plain text as reStructuredText: code and emphasis kept, other marks escaped, equations linked."""
    pieces = []
    for piece in _CODE.split(text):
        if piece.startswith("`") and piece.endswith("`") and len(piece) > 2:
            pieces.append(f"`{piece}`")
        else:
            marked = re.sub(r"([\\|])|(?<=\w)_(?!\w)", r"\\\g<0>", piece)
            stars = re.sub(r"\*", r"\\*", _EMPHASIS.sub("\0\\1\0", marked)).replace("\0", "*")
            pieces.append(linked(stars, ":eq:`{}`", "\\ "))
    return "".join(pieces)


def describe(lines, names):
    """Return docstring lines as reStructuredText; `names` are the parameters and fields that may be described."""
    item = re.compile(r"(\w+(?:, \w+)*): (.*)")
    out = []
    in_item = False
    for line in lines:
        match = item.fullmatch(line)
        if match and set(match[1].split(", ")) <= names:
            if not in_item:
                out.append("")
            out.append("- " + ", ".join(f"**{name}**" for name in match[1].split(", ")) + ": " + prose(match[2]))
            in_item = True
        elif in_item and line and not re.match(r"(Returns?|Raises|Yields)\b", line):
            out.append("  " + prose(line.strip()))
        else:
            if in_item and line:
                out.append("")
            in_item = False
            out.append(prose(line))
    return out


def names_of(what, item):
    """Return the parameters of a function, or the parameters and fields of a class."""
    names = set(getattr(item, "__annotations__", ()))
    if what in ("function", "method", "class", "exception"):
        names |= set(inspect.signature(item).parameters)
    return names


def describe_docstring(app, what, name, item, options, lines):
    # Only the object's own words: a docstring that a named tuple makes for its fields says nothing.
    generated = [line for line in lines if line.startswith("Alias for field number")]
    lines[:] = [] if generated else describe(lines, names_of(what, item))


def written_signature(app, what, name, item, options, signature, returned):
    """Show a signature as it is written, with names of types such as `ArrayLike`, and shapes plainly.

    A class that is built by its constructors, not by its private fields, is shown without arguments.
    """
    function = item.__init__ if what == "class" else item
    if what == "class" and re.search(r"\b_\w+:", signature or ""):
        return "", None
    if hasattr(function, "__code__") and Path(function.__code__.co_filename).is_file():
        node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        for argument in (*node.args.args, *node.args.kwonlyargs):
            argument.annotation = _unquoted(argument.annotation)
        node.args.args = [argument for argument in node.args.args if argument.arg not in ("self", "cls")]
        signature = f"({ast.unparse(node.args)})"
        returned = ast.unparse(_unquoted(node.returns)) if node.returns and what != "class" else None
    return tuple(text and _ARRAY.sub(r"Array['\1']", text) for text in (signature, returned))


def _unquoted(annotation):
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation


def setup(app):
    app.connect("autodoc-process-docstring", describe_docstring)
    app.connect("autodoc-process-signature", written_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
