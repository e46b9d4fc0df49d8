"""One device of matrix-nio, driven by the tests of myelin-client.

A command is one line of JSON on standard input, `{"do": NAME, ...arguments}`; its answer is one line on
standard output, `{"ok": VALUE}` or `{"error": TEXT}`. The names are the methods of `Commands`. What the library
logs goes to standard error. The store is in a folder that goes away with the process: the process is the device.

matrix-nio has no cross-signing, no secret storage, no key backup, and of verification only what happens after
the request: the peer itself answers and sends `m.key.verification.request`, `ready` and `done`.
"""

import asyncio
import hashlib
import json
import logging
import sys
import tempfile
import time
import uuid

from nio import (
    Api,
    AsyncClient,
    AsyncClientConfig,
    EncryptionError,
    MegolmEvent,
    OlmUnverifiedDeviceError,
    RedactedEvent,
    RedactionEvent,
    RoomMessageText,
    ToDeviceMessage,
    UnknownToDeviceEvent,
)
from nio.crypto.sas import Sas, SasState
from nio.responses import ErrorResponse
from unpaddedbase64 import encode_base64

PATIENCE = 60
METHOD = "m.sas.v1"
REQUEST = "m.key.verification.request"
READY = "m.key.verification.ready"
ENCRYPTION = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


class StandardSas:
    """What matrix-nio 0.26.0 computes differently from the specification since it left libolm, put right.

    The commitment is unpadded base64, not hexadecimal; the seven numbers of the emojis come ready from vodozemac
    and need no unpacking; and the authentication codes are those of `hkdf-hmac-sha256.v2`, whatever their name.
    """

    @staticmethod
    def commitment(key, start):
        digest = hashlib.sha256(key.encode() + Api.to_canonical_json(start).encode()).digest()
        return encode_base64(digest)

    @classmethod
    def install(cls):
        answer = Sas.from_key_verification_start

        def from_key_verification_start(*arguments):
            sas = answer(*arguments)
            sas.commitment = cls.commitment(sas.pubkey, arguments[-1].source["content"])
            return sas

        def check_commitment(self, key):
            return self.commitment == cls.commitment(key, self.start_verification().content)

        def generate_emoji(self, info):
            return [self.emoji[index] for index in self.established_sas.bytes(info).emoji_indices]

        Sas._mac_normal = "hkdf-hmac-sha256.v2"
        Sas._mac_v1 = [Sas._mac_normal]
        Sas.from_key_verification_start = from_key_verification_start
        Sas._check_commitment = check_commitment
        Sas._generate_emoji = generate_emoji


async def until(what, probe):
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain until {what}")
        await asyncio.sleep(0.05)
    return found


def accepted(response):
    if isinstance(response, ErrorResponse):
        raise RuntimeError(str(response))
    return response


class Commands:
    def __init__(self, folder):
        self.folder = folder
        self.client = None
        self.syncing = None
        self.events = {}
        self.redacted = set()
        self.to_device = []

    async def _start(self, server, account, password, log_in):
        config = AsyncClientConfig(encryption_enabled=True)
        self.client = AsyncClient(server, account, store_path=self.folder, config=config)
        accepted(await log_in(self.client, password))
        self.client.add_event_callback(self._seen, (RoomMessageText, MegolmEvent, RedactedEvent))
        self.client.add_event_callback(self._seen_redaction, RedactionEvent)
        self.client.add_to_device_callback(self._seen_to_device, UnknownToDeviceEvent)
        self.syncing = asyncio.create_task(self.client.sync_forever(timeout=10_000, full_state=True))
        await self.client.synced.wait()
        # The device's own keys are announced by the first turn of the sync.
        await until("the keys are announced", lambda: not self.client.should_upload_keys)
        return {"user": self.client.user_id, "device": self.client.device_id}

    async def _seen(self, room, event):
        self.events.setdefault(room.room_id, {})[event.event_id] = event

    async def _seen_redaction(self, _room, event):
        self.redacted.add(event.redacts)

    async def _seen_to_device(self, event):
        self.to_device.append(event)

    def _described(self, event):
        return {
            "event": event.event_id,
            "sender": event.sender,
            "body": getattr(event, "body", None),
            "encrypted": event.decrypted or isinstance(event, MegolmEvent),
            "readable": not isinstance(event, MegolmEvent),
            "from_verified_device": event.verified,
        }

    async def register(self, server, account, password):
        return await self._start(server, account, password, lambda client, word: client.register(account, word))

    async def login(self, server, account, password):
        return await self._start(server, account, password, lambda client, word: client.login(word, "matrix-nio"))

    async def create(self, invite, name=None, direct=False):
        created = await self.client.room_create(
            name=name, invite=invite, is_direct=direct, initial_state=[ENCRYPTION]
        )
        room = accepted(created).room_id
        await until("the room is encrypted", lambda: room in self.client.rooms and self.client.rooms[room].encrypted)
        return room

    async def invite(self, room, user):
        accepted(await self.client.room_invite(room, user))

    async def join(self, room):
        await until("the invitation has come", lambda: room in self.client.invited_rooms)
        accepted(await self.client.join(room))
        await until("the room is joined", lambda: room in self.client.rooms and self.client.rooms[room].encrypted)

    async def joined(self, room, user):
        """Waits until somebody is in the room and their devices are known."""
        await until(f"{user} is in the room", lambda: user in self.client.rooms[room].users)
        await until(f"the devices of {user} are known", lambda: user in self.client.device_store.users)

    async def send(self, room, body, only_verified=False):
        """Sends a message; to devices that are not verified too, unless told otherwise."""
        content = {"msgtype": "m.text", "body": body}
        sent = await self.client.room_send(
            room, "m.room.message", content, ignore_unverified_devices=not only_verified
        )
        return accepted(sent).event_id

    async def refuses_to_send(self, room, body):
        """Whether the library refuses to send to a room with devices that are not verified."""
        try:
            await self.send(room, body, only_verified=True)
        except OlmUnverifiedDeviceError:
            return True
        return False

    async def redact(self, room, event):
        accepted(await self.client.room_redact(room, event))

    async def wait_for(self, room, body):
        def found():
            events = self.events.get(room, {}).values()
            return next((event for event in events if getattr(event, "body", None) == body), None)

        return self._described(await until(f'"{body}" has come', found))

    async def wait_for_redaction(self, room, event):
        await until(f"{event} is redacted", lambda: event in self.redacted)

    async def messages(self, room):
        return [self._described(event) for event in self.events.get(room, {}).values()]

    async def request_keys(self, room):
        """Asks the other devices of one's own for the keys of what can't be read, and decrypts with what comes."""
        events = self.events.get(room, {})
        missing = [event for event in events.values() if isinstance(event, MegolmEvent)]
        for event in {event.session_id: event for event in missing}.values():
            accepted(await self.client.request_room_key(event))

        def decrypted(event):
            try:
                return self.client.decrypt_event(event)
            except EncryptionError:
                return None

        for event in missing:
            events[event.event_id] = await until("the key has come", lambda event=event: decrypted(event))

    async def fingerprint(self):
        return self.client.olm.account.identity_keys["ed25519"]

    async def devices(self, user):
        devices = await until(f"devices of {user}", lambda: self.client.device_store[user])
        return {
            id: {"ed25519": device.ed25519, "verified": device.verified} for id, device in devices.items()
        }

    async def verify_fingerprint(self, user, device, ed25519):
        """Verifies a device by its fingerprint, as read out by its owner."""
        known = await until(f"{device} is known", lambda: self.client.device_store[user].get(device))
        if known.ed25519 != ed25519:
            raise ValueError(f"{device} has the fingerprint {known.ed25519}, not {ed25519}")
        self.client.verify_device(known)

    async def mend_sas(self):
        StandardSas.install()

    async def _tell(self, kind, device, transaction, content):
        content = {"transaction_id": transaction, **content}
        message = ToDeviceMessage(kind, self.client.user_id, device, content)
        accepted(await self.client.to_device(message))

    async def _heard(self, kind, transaction=None):
        def matches(event):
            content = event.source["content"]
            return event.type == kind and transaction in (None, content["transaction_id"])

        event = await until(f"{kind} has come", lambda: next(filter(matches, self.to_device), None))
        self.to_device.remove(event)
        return event.source["content"]

    def _offer(self):
        return {"from_device": self.client.device_id, "methods": [METHOD]}

    async def _compare(self, sas):
        def has_key():
            if sas.canceled or sas.transaction_id not in self.client.key_verifications:
                raise RuntimeError("the other side cancelled")
            return sas.state in (SasState.key_received, SasState.mac_received)

        await until("the other side's key has come", has_key)
        # Our own key is sent by the sync; the code may not overtake it.
        await until("our key is sent", lambda: not self.client.outgoing_to_device_messages)
        emojis = [symbol for symbol, _ in sas.get_emoji()]
        accepted(await self.client.confirm_short_auth_string(sas.transaction_id))
        await until("the other side's code has come", lambda: sas.verified or sas.canceled)
        if not sas.verified:
            raise RuntimeError(f"cancelled: {sas.cancel_code}")
        await self._tell("m.key.verification.done", sas.other_olm_device.id, sas.transaction_id, {})
        await until("the device is verified", lambda: sas.other_olm_device.verified)
        return {"user": sas.other_olm_device.user_id, "emojis": emojis}

    async def accept_verification(self):
        """Waits for the request of another device of one's own and accepts it."""
        request = await self._heard(REQUEST)
        transaction, device = request["transaction_id"], request["from_device"]
        await until(f"{device} is known", lambda: device in self.client.device_store[self.client.user_id])
        await self._tell(READY, device, transaction, self._offer())
        sas = await until("the other side starts", lambda: self.client.key_verifications.get(transaction))
        accepted(await self.client.accept_key_verification(transaction))
        return await self._compare(sas)

    async def verify(self, device):
        """Asks another device of one's own."""
        transaction, me = uuid.uuid4().hex, self.client.user_id
        known = await until(f"{device} is known", lambda: self.client.device_store[me].get(device))
        asked = {**self._offer(), "timestamp": int(time.time() * 1000)}
        await self._tell(REQUEST, device, transaction, asked)
        await self._heard(READY, transaction)
        sas = Sas(me, self.client.device_id, await self.fingerprint(), known, transaction)
        self.client.key_verifications[transaction] = sas
        accepted(await self.client.to_device(sas.start_verification()))
        return await self._compare(sas)

    async def logout(self):
        self.syncing.cancel()
        accepted(await self.client.logout())

    async def close(self):
        if self.syncing:
            self.syncing.cancel()
        if self.client:
            await self.client.close()


async def main():
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with tempfile.TemporaryDirectory() as folder:
        commands = Commands(folder)
        while line := await asyncio.to_thread(sys.stdin.readline):
            given = json.loads(line)
            logging.info("%s", given)
            try:
                answer = {"ok": await getattr(commands, given.pop("do"))(**given)}
            except Exception as error:  # whatever it is, the test is to see it
                logging.exception("the command failed")
                answer = {"error": repr(error)}
            print(json.dumps(answer), flush=True)
        await commands.close()


asyncio.run(main())
