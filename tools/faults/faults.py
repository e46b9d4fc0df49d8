"""The faults: what each does to the servers, for how long, and how it ends."""

import os
import random
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LIARS = ("slow", "wrong", "huge", "never")


class Run:
    """What a fault works on. `servers` are all; the last of three is the one that a liar takes the place of."""

    def __init__(self, servers, net, world, options):
        self.servers, self.net, self.world, self.options = servers, net, world, options
        self.random = random.Random(options.seed)
        self.notes = []

    def note(self, text):
        """Something that the report tells."""
        print(f"  {text}", flush=True)
        self.notes.append(text)


def cut(run, seconds):
    """The network between the second server and the others goes."""
    run.net.cut(run.servers[1].place)
    time.sleep(seconds)
    run.net.join(run.servers[1].place)


def moments(run, seconds):
    """Random moments until the time is over, each with the server to which something happens."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(run.random.uniform(0.5, 5))
        yield run.random.choice(run.servers[:2])


def kill(run, seconds):
    """Servers are killed at random moments and started again after a while."""
    kills = 0
    for server in moments(run, seconds):
        server.kill()
        if server.postgres and run.random.random() < 0.3:
            server.postgres.kill()
        kills += 1
        time.sleep(run.random.uniform(0, 2))
        server.start()
    run.note(f"{kills} kills")


def power(run, seconds):
    """Machines lose their power at random moments: what had not reached the disk is gone."""
    losses = 0
    for server in moments(run, seconds):
        server.lose_power()
        losses += 1
        time.sleep(run.random.uniform(0, 2))
        server.start()
    run.note(f"{losses} losses of power")


def database(run, seconds):
    """PostgreSQL dies at random moments, or answers nothing for a while; the servers go on."""
    deaths = silences = 0
    for server in moments(run, seconds):
        postgres = server.postgres
        if run.random.random() < 0.5:
            postgres.kill()
            deaths += 1
            time.sleep(run.random.uniform(0, 3))
            postgres.start()
        else:
            postgres.freeze()
            silences += 1
            time.sleep(run.random.uniform(1, 10))
            postgres.thaw()
    run.note(f"PostgreSQL died {deaths} times and was silent {silences} times")


def disk_full(run, seconds):
    """The first server's disk fills up, and is filled again whenever it finds room."""
    server, until, ended = run.servers[0], time.monotonic() + seconds, 0
    while time.monotonic() < until:
        server.fill()
        time.sleep(0.5)
        if not server.lives:
            ended += 1
            server.free()
            server.start()
    server.free()
    if ended:
        run.note(f"the server ended {ended} times while its disk was full")
    if server.postgres and not server.postgres.runs():
        run.note("PostgreSQL had ended and was started again")
        server.postgres.start()
    if not server.lives:
        server.start()


def clock(run, seconds):
    """The second server's clock is wrong; the process goes on."""
    server = run.servers[1]
    before = clock_of(run, server)
    server.set_clock(run.options.offset)
    time.sleep(2)
    run.note(f"the clock of {server.place.name} went by {clock_of(run, server) - before:.0f} s")
    time.sleep(max(0, seconds - 2))
    server.set_clock("+0")
    time.sleep(2)


def clock_of(run, server):
    """How far a server's clock is from ours, by an event that it makes."""
    user = next(user for user in run.world.talkers if user.server is server)
    connection = user.connection()
    room = connection.call("POST", "/_matrix/client/v3/createRoom", {})["room_id"]
    events = connection.call("GET", f"/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=1")["chunk"]
    return events[0]["origin_server_ts"] / 1000 - time.time()


def lie(mode):
    """The third server ends, and something that answers `mode` takes its place."""
    def fault(run, seconds):
        server = run.servers[2]
        run.world.silent.add(server.place.name)
        time.sleep(2)
        server.stop()
        key = server.signing_key()
        log = open(f"{server.log}.liar", "ab")
        others = [f"{other.name}" for other in run.servers[:2]]
        liar = subprocess.Popen([*server.place.prefix, sys.executable, f"{HERE}/liar.py", mode, server.place.bind,
                                 server.certificate, server.key, server.name, key,
                                 run.world.rooms[0], ",".join(others)], stdout=log, stderr=log)
        time.sleep(seconds)
        if liar.poll() is not None:
            run.note("the liar ended by itself; see its log")
        liar.kill()
        liar.wait()
        log.close()
        server.start()
        run.world.silent.discard(server.place.name)
    return fault


def mix(run, seconds):
    """One fault after the other, with short pauses."""
    until, done = time.monotonic() + seconds, []
    kinds = ["cut", "kill"] + (["disk-full", "power"] if run.servers[0].disk else [])
    kinds += ["database"] if run.servers[0].postgres else []
    kinds += ["clock"] if run.servers[1].clock_file else []
    kinds += [kind for kind in LIARS if len(run.servers) > 2]
    bag = []
    while time.monotonic() < until:
        # Each comes before any comes again.
        bag = bag or run.random.sample(kinds, len(kinds))
        kind = bag.pop()
        length = min(run.random.uniform(5, 40), max(3, until - time.monotonic()))
        run.options.offset = run.random.choice(["+3m", "-3m", "+20m", "-20m"])
        print(f"  {kind} for {length:.0f} s", flush=True)
        FAULTS[kind](run, length)
        done.append(kind)
        time.sleep(run.random.uniform(0, 5))
    run.note("faults in turn: " + " ".join(done))


FAULTS = {"cut": cut, "kill": kill, "database": database, "disk-full": disk_full, "power": power,
          "clock": clock, "random": mix, **{mode: lie(mode) for mode in LIARS}}
