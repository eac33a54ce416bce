"""Work done in background threads before its result is needed, so that the caller seldom waits."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int = 1,
    holds_back: bool = True,
) -> Generator[Result, None, None]:
    """`map(function, items)`, in order, with up to `threads` + 1 results computed in advance.

    Close the generator to end its threads.

    Args:
        function: its result must depend on its item alone. An exception it raises is raised where
            its result is due.
        items: taken one by one, in the calling thread.
        threads: threads that compute at once.
        holds_back: give a result only once enough of the next ones are on their way, so that they
            are there when the caller has done its work; else as soon as it is known and the next
            item is there, for items that come slowly.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    try:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            while len(pending) > threads + 1 or (not holds_back and pending and pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
