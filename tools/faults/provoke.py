"""What a liar says of itself: signed events that follow what nobody has, so that honest servers ask it for that.

Signed by openssl with the key of the honest server whose name the liar has.
"""

import atexit
import base64
import hashlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import time

# Before the 32 bytes of an Ed25519 key in PKCS #8.
PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


def canonical(value):
    """Canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def unpadded(data):
    """Base64 as Matrix writes it."""
    return base64.b64encode(data).decode().rstrip("=")


class Key:
    """A server's signing key, as Synapse writes it into a file."""

    def __init__(self, text):
        _, version, seed = text.split()
        self.id = f"ed25519:{version}"
        self.folder = tempfile.mkdtemp(prefix="faults-liar-")
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        der = PKCS8 + base64.b64decode(seed + "=" * (-len(seed) % 4))
        with open(f"{self.folder}/key", "wb") as file:
            file.write(der)

    def sign(self, value):
        """A signature of a JSON object."""
        path = f"{self.folder}/{os.urandom(4).hex()}"
        with open(path, "wb") as file:
            file.write(canonical(value))
        made = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey",
                               f"{self.folder}/key", "-in", path], capture_output=True, check=True)
        os.remove(path)
        return unpadded(made.stdout)


def event(key, name, room):
    """A message that follows an event that does not exist."""
    unknown = lambda: "$" + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    made = {"type": "m.room.message", "room_id": room, "sender": f"@three0:{name}", "depth": 100000,
            "origin_server_ts": int(time.time() * 1000), "prev_events": [unknown()],
            "auth_events": [unknown(), unknown()], "content": {"msgtype": "m.text", "body": "a lie"}}
    made["hashes"] = {"sha256": unpadded(hashlib.sha256(canonical(made)).digest())}
    made["signatures"] = {name: {key.id: key.sign(made | {"content": {}})}}
    return made


def provoke(name, signing_key, room, other):
    """Sends such events to a server, again and again."""
    key = Key(signing_key)
    context = ssl._create_unverified_context()  # pylint: disable=protected-access
    number = 0
    while True:
        number += 1
        path = f"/_matrix/federation/v1/send/lie{os.urandom(6).hex()}"
        body = {"origin": name, "origin_server_ts": int(time.time() * 1000), "pdus": [event(key, name, room)],
                "edus": []}
        signature = key.sign({"method": "PUT", "uri": path, "origin": name, "destination": other, "content": body})
        header = f'X-Matrix origin="{name}",destination="{other}",key="{key.id}",sig="{signature}"'
        try:
            connection = http.client.HTTPSConnection(other, timeout=90, context=context)
            connection.request("PUT", path, canonical(body), {"Authorization": header,
                                                              "Content-Type": "application/json"})
            answer = connection.getresponse()
            print(f"{time.time():.2f} told {other}: {answer.status} {answer.read()[:200]}", flush=True)
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            print(f"{time.time():.2f} told {other}: {error}", flush=True)
        time.sleep(2)
