"""Build the book: `python -m reschrom.companion build|preview|record|check|serve`."""

import argparse
import os
import sys

from reschrom.companion.build.graph import HTML, build, check, preview, record
from reschrom.companion.build.serve import serve


def main(arguments: list[str] | None = None) -> int:
    """Build, preview, record or show the book from the command line; return 0 when it succeeds."""
    parser = argparse.ArgumentParser(
        prog="python -m reschrom.companion", description="Build the book of this checkout."
    )
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="notebooks to run side by side")
    tasks = parser.add_subparsers(dest="task", required=True)
    one = tasks.add_parser("build", help="run the notebooks and render the book into _build/html")
    one.add_argument("--profile", default="cpu", help="parameters of the run, profiles/PROFILE.yaml")
    tasks.add_parser("preview", help="render the book from the committed records into _build/preview/html")
    tasks.add_parser("record", help="run the notebooks and renew the records beside their sources")
    tasks.add_parser("check", help="run the notebooks and compare them with their records")
    tasks.add_parser("serve", help="show the book on this machine")
    options = parser.parse_args(arguments)
    try:
        if options.task == "build":
            return build(options.profile, options.cores)
        if options.task == "serve":
            return serve(HTML)
        return {"preview": preview, "record": record, "check": check}[options.task](options.cores)
    except (FileNotFoundError, PermissionError, ValueError) as error:
        print(f"nothing was made: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
