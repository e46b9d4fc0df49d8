"""What clients did, what was acknowledged to them, and what they saw."""

import threading
import time


class Sent:
    """An event that a client wants to send, however often it has to ask."""

    def __init__(self, name, server, room, kind):
        self.name, self.server, self.room, self.kind = name, server, room, kind
        self.began = time.monotonic()
        self.event_id = None


class Ledger:
    """Shared by all clients' threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.events = {}  # name -> Sent
        self.messages = {}  # id of a to-device message -> [sender's server, receiver, acknowledged]
        self.refused = []
        self.claimed = []  # (user, device, key id, who claimed)
        self.unanswered_claims = 0
        self.exhausted_claims = 0
        self.device_changes = {}  # user -> when it last changed devices
        self.latencies = []  # (when, server, seconds, succeeded)
        self.delays = []  # (when sent, from, to, seconds)

    def event(self, sent):
        """An event is about to be sent."""
        with self.lock:
            self.events[sent.name] = sent

    def latency(self, server, seconds, succeeded):
        """One request to send an event into a room took so long."""
        with self.lock:
            self.latencies.append((time.monotonic() - seconds, server, seconds, succeeded))

    def seen(self, name, by):
        """A client of a server saw an event by this name."""
        now = time.monotonic()
        with self.lock:
            sent = self.events.get(name)
            if sent is not None and sent.server != by:
                self.delays.append((sent.began, sent.server, by, now - sent.began))

    def acknowledged(self):
        """The events that servers acknowledged."""
        with self.lock:
            return [sent for sent in self.events.values() if sent.event_id is not None]

    def times(self, since, until, server=None):
        """How long the successful sends of a time took, sorted."""
        with self.lock:
            return sorted(seconds for when, at, seconds, ok in self.latencies
                          if ok and since <= when < until and server in (None, at))

    def delays_between(self, since, until, servers):
        """How long events of these servers took to come to others of them, sorted."""
        with self.lock:
            return sorted(seconds for when, a, b, seconds in self.delays
                          if since <= when < until and a in servers and b in servers)


def percentile(values, part):
    """A percentile of sorted values, or nothing."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else None
