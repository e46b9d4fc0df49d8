"""A Myelin process with its database: started, killed, measured."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time

import api
from network import command

FAKETIME = ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1",
            "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"]


class Server:
    """One server. `disk` makes a file system of its own in a folder, or is None."""

    def __init__(self, place, folder, binary, authority, database, host, disk, clock, log):
        self.place = place
        self.name = place.federation
        self.binary = binary
        self.data = f"{folder}/{place.name}"
        self.log = f"{folder}/{place.name}.log"
        self.process = None
        self.starts = 0
        self.usage = Usage(self)
        os.mkdir(self.data)
        self.disk = disk(self.data) if disk else None
        self.postgres = Postgres(self.data, f"{folder}/{place.name}.postgres.log", host) if database == "postgres" else None
        certificate, key = authority.certificate(place.name, place.federation.rsplit(":", 1)[0])
        self.variables = {
            "MYELIN_SERVER_NAME": self.name,
            "MYELIN_DATA_DIR": f"{self.data}/myelin",
            "MYELIN_DATABASE_URL": self.postgres.url if self.postgres else f"sqlite:{self.data}/myelin/myelin.db",
            "MYELIN_LISTENERS_0_BIND": place.client,
            "MYELIN_LISTENERS_0_SERVE": "client",
            "MYELIN_LISTENERS_1_BIND": place.bind,
            "MYELIN_LISTENERS_1_SERVE": "federation",
            "MYELIN_LISTENERS_1_TLS_CERTIFICATE": certificate,
            "MYELIN_LISTENERS_1_TLS_PRIVATE_KEY": key,
            "MYELIN_FEDERATION_EXTRA_CA_CERTIFICATES": authority.file,
            "MYELIN_FEDERATION_DENIED_IP_RANGES": "",
            "MYELIN_FEDERATION_TRUSTED_KEY_SERVERS": "",
            "MYELIN_REGISTRATION_MODE": "open",
            "MYELIN_LIMITS_RATE_LIMITS": "false",
            "MYELIN_LIMITS_PASSWORD_HASHING_MEMORY_KIB": "64",
            "MYELIN_LIMITS_PASSWORD_HASHING_ITERATIONS": "1",
            "MYELIN_LOG_LEVEL": log,
        }
        self.certificate, self.key = certificate, key
        os.mkdir(f"{self.data}/myelin")
        # What this program has written is not what is tried.
        command("sync", "--file-system", self.data)
        self.clock_file = None
        if clock:
            library = next((path for path in FAKETIME if os.path.exists(path)), None)
            if library is None:
                raise RuntimeError("libfaketime is missing: apt-get install faketime")
            self.clock_file = f"{folder}/{place.name}.clock"
            self.set_clock("+0")
            self.variables |= {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": self.clock_file,
                               "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                               "DONT_FAKE_MONOTONIC": "1"}

    def set_clock(self, offset):
        """What the server's clock says beside the true time: `+5m`, `-2d`."""
        with open(f"{self.clock_file}.new", "w", encoding="ascii") as file:
            file.write(offset + "\n")
        os.replace(f"{self.clock_file}.new", self.clock_file)

    def start(self, wait=120):
        """Starts the process and waits until it answers."""
        if self.postgres:
            self.postgres.start()
        began = time.monotonic()
        while True:
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen([*self.place.prefix, self.binary, "serve"], env=self.variables,
                                                stdout=log, stderr=log)
            self.starts += 1
            while self.process.poll() is None:
                try:
                    api.Connection(self.place.client, None).call("GET", "/_matrix/client/versions", timeout=2)
                    return
                except api.Failure:
                    if time.monotonic() - began > wait:
                        links = command("sh", "-c", "ip -br addr; ip netns", check=False).stdout
                        raise RuntimeError(f"{self.place.name} does not start, see {self.log}\n{links}") from None
                    time.sleep(0.02)
            # As a supervisor would: its database may have been away, or its disk full.
            if time.monotonic() - began > wait:
                raise RuntimeError(f"{self.place.name} ends at once, see {self.log}")
            time.sleep(0.5)

    @property
    def lives(self):
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL."""
        self.usage.note()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def lose_power(self):
        """Everything ends at one moment, and of what was written only that remains which the disk had by then."""
        self.process.send_signal(signal.SIGSTOP)
        if self.postgres:
            self.postgres.freeze()
        self.disk.remember()
        self.kill()
        if self.postgres:
            self.postgres.kill_all()
        self.disk.lose()

    def stop(self):
        """SIGTERM; the process ends in good order."""
        self.usage.note()
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def signing_key(self):
        """The key of a server that has ended, for who speaks in its name."""
        statement = "SELECT value FROM meta WHERE key = 'signing_key'"
        if self.postgres:
            return command(f"{self.postgres.bin}/psql", self.postgres.url, "-Atc", statement).stdout.strip()
        with contextlib.closing(sqlite3.connect(f"{self.data}/myelin/myelin.db")) as connection:
            return connection.execute(statement).fetchone()[0]

    def fill(self):
        """Leaves no room on the server's disk."""
        with open(f"{self.data}/filler", "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                while True:
                    try:
                        file.write(b"x" * size)
                    except OSError:
                        break

    def free(self):
        """Makes room again."""
        try:
            os.remove(f"{self.data}/filler")
        except FileNotFoundError:
            pass

    def close(self):
        """Ends everything of this server."""
        self.stop()
        if self.postgres:
            self.postgres.stop()
        if self.disk:
            self.disk.close()


class Usage(threading.Thread):
    """What a server takes of the machine: CPU over all its processes, and the most memory that was seen."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server = server
        self.cpu_done = 0.0
        self.cpu_now = 0.0
        self.pid = None
        self.peak = 0
        self.sample = 0
        self.start()

    def run(self):
        while True:
            self.note()
            time.sleep(0.25)

    def note(self):
        """Looks once."""
        process = self.server.process
        if process is None:
            return
        try:
            with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                rss = int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
        except (OSError, AttributeError, IndexError):
            return
        if self.pid != process.pid:
            self.pid, self.cpu_done = process.pid, self.cpu_done + self.cpu_now
        self.cpu_now = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        self.sample = rss / 1024
        self.peak = max(self.peak, self.sample)

    @property
    def cpu(self):
        """Seconds of CPU so far."""
        return self.cpu_done + self.cpu_now

    def take_peak(self):
        """The most MiB since the last call."""
        peak, self.peak = self.peak, self.sample
        return peak


class Postgres:
    """A cluster of its own for one server, on the same disk as its data."""

    def __init__(self, data, log, host):
        self.data, self.log = f"{data}/postgres", log
        self.bin = command("sh", "-c", "ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1").stdout.strip()
        # PostgreSQL refuses to run as root.
        self.user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] \
            if os.geteuid() == 0 else []
        self.host, self.process = host, None
        self.port = port = 20000 + (os.getpid() * 7 + sum(data.encode())) % 20000
        self.url = f"postgres://postgres@{host}:{port}/myelin"
        os.mkdir(self.data)
        # Parents of a temporary folder are closed to others.
        folder = os.path.dirname(self.data)
        while folder != "/" and os.geteuid() == 0:
            os.chmod(folder, os.stat(folder).st_mode | 0o055)
            folder = os.path.dirname(folder)
        command("chown", "postgres", self.data)
        command(*self.user, f"{self.bin}/initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                "--locale=C")
        with open(f"{self.data}/pg_hba.conf", "a", encoding="ascii") as file:
            file.write("host all all samenet trust\nhost all all 10.0.0.0/8 trust\n")
        with open(f"{self.data}/postgresql.auto.conf", "a", encoding="ascii") as file:
            file.write(f"listen_addresses='{host}'\nport={port}\nunix_socket_directories='/tmp'\n"
                       "max_wal_size=64MB\nmin_wal_size=32MB\nshared_buffers=32MB\n")
        self.start()
        command(f"{self.bin}/createdb", "-h", host, "-p", str(port), "-U", "postgres", "myelin")

    def start(self):
        """Starts the cluster, unless it runs; as a supervisor would, again and again."""
        for _ in range(60):
            if not self.runs():
                with open(self.log, "ab") as log:
                    self.process = subprocess.Popen([*self.user, f"{self.bin}/postgres", "-D", self.data],
                                                    stdout=log, stderr=log)
            if command(f"{self.bin}/pg_isready", "-q", "-h", self.host, "-p", str(self.port), "-t", "5",
                       check=False).returncode == 0:
                return
            time.sleep(0.5)
        raise RuntimeError(f"PostgreSQL does not start, see {self.log}")

    def runs(self):
        """Whether the cluster runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL; its children end when they notice."""
        if self.runs():
            self.process.kill()
            self.process.wait()
            time.sleep(0.5)

    def freeze(self):
        """None of its processes does anything until `thaw`."""
        self._signal("STOP")

    def thaw(self):
        """They go on."""
        self._signal("CONT")

    def _signal(self, name):
        # Its children first: they would notice that it is gone.
        command("pkill", f"-{name}", "-P", str(self.process.pid), check=False)
        command("kill", f"-{name}", str(self.process.pid))

    def kill_all(self):
        """SIGKILL for all of its processes."""
        self._signal("KILL")
        self.process.wait()

    def stop(self):
        """Ends the cluster at once."""
        if self.runs():
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
