// One device of matrix-js-sdk, driven by the tests of myelin-client.
//
// A command is one line of JSON on standard input, `{"do": NAME, ...arguments}`; its answer is one line on
// standard output, `{"ok": VALUE}` or `{"error": TEXT}`. The names are the functions of `commands` below. What
// the library logs goes to standard error. Everything is in memory: the process is the device.

import { Console } from "node:console";
import { createInterface } from "node:readline";

// Before the library is loaded, which takes hold of the console.
globalThis.console = new Console(process.stderr, process.stderr);
const sdk = await import("matrix-js-sdk");
const { decodeRecoveryKey, VerificationPhase, VerifierEvent, CryptoEvent } =
    await import("matrix-js-sdk/lib/crypto-api/index.js");

const PATIENCE = 60_000;
const SAS = "m.sas.v1";

let client;
// The secret storage's key, once it was made or given.
let storageKey;
// Requests for verification that have come.
const requests = [];

const until = async (what, probe) => {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
        const found = await probe();
        if (found) return found;
        if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
};

const start = async (server, { user_id: userId, device_id: deviceId, access_token: accessToken }) => {
    client = sdk.createClient({
        baseUrl: server,
        userId,
        deviceId,
        accessToken,
        verificationMethods: [SAS],
        cryptoCallbacks: {
            getSecretStorageKey: async ({ keys }) => storageKey && [Object.keys(keys)[0], storageKey],
        },
    });
    await client.initRustCrypto({ useIndexedDB: false });
    client.on(CryptoEvent.VerificationRequestReceived, (request) => requests.push(request));
    await client.startClient({ initialSyncLimit: 50 });
    await until("the first sync is done", () => client.isInitialSyncComplete());
    await until("the device's keys are announced", async () => {
        const devices = await client.getCrypto().getUserDeviceInfo([userId], true);
        return devices.get(userId)?.has(deviceId);
    });
    return { user: userId, device: deviceId };
};

const room = (id) => until(`${id} is known`, () => client.getRoom(id));

const described = async (event) => {
    const info = await client.getCrypto().getEncryptionInfoForEvent(event);
    return {
        event: event.getId(),
        sender: event.getSender(),
        body: event.isDecryptionFailure() ? null : (event.getContent().body ?? null),
        encrypted: event.isEncrypted(),
        readable: !event.isDecryptionFailure(),
        redacted: event.isRedacted(),
        // 0 is nothing to warn of, 1 grey, 2 red.
        shield: info?.shieldColour ?? 0,
    };
};

const messages = async (id) => {
    const events = (await room(id)).getLiveTimeline().getEvents();
    await Promise.all(events.map((event) => client.decryptEventIfNeeded(event)));
    return events.filter(
        (event) =>
            ["m.room.message", "m.room.encrypted"].includes(event.getType()) &&
            event.getContent().msgtype !== "m.key.verification.request",
    );
};

// Goes through the comparison of emojis, which the test makes: it sees those of both sides.
const compare = async (request) => {
    const { otherUserId: user } = request;
    await until("the other side is ready", () => {
        if (request.phase === VerificationPhase.Cancelled) throw new Error(`cancelled: ${request.cancellationCode}`);
        return request.phase >= VerificationPhase.Ready;
    });
    const verifier = request.initiatedByMe
        ? await request.startVerification(SAS)
        : await until("the other side starts", () => request.verifier);
    let emojis;
    verifier.on(VerifierEvent.ShowSas, (shown) => {
        emojis = shown.sas.emoji.map(([symbol]) => symbol);
        shown.confirm();
    });
    await verifier.verify();
    await until("the verification is done", () => request.phase === VerificationPhase.Done);
    return { user, emojis };
};

const commands = {
    async register({ server, account, password }) {
        const auth = { type: "m.login.dummy" };
        const registered = await sdk.createClient({ baseUrl: server }).registerRequest({ username: account, password, auth });
        return start(server, registered);
    },

    async login({ server, account, password }) {
        const identifier = { type: "m.id.user", user: account };
        const login = { type: "m.login.password", identifier, password, initial_device_display_name: "matrix-js-sdk" };
        return start(server, await sdk.createClient({ baseUrl: server }).loginRequest(login));
    },

    async logout() {
        await client.logout(true);
        client = undefined;
    },

    // Makes the cross-signing keys; the server may want to see the password.
    async cross_sign({ account, password }) {
        await client.getCrypto().bootstrapCrossSigning({
            authUploadDeviceSigningKeys: async (upload) => {
                try {
                    await upload(null);
                } catch (error) {
                    const { session } = error.data ?? {};
                    if (!session) throw error;
                    const identifier = { type: "m.id.user", user: account };
                    await upload({ type: "m.login.password", identifier, password, session });
                }
            },
        });
    },

    // Makes secret storage and key backup; answers the recovery key.
    async enable_recovery() {
        const crypto = client.getCrypto();
        const key = await crypto.createRecoveryKeyFromPassphrase();
        storageKey = key.privateKey;
        await crypto.bootstrapSecretStorage({
            createSecretStorageKey: async () => key,
            setupNewSecretStorage: true,
            setupNewKeyBackup: true,
        });
        await until("secret storage is complete", () => crypto.isSecretStorageReady());
        return key.encodedPrivateKey;
    },

    // Waits until so many room keys are in the backup. (The library's own call answers what it knew at first.)
    async backed_up({ count }) {
        const prefix = "/_matrix/client/v3";
        await until(`${count} keys are in the backup`, async () => {
            const info = await client.http.authedRequest("GET", "/room_keys/version", undefined, undefined, { prefix });
            return info.count >= count;
        });
    },

    // Takes the cross-signing keys out of secret storage and the room keys out of the backup.
    async restore({ key }) {
        const crypto = client.getCrypto();
        storageKey = decodeRecoveryKey(key);
        await crypto.bootstrapCrossSigning({});
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto.checkKeyBackupAndEnable();
        return crypto.restoreKeyBackup();
    },

    // The same with the backup's key that another device has handed over.
    async restore_with_shared_key() {
        const crypto = client.getCrypto();
        await until("the backup's key has come", () => crypto.getSessionBackupPrivateKey());
        await until("the backup is trusted", async () => {
            const checked = await crypto.checkKeyBackupAndEnable();
            return checked?.trustInfo.matchesDecryptionKey;
        });
        return crypto.restoreKeyBackup();
    },

    async create({ name, invite, direct }) {
        const { room_id: id } = await client.createRoom({
            name,
            invite,
            is_direct: direct,
            preset: "trusted_private_chat",
            initial_state: [
                { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } },
            ],
        });
        await until("the room is encrypted", () => client.getRoom(id)?.hasEncryptionStateEvent());
        return id;
    },

    async invite({ room: id, user }) {
        await client.invite(id, user);
    },

    async join({ room: id }) {
        await until("the invitation has come", () => client.getRoom(id)?.getMyMembership() === "invite");
        await client.joinRoom(id);
        await until("the room is joined", () => client.getRoom(id).getMyMembership() === "join");
    },

    // Waits until somebody is in the room, so that the next message is encrypted for them too.
    async joined({ room: id, user }) {
        await until(`${user} is in the room`, () => client.getRoom(id)?.getMember(user)?.membership === "join");
    },

    async send({ room: id, body }) {
        const { event_id: event } = await client.sendTextMessage(id, body);
        return event;
    },

    async redact({ room: id, event }) {
        await client.redactEvent(id, event);
    },

    // Waits for a message with this body, and tells all about it.
    async wait_for({ room: id, body }) {
        return until(`"${body}" has come`, async () => {
            const events = await messages(id);
            const found = events.find((event) => !event.isDecryptionFailure() && event.getContent().body === body);
            return found && described(found);
        });
    },

    // Waits until an event has been redacted.
    async wait_for_redaction({ room: id, event }) {
        await until(`${event} is redacted`, async () => (await room(id)).findEventById(event)?.isRedacted());
    },

    async messages({ room: id }) {
        await client.scrollback(await room(id), 100);
        return Promise.all((await messages(id)).map(described));
    },

    // What this device thinks of a user and of their devices.
    async trust({ user }) {
        const crypto = client.getCrypto();
        const devices = {};
        for (const [id, device] of (await crypto.getUserDeviceInfo([user], true)).get(user) ?? []) {
            const status = await crypto.getDeviceVerificationStatus(user, id);
            devices[id] = {
                ed25519: device.getFingerprint(),
                signed_by_owner: status.signedByOwner,
                verified: status.isVerified(),
            };
        }
        return { verified: (await crypto.getUserVerificationStatus(user)).isCrossSigningVerified(), devices };
    },

    // Waits until a user's identity is verified: the signature goes to the server and comes back.
    async wait_until_verified({ user }) {
        await until(`${user} is verified`, async () => {
            const status = await client.getCrypto().getUserVerificationStatus(user);
            return status.isCrossSigningVerified();
        });
    },

    // Waits until this device has the private cross-signing keys.
    async wait_for_identity() {
        await until("the cross-signing keys are here", async () => {
            const { privateKeysCachedLocally: keys } = await client.getCrypto().getCrossSigningStatus();
            return keys.masterKey && keys.selfSigningKey && keys.userSigningKey;
        });
    },

    // Asks a user in a direct chat, or (without a room) the other devices of one's own.
    async verify({ user, room: id }) {
        const crypto = client.getCrypto();
        return compare(id ? await crypto.requestVerificationDM(user, id) : await crypto.requestOwnUserVerification());
    },

    // Waits for a request and accepts it.
    async accept_verification() {
        const isOpen = (request) => request.phase === VerificationPhase.Requested;
        const request = await until("a request has come", () => requests.find(isOpen));
        await request.accept();
        return compare(request);
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    const { do: name, ...given } = JSON.parse(line);
    let answer;
    try {
        answer = { ok: (await commands[name](given)) ?? null };
    } catch (error) {
        console.error(error);
        answer = { error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
}
client?.stopClient();
process.exit(0);
