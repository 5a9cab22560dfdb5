"""Notebook sources (MyST text) and their executed form, with the same bytes every time."""

import json
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

from reschrom.companion.parameters import assigned

KEPT_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
}


def read_source(path: Path) -> NotebookNode:
    """Return the notebook that a MyST text holds, its cells named by their position."""
    notebook = jupytext.read(path)
    _name_parts(notebook)
    return notebook


def code_cells(notebook: NotebookNode) -> list[str]:
    """Return the source of each code cell."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def declared_parameters(notebook: NotebookNode) -> dict[str, Any]:
    """Return the parameters that a notebook declares, with their defaults: the cell tagged `parameters`.

    Raises ValueError when a line of that cell is not of the form `name = literal`.
    """
    tagged = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return {name: value for cell in tagged for name, value in assigned(cell.source).items()}


def normalise(notebook: NotebookNode, root: Path) -> NotebookNode:
    """Remove what differs between two runs or two machines: times, random ids, paths, how text was cut into pieces.

    The cell that holds overridden parameters gets the tag `remove-input`: pages do not show it.
    """
    _name_parts(notebook)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags = ["injected-parameters", "remove-input"]
        if cell.metadata.get("tags") == []:
            del cell.metadata["tags"]
        if cell.cell_type == "code":
            cell.outputs = [_without_paths(output, root) for output in _joined(cell.outputs)]
    return notebook


def to_bytes(notebook: NotebookNode) -> bytes:
    """Return the file that holds the notebook, with sorted keys and a final newline."""
    text = nbformat.writes(notebook)
    return json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _name_parts(notebook: NotebookNode) -> None:
    notebook.metadata = nbformat.from_dict(KEPT_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5  # the first that has cell ids
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:03d}"


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join text that arrived in several pieces."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == "stream" == last.output_type and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _without_paths(output: NotebookNode, root: Path) -> NotebookNode:
    if output.output_type == "stream":
        output.text = output.text.replace(f"{root}/", "")
    return output
