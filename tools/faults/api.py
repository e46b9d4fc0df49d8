"""The client-server API as a client calls it, and what became of each call."""

import http.client
import json
import socket
import threading
import time
from urllib.parse import quote


class Failure(Exception):
    """No answer, or one that says that the server failed: `status` is 0 or 5xx."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Refused(Exception):
    """The server said no: 4xx."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


class Tally:
    """How often requests failed, and how."""

    def __init__(self):
        self.lock = threading.Lock()
        self.made = 0
        self.failed = {}

    def count(self, how=None):
        """Counts one request."""
        with self.lock:
            self.made += 1
            if how is not None:
                self.failed[how] = self.failed.get(how, 0) + 1


class Connection:
    """A connection of one thread to one server."""

    def __init__(self, address, token, tally=None):
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        self.token = token
        self.tally = tally or Tally()
        self.http = None

    def call(self, method, path, body=None, timeout=30):
        """One request; gives the answer's JSON."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        data = None if body is None else json.dumps(body).encode()
        try:
            if self.http is None:
                self.http = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
                self.http.connect()
                self.http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.http.sock.settimeout(timeout)
            self.http.request(method, path, data, headers)
            answer = self.http.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            self.tally.count(type(error).__name__)
            raise Failure(0, f"{type(error).__name__}: {error}") from None
        if answer.will_close:
            self.close()
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = {"errcode": "no JSON", "error": text[:200].decode(errors="replace")}
        if answer.status == 200:
            self.tally.count()
            return parsed
        self.tally.count(f"{answer.status} {parsed.get('errcode')}")
        if answer.status >= 500 or answer.status == 429:
            raise Failure(answer.status, str(parsed))
        raise Refused(answer.status, parsed)

    def close(self):
        """The next call connects anew."""
        if self.http is not None:
            self.http.close()
            self.http = None


def patiently(call, until, pause=0.25):
    """Repeats a call that may fail until it is answered; `until` says when to give up."""
    while True:
        try:
            return call()
        except Failure:
            if until():
                raise
            time.sleep(pause)


def segment(text):
    """A part of a path."""
    return quote(text, safe="")
