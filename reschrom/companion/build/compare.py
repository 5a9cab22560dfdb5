"""Whether notebooks still give what their records hold: every number, word and table, and a figure where one was."""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Lines of a drawing and pixels of a picture differ in the last digit between processors, so only their presence counts.
# What figures show is guarded by the numbers that are printed beside them and by the assertions in their cells.
PICTURES = ("image/svg+xml", "image/png")


def differences(record: Path, executed: Path) -> Iterator[str]:
    """Yield the lines that say how an executed notebook differs from its record, cell by cell; none where it agrees."""
    if not record.is_file():
        yield f"{record}: there is no record"
        return
    kept, new = _code_cells(record), _code_cells(executed)
    if len(kept) != len(new):
        yield f"{record}: the record has {len(kept)} code cells and its source {len(new)}"
    for number, (before, after) in enumerate(zip(kept, new, strict=False), start=1):
        if before != after:
            yield f"{record}: code cell {number} gives something else than its record holds"
            yield from list(difflib.unified_diff(before, after, n=2, lineterm=""))[2:]


def _code_cells(path: Path) -> list[list[str]]:
    """Return each code cell as lines, one for each line of its output; the file is one of `notebook.to_bytes`."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [_lines(cell) for cell in cells if cell["cell_type"] == "code"]


def _lines(cell: dict[str, Any]) -> list[str]:
    for output in cell["outputs"]:
        data = output.get("data", {})
        data.update((kind, "a picture") for kind in PICTURES if kind in data)
    return json.dumps(cell, indent=1, ensure_ascii=False).splitlines()
