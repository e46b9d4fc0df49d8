"""What must hold when a fault is over, looked at from outside."""

import contextlib
import sqlite3
import time

from api import Failure, segment
from traffic import text


def history(connection, room):
    """All events of a room as a user can page to them, newest first."""
    found, start = [], ""
    while True:
        path = f"/_matrix/client/v3/rooms/{segment(room)}/messages?dir=b&limit=500{start}"
        page = connection.call("GET", path, timeout=120)
        found.extend(page["chunk"])
        if not page.get("end") or not page["chunk"]:
            return found
        start = f"&from={page['end']}"


class Checks:
    """Collects what is wrong."""

    def __init__(self, world, servers):
        self.world, self.ledger, self.servers = world, world.ledger, servers
        # One that stays in all rooms looks for each server.
        self.eyes = {server.place.name: next(user for user in world.talkers if user.server is server)
                     for server in servers}
        self.wrong = []

    def until(self, what, look, limit):
        """Waits until nothing is wrong any more; gives the seconds that it took. What is still wrong then is noted."""
        began = time.monotonic()
        while True:
            try:
                wrong = look()
            except Failure as error:
                wrong = [f"{what}: {error}"]
            took = time.monotonic() - began
            if not wrong:
                return took
            if took > limit:
                self.wrong.extend(wrong[:5])
                return None
            time.sleep(min(1.0, 0.1 + took / 20))

    def events(self):
        """Each server has every event that any of them acknowledged, once, and no other than the others."""
        wrong, acknowledged = [], {}
        for sent in self.ledger.acknowledged():
            acknowledged.setdefault(sent.room, {})[sent.event_id] = sent
        for room in self.world.rooms:
            of_servers, memberships = {}, set()
            for name, user in self.eyes.items():
                events = history(user.connection(), room)
                ids = [event["event_id"] for event in events]
                if len(set(ids)) != len(ids):
                    wrong.append(f"{name} shows an event of {room} twice")
                bodies = [event["content"].get("body") for event in events
                          if event["type"] == "m.room.message"]
                if len(set(bodies)) != len(bodies):
                    wrong.append(f"{name} has a message of {room} twice")
                of_servers[name] = set(ids)
                memberships |= {event["event_id"] for event in events if event["type"] == "m.room.member"}
                lost = set(acknowledged.get(room, {})) - set(ids)
                if lost:
                    example = acknowledged[room][next(iter(lost))]
                    wrong.append(f"{name} lacks {len(lost)} acknowledged events of {room}, such as {example.event_id},"
                                 f" {example.kind} {example.name} of {example.server}")
            # Who joins while an invitation is under way makes the other server soft-fail it, and rightly: of
            # memberships only what the state says must be the same, which `state` looks at.
            of_servers = {name: ids - memberships for name, ids in of_servers.items()}
            union = set().union(*of_servers.values())
            for name, ids in of_servers.items():
                if ids != union:
                    wrong.append(f"{name} lacks {len(union - ids)} events of {room} that others have,"
                                 f" such as {next(iter(union - ids))}")
        return wrong

    def lost(self):
        """How many acknowledged events any server lacks."""
        have = {name: set() for name in self.eyes}
        for room in self.world.rooms:
            for name, user in self.eyes.items():
                have[name] |= {event["event_id"] for event in history(user.connection(), room)}
        everywhere = set.intersection(*have.values())
        return sum(sent.event_id not in everywhere for sent in self.ledger.acknowledged())

    def state(self):
        """All servers agree about each room's current state."""
        wrong = []
        for room in self.world.rooms:
            states = {}
            for name, user in self.eyes.items():
                events = user.connection().call("GET", f"/_matrix/client/v3/rooms/{segment(room)}/state")
                states[name] = {(event["type"], event["state_key"]): event["event_id"] for event in events}
            first = next(iter(states.values()))
            for name, state in states.items():
                other = [key for key in first.keys() | state.keys() if first.get(key) != state.get(key)]
                if other:
                    wrong.append(f"{name} has another state of {room} in {sorted(other)[:3]}")
        return wrong

    def messages(self):
        """Each acknowledged to-device message came once, and none twice."""
        wrong, came = [], {}
        for user in self.world.users:
            for name in user.received:
                came[name] = came.get(name, 0) + 1
        for name, (sender, to, acknowledged) in list(self.ledger.messages.items()):
            if acknowledged and name not in came and to.server in self.servers:
                wrong.append(f"the to-device message {name} from {sender} to {to.id} did not come")
        wrong.extend(f"the to-device message {name} came {count} times"
                     for name, count in came.items() if count > 1)
        return wrong

    def keys(self):
        """No one-time key was given out twice."""
        seen, wrong = set(), []
        for owner, device, key, who in self.ledger.claimed:
            if (owner, device, key) in seen:
                wrong.append(f"{key} of {owner} was given out twice, last to {who}")
            seen.add((owner, device, key))
        return wrong

    def devices(self):
        """Others were told of the last change of each user's devices, and see those that the user has."""
        wrong = []
        changes = list(self.ledger.device_changes.items())
        for name, eye in self.eyes.items():
            asked = {owner.id: [] for owner in self.world.talkers if owner.server in self.servers}
            seen = eye.connection().call("POST", "/_matrix/client/v3/keys/query", {"device_keys": asked})
            for owner in self.world.talkers:
                if owner.id not in asked or owner.server.place.name == name:
                    continue
                own = owner.connection().call("POST", "/_matrix/client/v3/keys/query",
                                              {"device_keys": {owner.id: []}})
                mine = {device: text(keys["keys"]) for device, keys in own["device_keys"][owner.id].items()}
                theirs = {device: text(keys["keys"])
                          for device, keys in seen["device_keys"].get(owner.id, {}).items()}
                if mine != theirs:
                    wrong.append(f"{name} sees other devices of {owner.id}: {seen.get('failures')}")
        for owner, when in changes:
            for user in self.world.talkers:
                if user.server in self.servers and not owner.endswith(f":{user.server.name}") \
                        and user.changed.get(owner, 0) < when:
                    wrong.append(f"{user.id} was not told that {owner} has other devices")
        return wrong


def integrity(server):
    """What SQLite says about the database of a server that has ended."""
    if server.postgres:
        return []
    with contextlib.closing(sqlite3.connect(f"{server.data}/myelin/myelin.db")) as connection:
        answer = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    return [] if answer == ["ok"] else [f"{server.place.name}: {answer[:3]}"]
