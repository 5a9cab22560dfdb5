"""Show the paper's own numbers: `$$...$$ (eq:18)` is Eq. (18) on every page, and figures carry no counter.

The number is the label's, so it cannot drift; a label used twice is a warning, which fails the build.
"""

from docutils import nodes


def number_equations(app, doctree):
    """Give each equation labelled `eq:N` the number N, wherever it stands."""
    domain = app.env.get_domain("math")
    for node in doctree.findall(nodes.math_block):
        label = node.get("label") or ""
        if label.startswith("eq:"):
            node["number"] = label.removeprefix("eq:")
            domain.equations[label] = (app.env.docname, node["number"])


def unnumber_figures(app):
    """Leave figures uncounted: their captions name the paper's figure in words."""
    app.env.get_domain("std").enumerable_nodes.pop(nodes.figure, None)


def setup(app):
    app.connect("doctree-read", number_equations)
    app.connect("builder-inited", unnumber_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
