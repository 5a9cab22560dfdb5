"""Tasks that processes share: each reads pictures of its own, and what they make comes in the order of the tasks."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeVar, runtime_checkable

from reschrom.images.sources import opened

T = TypeVar("T", covariant=True)


@runtime_checkable
class Task(Protocol[T]):
    """What a process makes of some pictures of a source."""

    def done(self, read: Callable[[str], bytes], source: str, each: Callable[..., Any]) -> T: ...


def spread(source: str, each: Callable[..., Any], tasks: Sequence[Task[T]], workers: int) -> Iterator[T]:
    """Yield what processes make of the tasks, in their order: they take turns, and are one task ahead at most.

    Not an executor: its processes outlive a parent that is killed, and when it is left they do all that waits first.
    """
    # A process of its own from the start: a fork of one with threads may hang.
    fresh = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # its start would let Ctrl-C reach the first process
    with contextlib.ExitStack() as stack:
        lines = []
        for number in range(workers):
            here, there = fresh.Pipe(duplex=False)
            process = fresh.Process(target=_work, args=(there, source, each, tasks[number::workers]), daemon=True)
            with _uninterrupted():
                process.start()
            there.close()
            for ending in (here.close, process.join, process.terminate):  # of which the last comes first
                stack.callback(ending)
            lines.append(here)
        early: dict[Connection, Any] = {}  # taken from a process before its turn, so that it goes on meanwhile
        for number in range(len(tasks)):
            turn = lines[number % workers]
            while turn not in early:
                waiting = [line for line in lines if line not in early]
                ready = wait(waiting)
                early |= {line: _received(line) for line in waiting if line in ready}
            done = early.pop(turn)
            if isinstance(done, Exception):
                raise done
            yield done


def _received(line: Connection) -> Any:
    """Return what a process made, or the error that it met."""
    try:
        return line.recv()
    except (EOFError, OSError):
        return ChildProcessError(
            "a process that reads pictures was ended from outside, perhaps for want of memory: fewer workers need less"
        )


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the one that started them ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(line: Connection, source: str, each: Callable[..., Any], tasks: Sequence[Task[Any]]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with opened(source) as (read, _):
            for task in tasks:
                line.send(task.done(read, source, each))
    except Exception as error:  # to be raised where the pictures are asked for, if anybody still asks
        with contextlib.suppress(BrokenPipeError):
            line.send(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # a thread cannot end its process otherwise
