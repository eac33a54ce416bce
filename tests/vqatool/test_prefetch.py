import threading
import time
from collections.abc import Iterator

import pytest

from vqatool.prefetch import prefetch


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_in_the_order_of_their_items(threads: int) -> None:
    last_at_once = threading.Event()

    def first_is_last(item: int) -> int:
        if item == threads - 1:
            last_at_once.set()
        assert item or last_at_once.wait(60)
        return item * item

    results = list(prefetch(first_is_last, range(20), threads=threads))
    assert results == [i * i for i in range(20)]


def test_the_next_results_are_computed_while_the_caller_works() -> None:
    taken: list[int] = []
    third = threading.Event()

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    def make(item: int) -> int:
        if item == 2:
            third.set()
        return item

    stream = prefetch(make, items())
    assert next(stream) == 0
    assert third.wait(60)
    assert taken == [0, 1, 2], "it computes too far in advance"
    stream.close()


def test_results_do_not_wait_for_items_that_come_slowly() -> None:
    given: list[int] = []
    computed = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert computed.wait(60)
        for item in range(1, 9):
            time.sleep(0.01)
            yield item
            if given:
                break

    def make(item: int) -> int:
        computed.set()
        return item

    for result in prefetch(make, items(), threads=16, holds_back=False):
        given.append(result)
    assert len(given) < 9


def test_a_failure_is_raised_where_its_result_is_due() -> None:
    stream = prefetch(lambda item: 1 / item, [2, 0, 1])
    assert next(stream) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_the_threads_end_with_the_generator() -> None:
    stream = prefetch(str, range(100))
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
