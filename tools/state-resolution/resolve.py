"""Resolves states with Synapse as a library, for the tests in core/tests/state_resolution.

Reads one graph a line from standard input, as JSON:
    version      the room version
    room_id      the room
    events       the events as servers exchange them, with `event_id` beside
    rejected     ids of those of them that are rejected
    resolutions  what is to be resolved: for each, a list of states, each a list of event ids
    tries        what is to be judged: for each, an `event` and the ids of the `state` that it meets
    ways         how: for each, a list of the points (see below) in which to follow the specification's letter
and answers with one line:
    resolved     for each way and each resolution the ids of the resolved state, or an error as a string
    allowed      for each way and each try whether the event is allowed
    seconds      what the resolutions took, the first way
An event whose id is not the one that Synapse computes ends the program.

Synapse as it is departs from the specification in these points:
    rejected     a rejected event is never applied, however the resolved state would judge it
    federate     in a room that does not federate, a membership is not only of which server's user sent it, but also
                 of which server's user it is about
    levels       power levels with a state key are not compared to those of the room
    defaults     a level that power levels add or remove is compared as what they say, not as the default that holds
                 where they say nothing
"""

import json
import sys
import time
from functools import partial

from synapse.api.errors import AuthError, SynapseError
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.events import make_event_from_json

# Before `synapse.state`, which cannot be imported first: its modules import each other.
from synapse.storage.databases.main.event_federation import StateDifference
from synapse import event_auth
from synapse.state.v2 import resolve_events_with_store
from synapse.types import get_domain_from_id

class Clock:
    """Never waits."""

    async def sleep(self, _duration):
        pass


class Store:
    """The events of a graph, and what Synapse asks of its database about them."""

    def __init__(self, events):
        self.events = events

    async def get_events(self, event_ids, allow_rejected=False):
        found = (self.events[event_id] for event_id in event_ids if event_id in self.events)
        return {event.event_id: event for event in found if allow_rejected or not event.rejected_reason}

    def ancestors(self, event_ids):
        """The auth events of these events, theirs, and so on."""
        found = set()
        todo = list(event_ids)
        while todo:
            event = self.events.get(todo.pop())
            new = set(event.auth_event_ids()) - found if event else ()
            found.update(new)
            todo.extend(new)
        return found

    async def get_auth_chain_difference(self, _room_id, state_sets, conflicted, _additional):
        # As Synapse's database does it, a state's own events are part of its auth chain.
        chains = [self.ancestors(state) | state for state in state_sets]
        difference = set.union(*chains) - set.intersection(*chains)
        if conflicted is None:
            return StateDifference(auth_difference=difference, conflicted_subgraph=None)
        upwards = self.ancestors(conflicted) | conflicted
        subgraph = {event_id for event_id in upwards if conflicted & (self.ancestors([event_id]) | {event_id})}
        return StateDifference(auth_difference=difference, conflicted_subgraph=subgraph)


class Unrejected(dict):
    """Events as `_iterative_auth_checks` looks them up: by subscript those that are to be applied, which shall not be
    passed over for having been rejected; by `get` those that they are judged by, which shall."""

    def __init__(self, accepted):
        super().__init__()
        self.accepted = accepted

    def __getitem__(self, event_id):
        found = super().__getitem__(event_id)
        return self.accepted.get(event_id, found)


def run(coroutine):
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the resolution waits for something")


class Graph:
    """A room's events, as Synapse's."""

    def __init__(self, graph):
        self.room_id = graph["room_id"]
        self.version = KNOWN_ROOM_VERSIONS[graph["version"]]
        rejected = set(graph["rejected"])
        self.events = {}
        self.accepted = {}
        for event in graph["events"]:
            event_id = event.pop("event_id")
            reason = "rejected" if event_id in rejected else None
            made = make_event_from_json(json.dumps(event), self.version, rejected_reason=reason)
            if made.event_id != event_id:
                sys.exit(f"{event_id} is {made.event_id} for Synapse: {event}")
            self.events[event_id] = made
            if reason:
                self.accepted[event_id] = make_event_from_json(json.dumps(event), self.version)

    def state(self, event_ids):
        return {(event.type, event.state_key): event.event_id for event in map(self.events.get, event_ids)}

    def resolve(self, states, letter):
        """The ids of the resolved state, with Synapse following the specification's letter in these points."""
        store = Store(self.events)
        known = Unrejected(self.accepted) if "rejected" in letter else {}
        maps = [self.state(state) for state in states]
        try:
            resolution = resolve_events_with_store(Clock(), self.room_id, self.version, maps, known, store)
            return sorted(run(resolution).values())
        except Exception as error:  # what Synapse cannot resolve is an answer, too
            return f"{type(error).__name__}: {error}"


    def allows(self, event, state):
        """Whether an event is allowed by a state."""
        event = {name: value for name, value in event.items() if name != "event_id"}
        made = make_event_from_json(json.dumps(event), self.version)
        try:
            event_auth.check_state_dependent_auth_rules(made, [self.events[event_id] for event_id in state])
            return True
        except SynapseError:
            return False

    def answer(self, request, letter):
        """What is resolved and what is allowed, with Synapse following the specification's letter in these points."""
        event_auth._can_federate = may_send if "federate" in letter else may_federate
        event_auth._check_power_levels = partial(compare_levels, letter)
        began = time.perf_counter()
        resolved = [self.resolve(states, letter) for states in request["resolutions"]]
        seconds = time.perf_counter() - began
        return resolved, [self.allows(one["event"], one["state"]) for one in request["tries"]], seconds


may_federate = event_auth._can_federate
check_levels = event_auth._check_power_levels


def may_send(event, auth_events):
    """What `_can_federate` is asked, of the sender alone."""
    create = auth_events[("m.room.create", "")]
    return get_domain_from_id(event.sender) == get_domain_from_id(create.sender) or may_federate(event, auth_events)


DEFAULTS = {
    "users_default": 0, "events_default": 0, "state_default": 50, "ban": 50, "redact": 50, "kick": 50, "invite": 0,
}


def compare_levels(letter, version, event, auth_events):
    """`_check_power_levels`, with the room's power levels in the place of those with the event's state key, and with
    defaults in the place of what power levels do not say."""
    room = auth_events.get(("m.room.power_levels", ""))
    if room and "levels" in letter:
        auth_events = {**auth_events, (event.type, event.state_key): room}
    before = auth_events.get((event.type, event.state_key))
    if before and "defaults" in letter:
        own = event_auth.get_user_power_level(event.sender, auth_events)
        for name, default in DEFAULTS.items():
            old, new = before.content.get(name), event.content.get(name)
            values = [default if value is None else int(value) for value in (old, new)]
            if (old is None) != (new is None) and max(values) > own:
                raise AuthError(403, f"{name} is above the sender")
    check_levels(version, event, auth_events)


def main():
    for line in sys.stdin:
        request = json.loads(line)
        graph = Graph(request)
        resolved, allowed, seconds = zip(*(graph.answer(request, way) for way in request["ways"]))
        print(json.dumps({"resolved": resolved, "allowed": allowed, "seconds": seconds[0]}), flush=True)


if __name__ == "__main__":
    main()
