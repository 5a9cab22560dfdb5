"""Show the rendered book on this machine."""

import functools
import http.server
from pathlib import Path


def server(html: Path) -> http.server.ThreadingHTTPServer:
    """Return a server of the pages in `html` on a free port, for this machine alone.

    Raises FileNotFoundError when there is no book to show.
    """
    if not (html / "index.html").is_file():
        raise FileNotFoundError(f"there is no book in {html}; `make book` makes it")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=html)
    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)


def serve(html: Path) -> int:
    """Print the address of the book and serve it until the reader interrupts."""
    with server(html) as pages:
        print(f"http://127.0.0.1:{pages.server_port}/  (Ctrl+C ends it)", flush=True)
        try:
            pages.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0
