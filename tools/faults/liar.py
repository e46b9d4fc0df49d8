"""A server that answers slowly, wrongly, hugely or never, with the name and certificate of an honest one.

    liar.py MODE BIND CERTIFICATE KEY NAME SIGNING-KEY ROOM OTHERS
"""

import random
import socket
import ssl
import sys
import threading
import time

from provoke import provoke

WRONG = [
    (500, b'{"errcode": "M_UNKNOWN", "error": "no"}'), (502, b"<html>bad gateway</html>"), (404, b"{}"),
    (200, b"<html>hello</html>"), (200, b""), (200, b"[]"), (200, b"null"), (200, b'{"pdus": 5}'),
    (200, b'{"pdus": [], "pdu_ids": {}, "auth_chain": "x", "events": 7, "server_keys": 1}'),
    (200, b'{"device_keys": {"a": 1}, "one_time_keys": [1]}'), (200, b"\xff\xfe\x00garbage" * 100),
    (200, b'{"a":' * 50_000), (302, b""), (400, b'{"errcode": "M_FORBIDDEN"}'), (401, b'{"errcode": "M_UNAUTHORIZED"}'),
    (403, b'{"errcode": "M_FORBIDDEN", "error": "' + b"x" * 100_000 + b'"}'), (429, b'{"errcode": "M_LIMIT_EXCEEDED"}'),
]
WRONG_KEYS = (b'{"server_name": "%s", "valid_until_ts": 99999999999999, "old_verify_keys": {}, "verify_keys": '
              b'{"ed25519:x": {"key": "' + b"A" * 43 + b'"}}, "signatures": {"%s": {"ed25519:x": "' + b"A" * 86 + b'"}}}')


def read_request(stream):
    """Head and body of a request; gives its path, or nothing when there is none."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = stream.recv(65536)
        if not data:
            return None
        head += data
    head, rest = head.split(b"\r\n\r\n", 1)
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(rest) < length:
        data = stream.recv(65536)
        if not data:
            return None
        rest += data
    return head.split(b" ", 2)[1].decode()


def answer(stream, status, body):
    """A whole answer."""
    stream.sendall(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
    stream.sendall(body)


def slow(stream, _path, _name):
    """A byte a second."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    for byte in b'{"pdus": {' + b" " * 99_990:
        stream.sendall(bytes([byte]))
        time.sleep(1)


def wrong(stream, path, name):
    """Anything but what was asked for."""
    if "/key/" in path and random.random() < 0.5:
        answer(stream, 200, WRONG_KEYS % (name.encode(), name.encode()))
    else:
        answer(stream, *random.choice(WRONG))


def huge(stream, path, _name):
    """Four gigabytes, as fast as they are taken; once as one text, once as many small values."""
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = random.choice([b"a" * (1 << 20), b'{"a":[]},' * (1 << 17)])
    start = b'{"pdus": [' if piece[0:1] == b"{" else b'{"pdus": {"$'
    stream.sendall(b"%x\r\n%s\r\n" % (len(start), start))
    for _ in range(4096):
        stream.sendall(b"%x\r\n" % len(piece))
        stream.sendall(piece)
        stream.sendall(b"\r\n")


def never(_stream, _path, _name):
    """Nothing, for long."""
    time.sleep(3600)


MODES = {"slow": slow, "wrong": wrong, "huge": huge, "never": never}


def serve(raw, context, mode, name):
    """One connection."""
    with raw:
        if mode == "never" and random.random() < 0.5:
            time.sleep(3600)
        try:
            raw.settimeout(600)
            with context.wrap_socket(raw, server_side=True) as stream:
                while (path := read_request(stream)) is not None:
                    print(f"{time.time():.2f} {path}", flush=True)
                    MODES[mode](stream, path, name)
        except (OSError, ValueError):
            pass


def main():
    """Listens until it is killed."""
    mode, bind, certificate, key, name, signing_key, room, others = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    host, port = bind.rsplit(":", 1)
    listener = socket.create_server((host, int(port)), backlog=64)
    for other in others.split(","):
        threading.Thread(target=provoke, args=(name, signing_key, room, other), daemon=True).start()
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=serve, args=(raw, context, mode, name), daemon=True).start()


if __name__ == "__main__":
    main()
