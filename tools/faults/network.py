"""Where the servers live: network namespaces that can be cut off, or loopback with a relay that can be closed.

Each server has two links: one that its clients use and that no fault touches, and one to the other servers. In
namespaces both are veth pairs, on two bridges; a server is cut off by taking its link out of the bridge, so that
packets vanish without a word, as they do when a cable is pulled. Where namespaces can't be had, other servers reach a
server through a relay of this process, which goes quiet instead.
"""

import os
import select
import socket
import subprocess
import threading


def command(*words, check=True):
    """Runs a command, quietly."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout.strip()}")
    return done


def free_port():
    """A port of the loopback interface that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Place:
    """Where one server lives."""

    def __init__(self, name, client, federation, bind, prefix):
        self.name = name
        self.client = client
        self.federation = federation
        self.bind = bind
        self.prefix = prefix
        self.is_cut = False


class Namespaces:
    """Namespaces on two bridges; everything is named after this process and goes with `close`."""

    def __init__(self):
        self.tag = f"f{os.getpid() % 100000}"
        # Another net for each run, so that two of them do not meet.
        self.net = f"10.{64 + os.getpid() % 64}.{os.getpid() // 64 % 250}"
        self.clients, self.hub = f"{self.tag}c", f"{self.tag}-hub"
        self.places = []
        # The servers' bridge is in a namespace too, out of reach of the machine's packet filters.
        command("ip", "netns", "add", self.hub)
        command("ip", "-n", self.hub, "link", "add", "hub", "type", "bridge")
        command("ip", "-n", self.hub, "link", "set", "hub", "up")
        command("ip", "link", "add", self.clients, "type", "bridge")
        command("ip", "link", "set", self.clients, "up")
        command("ip", "addr", "add", f"{self.net}.126/25", "dev", self.clients)
        self.host = f"{self.net}.126"

    def add(self, name):
        """A namespace with its two links."""
        number = len(self.places) + 1
        space = f"{self.tag}-{name}"
        command("ip", "netns", "add", space)
        place = Place(name, f"{self.net}.{number}:8008", f"{self.net}.{128 + number}:8448",
                      f"{self.net}.{128 + number}:8448", ["ip", "netns", "exec", space])
        place.space = space
        place.link = f"{self.tag}s{number}"
        self.places.append(place)
        command("ip", "-n", space, "link", "set", "lo", "up")
        for at, link, inner, bridge, address in (
            ([], f"{self.tag}c{number}", "client", self.clients, f"{self.net}.{number}/25"),
            (["-n", self.hub], place.link, "server", "hub", f"{self.net}.{128 + number}/25"),
        ):
            command("ip", *at, "link", "add", link, "type", "veth", "peer", "name", inner, "netns", space)
            command("ip", *at, "link", "set", link, "master", bridge, "up")
            command("ip", "-n", space, "addr", "add", address, "dev", inner)
            command("ip", "-n", space, "link", "set", inner, "up")
        return place

    def cut(self, place):
        """From now on no packet passes between this server and the others."""
        command("ip", "-n", self.hub, "link", "set", place.link, "nomaster")
        place.is_cut = True

    def join(self, place):
        """Packets pass again."""
        command("ip", "-n", self.hub, "link", "set", place.link, "master", "hub")
        place.is_cut = False

    def close(self):
        """Takes everything away again."""
        for place in self.places:
            command("ip", "netns", "del", place.space, check=False)
        command("ip", "netns", "del", self.hub, check=False)
        command("ip", "link", "del", self.clients, check=False)


class Relay(threading.Thread):
    """Passes connections on to a server. Cut, it accepts and passes nothing, and says nothing about it."""

    def __init__(self, port, to):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.to = to
        self.open = threading.Event()
        self.open.set()
        self.start()

    def run(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near):
        """One connection."""
        self.open.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.to), timeout=5)
        except OSError:
            near.close()
            return
        with near, far:
            other = {near: far, far: near}
            while True:
                ready, _, _ = select.select([near, far], [], [])
                self.open.wait()
                for side in ready:
                    try:
                        data = side.recv(65536)
                        if not data:
                            return
                        other[side].sendall(data)
                    except OSError:
                        return


class Loopback:
    """Everything on 127.0.0.1, each server behind a relay."""

    host = "127.0.0.1"

    def __init__(self):
        self.places = []

    def add(self, name):
        """A server's ports and its relay."""
        client, outside, inside = free_port(), free_port(), free_port()
        place = Place(name, f"127.0.0.1:{client}", f"127.0.0.1:{outside}", f"127.0.0.1:{inside}", [])
        place.relay = Relay(outside, inside)
        self.places.append(place)
        return place

    def cut(self, place):
        """The server can't be reached by others. With two servers only, both relays are to be closed."""
        for relay in self._relays(place):
            relay.open.clear()
        place.is_cut = True

    def join(self, place):
        """It can be reached again."""
        for relay in self._relays(place):
            relay.open.set()
        place.is_cut = False

    def _relays(self, place):
        # Who asks is not known to a relay, so a server's own requests are stopped at the relays of the others; with
        # three servers that would cut those off from each other too.
        return [other.relay for other in self.places] if len(self.places) == 2 else [place.relay]

    def close(self):
        """Closes the relays."""
        for place in self.places:
            place.relay.listener.close()


def network(wanted):
    """The network that was asked for, or the best that can be had."""
    if wanted == "loopback":
        return Loopback()
    try:
        made = Namespaces()
    except (RuntimeError, FileNotFoundError, PermissionError) as error:
        if wanted == "namespaces":
            raise
        print(f"no namespaces ({error}); loopback with relays instead", flush=True)
        return Loopback()
    probe = command("ip", "netns", "add", f"{made.tag}-try", check=False)
    command("ip", "netns", "del", f"{made.tag}-try", check=False)
    if probe.returncode == 0:
        return made
    made.close()
    if wanted == "namespaces":
        raise RuntimeError(probe.stdout)
    print(f"no namespaces ({probe.stdout.strip()}); loopback with relays instead", flush=True)
    return Loopback()
