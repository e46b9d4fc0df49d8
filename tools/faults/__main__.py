"""Faults: real servers that federate, traffic, something that goes wrong, and what holds afterwards.

    python3 tools/faults FAULT [options]        docs/reliability.md tells of all of it
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time

import report
from certificates import Authority
from checks import Checks, integrity
from disk import Image, Memory, NoDisk
from faults import FAULTS, LIARS, Run
from ledger import Ledger
from network import network
from server import Server
from traffic import World

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def options():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="tools/faults", description="Faults between servers that federate.")
    parser.add_argument("fault", choices=sorted(FAULTS) + ["none"])
    parser.add_argument("--seconds", type=float, default=30, help="how long the fault lasts")
    parser.add_argument("--warm", type=float, default=10, help="seconds of traffic before it")
    parser.add_argument("--tail", type=float, default=0, help="seconds of traffic after it; without any, nothing more"
                        " is sent that would make the servers look for what they lack")
    parser.add_argument("--settle", type=float, default=600, help="seconds that the servers may take to settle")
    parser.add_argument("--servers", type=int, choices=(2, 3), help="three where a liar takes the place of one")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--network", choices=("best", "namespaces", "loopback"), default="best")
    parser.add_argument("--disk", type=int, default=0, help="MiB of each server's disk; 0: the machine's")
    parser.add_argument("--offset", default="+10m", help="how wrong the clock is: +5m, -2d")
    parser.add_argument("--rate", type=float, default=20, help="actions of all users a second")
    parser.add_argument("--rooms", type=int, default=4)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--binary", help="the server; by default that of the target folder")
    parser.add_argument("--json", help="a file to which the figures are appended")
    parser.add_argument("--log", default="info", help="the servers' log level")
    parser.add_argument("--if-possible", action="store_true", help="no failure where this machine can't do it")
    parser.add_argument("--keep", action="store_true", help="leave the folder with logs and databases")
    chosen = parser.parse_args()
    if chosen.servers is None:
        chosen.servers = 3 if chosen.fault in LIARS else 2
    if chosen.fault in LIARS and chosen.servers < 3:
        parser.error("a liar needs three servers")
    if chosen.fault == "database" and chosen.database != "postgres":
        parser.error("it is PostgreSQL that dies: --database postgres")
    if chosen.fault in ("disk-full", "power") and not chosen.disk:
        chosen.disk = 400 if chosen.database == "postgres" else 64
    if chosen.seed is None:
        chosen.seed = int.from_bytes(os.urandom(3), "big")
    if chosen.binary is None:
        target = os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target")
        chosen.binary = f"{target}/debug/myelin"
    return chosen


def disk(chosen):
    """What makes a server's own file system, if it is to have one."""
    if not chosen.disk:
        return None
    kind = Image if chosen.fault in ("power", "random") else Memory
    return lambda folder: kind(folder, chosen.disk)


class Phases:
    """The times of a run, and what the servers had taken of the machine by then."""

    def __init__(self, servers):
        self.servers, self.marks = servers, []

    def mark(self):
        """A phase begins, and that before it ends."""
        self.marks.append((time.monotonic(), {s.place.name: (s.usage.cpu, s.usage.take_peak()) for s in self.servers}))

    def usage(self):
        """CPU as a share of a core and memory of each server, by phase."""
        found = {}
        for server in self.servers:
            name = server.place.name
            share = lambda n: ((self.marks[n + 1][1][name][0] - self.marks[n][1][name][0])
                               / (self.marks[n + 1][0] - self.marks[n][0]))
            found[name] = {"cpu_before": share(0), "cpu_during": share(1), "starts": server.starts,
                           **{f"memory_{when}": self.marks[n + 1][1][name][1]
                              for n, when in enumerate(("before", "during", "after"))}}
        return found


def settle(world, servers, chosen):
    """Waits until all is as it must be; gives the checks and the seconds that it took."""
    checks = Checks(world, servers)
    began = time.monotonic()
    left = lambda: max(5.0, chosen.settle - (time.monotonic() - began))
    steps = {}
    for name, look in (("messages", checks.messages), ("events", checks.events), ("state", checks.state),
                       ("devices", checks.devices)):
        steps[name] = checks.until(name, look, left())
    took = None if None in steps.values() else time.monotonic() - began
    checks.wrong.extend(checks.keys())
    world.end()
    # Nothing comes after all.
    checks.wrong.extend(found for found in checks.messages() if found not in checks.wrong)
    return checks, took


def figures(chosen, net, world, run, phases, checks, settled):
    """All that is told of a run."""
    ledger, marks = world.ledger, [mark[0] for mark in phases.marks]
    made, failed = world.failures()
    healthy = [s.place.name for s in run.servers[:2]]
    spans = {"before": marks[0:2], "during": marks[1:3], "after": marks[2:4]}
    acknowledged = ledger.acknowledged()
    return {
        "fault": chosen.fault, "seconds": chosen.seconds, "database": chosen.database, "seed": chosen.seed,
        "network": type(net).__name__.lower(), "servers": chosen.servers, "offset": chosen.offset,
        "date": time.strftime("%Y-%m-%d"),
        "counts": {
            "events sent": len(ledger.events), "events acknowledged": len(acknowledged),
            "acknowledged events lost": checks.lost(),
            "to-device messages acknowledged": sum(done for *_, done in ledger.messages.values()),
            "to-device messages received": sum(len(user.received) for user in world.users),
            "one-time keys claimed": len(ledger.claimed), "claims without answer": ledger.unanswered_claims,
            "keys not to be had": ledger.exhausted_claims, "refused": len(ledger.refused)},
        "settled": settled,
        "latency": {when: {name: report.spread(ledger.times(*span, name)) for name in healthy}
                    for when, span in spans.items()},
        "delay": {when: report.spread(ledger.delays_between(*span, healthy)) for when, span in spans.items()},
        "usage": phases.usage(), "requests": {"made": made, "failed": failed},
        "notes": run.notes, "wrong": checks.wrong, "refused": sorted(set(ledger.refused))[:10],
    }


def play(chosen, net, servers):
    """The run itself."""
    for server in servers:
        server.start()
    world = World(servers, Ledger(), chosen.rate, chosen.seed, chosen.rooms)
    run = Run(servers, net, world, chosen)
    phases = Phases(servers)
    print(f"{chosen.fault}: traffic, seed {chosen.seed}", flush=True)
    world.start()
    phases.mark()
    time.sleep(chosen.warm)
    phases.mark()
    print(f"{chosen.fault}: for {chosen.seconds:.0f} s", flush=True)
    if chosen.fault == "none":
        time.sleep(chosen.seconds)
    else:
        FAULTS[chosen.fault](run, chosen.seconds)
    phases.mark()
    time.sleep(chosen.tail)
    world.quiet()
    print(f"{chosen.fault}: over, settling", flush=True)
    checks, settled = settle(world, servers, chosen)
    phases.mark()
    found = figures(chosen, net, world, run, phases, checks, settled)
    for server in servers:
        server.stop()
        found["wrong"].extend(integrity(server))
    return found


def end(*_):
    """Whoever ends this wants its servers and namespaces gone, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("ended from outside")


def main():
    """One run."""
    chosen = options()
    signal.signal(signal.SIGTERM, end)
    folder = tempfile.mkdtemp(prefix="faults-")
    net, servers = network(chosen.network), []
    try:
        authority = Authority(folder)
        for name in ("one", "two", "three")[:chosen.servers]:
            clock = chosen.fault in ("clock", "random") and name == "two"
            servers.append(Server(net.add(name), folder, chosen.binary, authority, chosen.database, net.host,
                                  disk(chosen), clock, chosen.log))
        found = play(chosen, net, servers)
        report.show(found)
        if chosen.json:
            report.write(chosen.json, found)
        return 1 if found["wrong"] else 0
    except RuntimeError:
        chosen.keep = True
        raise
    except NoDisk as error:
        print(f"not run: a disk of its own can't be had here ({error})")
        return 0 if chosen.if_possible else 2
    finally:
        for server in servers:
            server.close()
        net.close()
        if chosen.keep:
            print(f"logs and databases: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
