import threading
import time

import pytest

from vqatool.training.prefetch import prefetch


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_in_the_order_of_their_items(threads: int) -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 * (item < 3))
        return item * item

    results = list(prefetch(slow_at_first, range(20), threads=threads))
    assert results == [i * i for i in range(20)]


def test_the_next_results_are_computed_while_the_caller_works() -> None:
    computed: list[int] = []
    third = threading.Event()

    def make(item: int) -> int:
        computed.append(item)
        if item == 2:
            third.set()
        return item

    stream = prefetch(make, range(100))
    assert next(stream) == 0
    assert third.wait(5)
    stream.close()
    assert len(computed) <= 4, "it computes too far in advance"


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
