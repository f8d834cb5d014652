"""Dispatch widget messages while a cell runs, in ipykernel 6 and 7 (tested with 6.17, 6.31 and 7.4).

Knows kernels and their queues; nothing about jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any


@contextlib.asynccontextmanager
async def process_widget_events() -> AsyncIterator[Callable[[], Any]]:
    """Yields a function to await repeatedly: for about 10 ms the kernel handles widget messages and nothing else."""
    kernel = _kernel()
    if kernel is None:
        yield _short_sleep
    elif hasattr(kernel, "msg_queue"):
        yield lambda: _dispatch_widget_messages(kernel)
    else:
        handlers = kernel.shell_handlers
        handle = handlers["comm_msg"]

        def handle_and_answer(stream: Any, ident: Any, message: Any) -> Any:
            try:
                return handle(stream, ident, message)
            finally:  # ipykernel 7.4 sends no status here, and the front end waits for it before the next change
                kernel._publish_status("idle", "shell", parent=message)

        handlers["comm_msg"] = handle_and_answer
        try:
            yield _short_sleep
        finally:
            handlers["comm_msg"] = handle


def _kernel() -> Any:
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None)


async def _short_sleep() -> None:
    await asyncio.sleep(0.01)


async def _dispatch_widget_messages(kernel: Any) -> None:
    """Dispatch the widget messages that wait behind this cell, for ipykernel 6; the next cells keep waiting."""
    queued = []
    while not kernel.msg_queue.empty():
        queued.append(kernel.msg_queue.get_nowait())
    widget_messages = []
    for item in queued:
        _, frames = kernel.session.feed_identities(item[2][0], copy=False)
        kind = kernel.session.unpack(frames[1].bytes)["msg_type"]
        if kind.startswith("comm_"):
            widget_messages.append(item)
        else:
            kernel.msg_queue.put_nowait(item)
    parent, ident = kernel._parents.get("shell"), kernel._parent_ident.get("shell")
    handler = getattr(kernel, "saved_sigint_handler", None)
    try:
        for _, dispatch, args in widget_messages:
            await dispatch(*args)
    finally:
        if widget_messages:
            kernel.set_parent(ident, parent)
            kernel.saved_sigint_handler = handler
    await asyncio.sleep(0.01)
