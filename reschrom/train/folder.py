"""The folder of a training run: one run in it at a time, and nothing half-written in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What runs write under temporary names, which `replacing` makes; those of a run that was killed stay behind.
_HALF_WRITTEN = (".pictures.*", ".log.*", ".pipeline.*", "checkpoints/.step-*", "samples/.step-*")


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Keep other runs out of a folder during the block, and make the folder if it is not there.

    The claim is a lock of the operating system and ends with its process, however that ends. What a run that was killed
    left half-written is removed first. A folder that was made here does not stay when nothing was put into it.
    Raises BlockingIOError when another run is at work there, and OSError where there can be no folder.
    """
    from filelock import FileLock, Timeout

    path = out / ".lock"
    lock = FileLock(path, blocking=False)
    made: list[Path] = []
    try:
        try:
            made += [folder for folder in (out, *out.parents) if not folder.exists()]
            out.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise BlockingIOError(
                f"another training is at work in {out}: wait for its end, or choose another folder"
            ) from error
        except OSError as error:
            said = error.strerror or error
            raise type(error)(f"{out} cannot be the folder of a training ({said}): choose another") from error
        try:
            for pattern in _HALF_WRITTEN:
                for left in out.glob(pattern):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield
        finally:
            path.unlink(missing_ok=True)  # while the lock is held: afterwards it might be that of another run
            lock.release()
    finally:
        for folder in made:
            with suppress(OSError):  # it holds something, or was never made
                folder.rmdir()
