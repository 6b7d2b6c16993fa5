from __future__ import annotations

import asyncio
import threading

import pytest

from fastserve_runtime.serving.refusal import Refusal
from fastserve_runtime.serving.work_queue import Ending, WorkQueue


async def collected(job):
    return [item async for item in job.results()]


def with_queue(scenario, waiting=2):
    async def run():
        queue = WorkQueue(waiting)
        try:
            return await asyncio.wait_for(scenario(queue), 10)
        finally:
            queue.close()

    return asyncio.run(run())


def test_results_come_in_order_from_another_thread() -> None:
    async def scenario(queue):
        jobs = [queue.submit(lambda _, n=n: iter([n, threading.current_thread()])) for n in range(3)]
        return [await collected(job) for job in jobs]

    results = with_queue(scenario)
    assert [number for number, _ in results] == [0, 1, 2]
    assert {thread for _, thread in results} - {threading.current_thread()} == {results[0][1]}


def test_an_error_comes_behind_the_results_before_it() -> None:
    def work(_):
        yield 1
        raise KeyError("oh")

    async def scenario(queue):
        results = queue.submit(work).results()
        seen = [await anext(results)]
        with pytest.raises(KeyError, match="oh"):
            await anext(results)
        return seen

    assert with_queue(scenario) == [1]


def test_so_many_wait_and_no_more() -> None:
    async def scenario(queue):
        go = threading.Event()

        def work(_):
            go.wait(5)
            yield 1

        jobs = [queue.submit(work) for _ in range(3)]
        with pytest.raises(Refusal) as refused:
            queue.submit(work)
        assert refused.value.status == 429
        jobs[1].end(Ending.CLIENT_GONE)
        assert await collected(jobs[1]) == []
        await asyncio.sleep(0)
        jobs.append(queue.submit(work))
        go.set()
        return [await collected(job) for job in (jobs[0], jobs[2], jobs[3])], queue.unfinished

    assert with_queue(scenario) == ([[1], [1], [1]], 0)


def test_work_is_ended_when_it_asks_and_what_it_gave_stays() -> None:
    async def scenario(queue):
        def work(is_ended):
            count = 0
            while not is_ended():
                yield (count := count + 1)
            yield "last"

        job = queue.submit(work)
        seen = []
        async for item in job.results():
            seen.append(item)
            if item == 5:
                job.end(Ending.TIME_LIMIT)
                job.end(Ending.CLIENT_GONE)
        return seen, job.ending

    seen, ending = with_queue(scenario)
    assert seen[:5] == [1, 2, 3, 4, 5]
    assert seen[-1] == "last"
    assert ending is Ending.TIME_LIMIT


def test_nobody_waits_for_work_that_has_nothing_yet_and_the_next_waits_for_its_end() -> None:
    async def scenario(queue):
        go = threading.Event()
        first = queue.submit(lambda _: iter([go.wait(5)]))
        await asyncio.sleep(0.05)
        first.end(Ending.TIME_LIMIT)
        assert await collected(first) == []
        assert queue.unfinished == 1
        second = queue.submit(lambda _: iter([2]))
        go.set()
        return await collected(second)

    assert with_queue(scenario) == [2]


def test_a_stopped_queue_ends_all_and_takes_nothing() -> None:
    async def scenario(queue):
        started = threading.Event()

        def work(is_ended):
            started.set()
            while not is_ended():
                pass
            yield from ()

        jobs = [queue.submit(work), queue.submit(lambda _: iter([1]))]
        await asyncio.to_thread(started.wait)
        queue.stop()
        assert [await collected(job) for job in jobs] == [[], []]
        with pytest.raises(Refusal) as refused:
            queue.submit(work)
        return refused.value.status, {job.ending for job in jobs}

    assert with_queue(scenario) == (503, {Ending.SHUTDOWN})


def test_work_outlives_the_loop_without_harm() -> None:
    go = threading.Event()

    def work(_):
        go.wait(5)
        yield 1

    async def run():
        queue = WorkQueue(0)
        queue.submit(work)
        await asyncio.sleep(0.02)
        return queue

    queue = asyncio.run(run())
    go.set()
    queue.close()
