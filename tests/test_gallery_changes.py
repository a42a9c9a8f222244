"""The feed of changes: nothing is missed, and a reader that cannot catch up is told so."""

import asyncio
import threading
from collections.abc import AsyncIterator

from cloud.gallery.changes import MAX_CHANGES, Change, Changes


def publish(changes: Changes, count: int) -> None:
    for n in range(count):
        changes.publish("face", {"n": n})


async def take(feed: AsyncIterator[Change], count: int) -> list[Change]:
    return [await asyncio.wait_for(anext(feed), 10) for _ in range(count)]


def test_a_reader_receives_what_threads_publish_in_order():
    async def run() -> list[Change]:
        changes = Changes()
        feed = changes.since(changes.last_id)
        first = asyncio.ensure_future(take(feed, 50))
        thread = threading.Thread(target=publish, args=(changes, 50))
        thread.start()
        return await first

    assert [change.data["n"] for change in asyncio.run(run())] == list(range(50))


def test_a_reader_catches_up_from_the_id_that_it_has():
    async def run() -> list[Change]:
        changes = Changes()
        publish(changes, 5)
        start = changes.last_id.partition("-")[0]
        return await take(changes.since(f"{start}-3"), 2)

    assert [change.data["n"] for change in asyncio.run(run())] == [3, 4]


def test_a_reader_is_reset_when_its_id_is_too_old_or_unknown():
    async def run() -> list[str]:
        changes = Changes()
        start = changes.last_id.partition("-")[0]
        publish(changes, MAX_CHANGES + 1)
        kinds = []
        for last in (f"{start}-0", "0-5", f"{start}-999999", f"{start}-x", "", f"{start}-²"):
            reset, after = None, changes.since(last)
            [reset] = await take(after, 1)
            changes.publish("state", {})
            kinds += [reset.kind, (await take(after, 1))[0].kind]
        return kinds

    assert asyncio.run(run()) == ["reset", "state"] * 6


def test_close_ends_every_reader():
    async def run() -> int:
        changes = Changes()

        async def read() -> None:
            async for _ in changes.since(None):
                pass

        readers = [asyncio.ensure_future(read()) for _ in range(3)]
        await asyncio.sleep(0)  # each reader runs until it waits
        assert changes.readers == 3
        changes.close()
        await asyncio.wait_for(asyncio.gather(*readers), 10)
        return changes.readers

    assert asyncio.run(run()) == 0
