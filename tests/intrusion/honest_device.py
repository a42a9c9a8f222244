"""An honest device, which must lose nothing whatever the intruders do."""

import threading
import time

from demo.program import await_true
from demo.stack import DEVICE, Stack
from tests.builders import Peer, make_face, make_jpeg
from wire import face, topics
from wire.face import Face

OWN_PREFIX = f"faces/device={DEVICE}/camera=door/date="
RESEND_SECONDS = 5.0
"""Time after which a face without a receipt is published again, as the outbox does.

A flood may push a face out of the broker's queue.
"""


class HonestDevice:
    """A device that publishes faces continuously, and publishes a face again if its receipt is overdue."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.sent: list[str] = []
        self.peer = Peer(stack.local_port, topics.receipts("door"))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "HonestDevice":
        self.peer.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stopping.set()
        self._thread.join()
        self.peer.__exit__()

    @property
    def receipted(self) -> list[str]:
        """The ids confirmed by a receipt, in order of arrival."""
        return [(message.properties.correlation_data or b"").decode() for message in list(self.peer.messages)]

    def await_progress(self, count: int = 3) -> None:
        """Wait until ``count`` more receipts have arrived."""
        before = len(self.receipted)
        await_true(lambda: len(self.receipted) >= before + count, 20, "the honest device receives receipts")

    def await_nothing_lost(self) -> None:
        """Wait until each face has a receipt. Check that each is stored once, and that the forwarder stayed."""
        sent = list(self.sent)
        await_true(lambda: set(sent) <= set(self.receipted), 30, "every face has a receipt")
        keys = self.stack.keys()
        stored = [key.removesuffix(".jpg")[-36:] for key in keys if key.startswith(OWN_PREFIX)]
        assert len(stored) == len(set(stored))
        assert set(sent) <= set(stored) <= set(self.sent)
        assert [key for key in keys if DEVICE in key and not key.startswith(OWN_PREFIX)] == []
        assert "no connection" not in self.stack.programs["forwarder"].output()

    def _work(self) -> None:
        jpeg = make_jpeg()
        due: dict[str, tuple[float, Face]] = {}
        while not self._stopping.wait(0.05):
            seen, now = make_face(jpeg=jpeg), time.monotonic()
            self.sent.append(seen.id)
            due[seen.id] = now, seen
            for face_id in self.receipted:
                due.pop(face_id, None)
            for face_id, (at, one) in list(due.items()):
                if one is seen or now - at > RESEND_SECONDS:
                    self.peer.session.publish(topics.faces("door"), jpeg, qos=1, properties=face.encode(one))
                    due[face_id] = now, one
