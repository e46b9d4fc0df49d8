"""Users of the servers: their rooms, what they do all the time, and what comes down their /sync.

A talker sends messages, changes state, sends to-device messages, claims keys and comes with new devices; a wanderer
leaves rooms and comes back. Whoever gets no answer asks again with the same transaction id, as clients do. Each user
has a listener that reads /sync and fills up one-time keys.
"""

import json
import random
import threading
import time

from api import Connection, Failure, Refused, Tally, patiently, segment
from ledger import Sent

KEYS = 20
PASSWORD = "a long password"
ACTIONS = [("message", 60), ("name", 5), ("topic", 5), ("levels", 3), ("to_device", 15), ("claim", 8), ("device", 2)]


class User:
    """A user with one device that stays, and perhaps others that come and go."""

    def __init__(self, world, server, name):
        self.world, self.server, self.name = world, server, name
        self.tally = Tally()
        connection = Connection(server.place.client, None, self.tally)
        answer = connection.call("POST", "/_matrix/client/v3/register", {
            "username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}})
        self.id, self.device, self.token = answer["user_id"], answer["device_id"], answer["access_token"]
        self.since = None
        self.received = []  # ids of to-device messages, in the order in which they came
        self.changed = {}  # user -> when /sync last said that the devices changed
        self.keys = 0
        self.key_number = 0
        self.joined = set()
        self.upload(connection, self.device)

    def connection(self):
        """For one thread."""
        return Connection(self.server.place.client, self.token, self.tally)

    def upload(self, connection, device, token=None):
        """Publishes a device's keys."""
        connection.token = token or self.token
        key = lambda: "".join(random.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789", k=43))
        connection.call("POST", "/_matrix/client/v3/keys/upload", {"device_keys": {
            "user_id": self.id, "device_id": device, "algorithms": ["m.megolm.v1.aes-sha2"],
            "keys": {f"ed25519:{device}": key(), f"curve25519:{device}": key()},
            "signatures": {self.id: {f"ed25519:{device}": key() * 2}}}})

    def fill_up(self, connection, count):
        """Uploads one-time keys until there are enough."""
        keys = {}
        for _ in range(max(0, KEYS - count)):
            self.key_number += 1
            text = f"{self.name}{self.key_number}".rjust(43, "A").replace("_", "A")
            keys[f"signed_curve25519:{self.name}{self.key_number}"] = {
                "key": text, "signatures": {self.id: {f"ed25519:{self.device}": "A" * 86}}}
        if keys:
            connection.call("POST", "/_matrix/client/v3/keys/upload", {"one_time_keys": keys})

    def listen(self, connection, wait):
        """One /sync; what its answer holds has come once the answer is here."""
        since = f"&since={self.since}" if self.since else ""
        answer = connection.call("GET", f"/_matrix/client/v3/sync?timeout={wait}{since}", timeout=wait / 1000 + 30)
        self.since = answer["next_batch"]
        now = time.monotonic()
        events = answer.get("to_device", {}).get("events", [])
        self.received.extend(event["content"]["id"] for event in events)
        for user in answer.get("device_lists", {}).get("changed", []):
            self.changed[user] = now
        for room in answer.get("rooms", {}).get("join", {}).values():
            for event in room["timeline"]["events"]:
                if self in self.world.talkers:  # Others see old events when they come back.
                    self.world.ledger.seen(event.get("content", {}).get("body"), self.server.place.name)
        count = answer.get("device_one_time_keys_count", {}).get("signed_curve25519", 0)
        if count < KEYS // 2:
            self.fill_up(connection, count)
        return bool(events)


class World:
    """Everybody and everything."""

    def __init__(self, servers, ledger, rate, seed, rooms):
        self.servers, self.ledger = servers, ledger
        self.random = random.Random(seed)
        self.stop_talking, self.stop_listening = threading.Event(), threading.Event()
        self.silent = set()  # places whose users rest
        self.threads, self.listeners = [], []
        self.number = 0
        self.lock = threading.Lock()
        self.talkers = [User(self, server, f"{server.place.name}{n}") for server in servers for n in range(2)]
        self.wanderers = [User(self, server, f"{server.place.name}w") for server in servers]
        self.period = len(self.talkers) / rate
        self.rooms = [self.make_room(n) for n in range(rooms)]

    @property
    def users(self):
        """All of them."""
        return self.talkers + self.wanderers

    def unique(self):
        """A name that nothing else has."""
        with self.lock:
            self.number += 1
            return f"n{self.number}"

    def make_room(self, number):
        """A room, of each server in turn, that everybody is in."""
        owner = self.talkers[number * 2 % len(self.talkers)]
        others = [user for user in self.users if user is not owner]
        connection = owner.connection()
        # Every second room is by invitation.
        by_invitation = number % 2 == 1
        room = connection.call("POST", "/_matrix/client/v3/createRoom", {
            "preset": "private_chat" if by_invitation else "public_chat", "name": f"room {number}",
            "invite": [user.id for user in others] if by_invitation else [],
            "power_level_content_override": {"users_default": 50, "events": {"m.room.power_levels": 50},
                                             "invite": 0}})["room_id"]
        for user in others:
            path = f"/_matrix/client/v3/join/{segment(room)}?via={segment(owner.server.name)}"
            patiently(lambda: user.connection().call("POST", path, {}), lambda: False)
        return room

    def start(self):
        """Everybody begins."""
        for user in self.users:
            self._thread(self._listen, user, self.listeners)
        for user in self.talkers:
            self._thread(self._talk, user, self.threads)
        for user in self.wanderers:
            self._thread(self._wander, user, self.threads)

    def _thread(self, work, user, into):
        thread = threading.Thread(target=work, args=(user,), daemon=True)
        into.append(thread)
        thread.start()

    def _listen(self, user):
        connection = user.connection()
        while not self.stop_listening.is_set():
            try:
                user.listen(connection, 2000)
            except Failure:
                time.sleep(0.25)

    def rests(self, user):
        """Whether a user's server is away for long, so that the user does nothing."""
        return user.server.place.name in self.silent

    def _turns(self, user, period):
        """Comes back for each turn of a user, in its time, until it is enough."""
        chooser = random.Random(self.random.random())
        due = time.monotonic() + chooser.random() * period
        while not self.stop_talking.wait(max(0, due - time.monotonic())):
            due = max(due + period, time.monotonic() - period)
            if not self.rests(user):
                yield chooser

    def _talk(self, user):
        connection = user.connection()
        names, weights = zip(*ACTIONS)
        for chooser in self._turns(user, self.period):
            action = chooser.choices(names, weights)[0]
            try:
                getattr(self, f"do_{action}")(user, connection, chooser)
            except Refused as error:
                self.ledger.refused.append(f"{action}: {error}")
            except Failure as error:
                self.ledger.refused.append(f"{action} given up: {error}")

    def given_up(self):
        """When whoever gets no answer stops asking: never, as long as its server is to come back."""
        return self.stop_listening.is_set()

    def _send(self, user, connection, room, kind, make):
        """Sends an event until it is acknowledged."""
        name = self.unique()
        sent = Sent(name, user.server.place.name, room, kind)
        self.ledger.event(sent)
        state = "send" if kind == "m.room.message" else "state"
        path = f"/_matrix/client/v3/rooms/{segment(room)}/{state}/{kind}/{name if state == 'send' else ''}"

        def once():
            began = time.monotonic()
            try:
                answer = connection.call("PUT", path, make(name))
            except (Failure, Refused):
                self.ledger.latency(sent.server, time.monotonic() - began, False)
                raise
            self.ledger.latency(sent.server, time.monotonic() - began, True)
            return answer["event_id"]

        sent.event_id = patiently(once, self.given_up)

    def do_message(self, user, connection, chooser):
        """A text whose body is its name."""
        room = chooser.choice(self.rooms)
        self._send(user, connection, room, "m.room.message", lambda name: {"msgtype": "m.text", "body": name})

    def do_name(self, user, connection, chooser):
        """The room gets another name."""
        self._send(user, connection, chooser.choice(self.rooms), "m.room.name", lambda name: {"name": name})

    def do_topic(self, user, connection, chooser):
        """The room gets another topic."""
        self._send(user, connection, chooser.choice(self.rooms), "m.room.topic", lambda name: {"topic": name})

    def do_levels(self, user, connection, chooser):
        """The room gets other power levels."""
        room = chooser.choice(self.rooms)
        path = f"/_matrix/client/v3/rooms/{segment(room)}/state/m.room.power_levels/"
        levels = patiently(lambda: connection.call("GET", path), self.given_up)
        levels.setdefault("events", {})["faults.test"] = chooser.randrange(50)
        self._send(user, connection, room, "m.room.power_levels", lambda name: levels | {"faults.name": name})

    def do_to_device(self, user, connection, chooser):
        """A message for somebody's device, mostly of another server."""
        to = chooser.choice([other for other in self.talkers if other is not user])
        name = self.unique()
        self.ledger.messages[name] = [user.server.place.name, to, False]
        body = {"messages": {to.id: {to.device: {"id": name}}}}
        path = f"/_matrix/client/v3/sendToDevice/faults.test/{name}"
        patiently(lambda: connection.call("PUT", path, body), self.given_up)
        self.ledger.messages[name][2] = True

    def do_claim(self, user, connection, chooser):
        """One-time keys of two users, here and there."""
        users = chooser.sample([other for other in self.talkers if other is not user], 2)
        body = {"one_time_keys": {other.id: {other.device: "signed_curve25519"} for other in users}}
        try:
            answer = connection.call("POST", "/_matrix/client/v3/keys/claim", body)
        except Failure:
            self.ledger.unanswered_claims += 1
            return
        found = answer.get("one_time_keys", {})
        for owner, devices in found.items():
            for device, keys in devices.items():
                self.ledger.claimed.extend((owner, device, key, user.id) for key in keys)
        self.ledger.exhausted_claims += sum(other.id not in found for other in users)

    def do_device(self, user, connection, _):
        """A device comes, with keys, and goes."""
        guest = Connection(user.server.place.client, None, user.tally)
        login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user.id},
                 "password": PASSWORD}
        try:
            answer = guest.call("POST", "/_matrix/client/v3/login", login)
            # Others may hear of a change before its answer is here.
            for change in (lambda: user.upload(guest, answer["device_id"], answer["access_token"]),
                           lambda: guest.call("POST", "/_matrix/client/v3/logout", {})):
                began = time.monotonic()
                change()
                self.ledger.device_changes[user.id] = began
        except Failure:
            pass
        finally:
            guest.close()

    def _wander(self, user):
        """Leaves a room, and is invited and joins again, or joins by itself."""
        connection = user.connection()
        hosts = [other for other in self.talkers if other.server is not user.server]
        for chooser in self._turns(user, self.period * 8):
            room = chooser.choice(self.rooms)
            path = f"/_matrix/client/v3/rooms/{segment(room)}"
            host = chooser.choice(hosts)
            try:
                connection.call("POST", f"{path}/leave", {})
                if not self.rests(host):
                    host.connection().call("POST", f"{path}/invite", {"user_id": user.id})
            except (Failure, Refused) as error:
                self.ledger.refused.append(f"wander: {error}")
            try:
                via = segment(host.server.name)
                connection.call("POST", f"/_matrix/client/v3/join/{segment(room)}?via={via}", {}, timeout=90)
            except (Failure, Refused) as error:
                self.ledger.refused.append(f"wander: {error}")

    def quiet(self):
        """Nobody begins anything more; what was begun is brought to its end."""
        self.stop_talking.set()
        for thread in self.threads:
            thread.join(180)

    def end(self):
        """Nobody listens any more."""
        self.stop_listening.set()
        for thread in self.listeners:
            thread.join(60)

    def failures(self):
        """How requests of all clients failed."""
        made, failed = 0, {}
        for user in self.users:
            made += user.tally.made
            for how, count in user.tally.failed.items():
                failed[how] = failed.get(how, 0) + count
        return made, failed


def text(value):
    """JSON that can be compared."""
    return json.dumps(value, sort_keys=True)
