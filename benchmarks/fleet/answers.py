"""``python -m benchmarks.fleet.answers PORT FOLDER``: a client that answers each face with a receipt, without S3.

It has the sink's rights. It is the least that any sink has to do: so it shows what the broker alone sustains.
"""

import socket
import sys
from pathlib import Path

from demo.ports import HOST
from tests import packets
from wire import receipt, topics
from wire.mqtt.incoming import Incoming
from wire.mqtt.properties import unpack
from wire.mqtt.tls import TlsFiles

_RECEIVE_MAXIMUM = b"\x21\x27\x10"
"""10,000 unacknowledged messages, as the sink asks for."""
CLIENT_ID = "facewire-s3sink"


def answer(port: int, files: Path) -> None:
    """Answer until the broker ends the connection."""
    context = TlsFiles(files / "ca.pem", files / "cert.pem", files / "key.pem").context()
    with context.wrap_socket(socket.create_connection((HOST, port)), server_hostname=HOST) as broker:
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        broker.sendall(packets.connect(CLIENT_ID, keepalive=0, properties=_RECEIVE_MAXIMUM))
        broker.sendall(packets.subscribe([topics.ALL_DEVICES_FACES]))
        incoming, packet_id = Incoming(), 0
        while True:
            incoming.receive(broker.recv_into)
            answers = bytearray()
            for first, body in incoming.packets():
                if first & 0xF0 == packets.SUBACK:
                    print("subscribed", flush=True)
                if first & 0xF0 != packets.PUBLISH:
                    continue
                end = 2 + int.from_bytes(body[:2])
                properties, _ = unpack(body, end + 2)
                packet_id = packet_id % 65535 + 1
                answer = receipt.encode(properties.correlation_data or b"").pack()
                head = packets.text(topics.receipts_for(body[2:end].decode()).encode()) + packet_id.to_bytes(2)
                answers += packets.packet(packets.PUBLISH | 2, head + answer)
                answers += packets.packet(packets.PUBACK, body[end : end + 2])
            if answers:
                broker.sendall(answers)


if __name__ == "__main__":
    answer(int(sys.argv[1]), Path(sys.argv[2]))
