"""Work done ahead in the background, so that who needs it seldom waits."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


Made = TypeVar("Made")


def prefetch(
    make: Callable[[Item], Made], items: Iterable[Item], *, threads: int = 1
) -> Generator[Made, None, None]:
    """`map(make, items)`, in its order, with up to `threads` + 1 results made before their time.

    `make` has to depend on its item alone; an exception of it is raised where its result is due.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        made: deque[Future[Made]] = deque()
        for item in items:
            made.append(pool.submit(make, item))
            if len(made) > threads + 1:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
