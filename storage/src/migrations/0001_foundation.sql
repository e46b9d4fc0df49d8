-- The foundation: log, users, rooms, keys.
-- Every table says what it is for. Users, rooms, devices and events are interned: a *_pk is our own number.
-- "clustered": read by its primary key in ranges (a table without rowid on SQLite). "heap": found by several indexes.

-- Values of the database as a whole: signing key, the server's name, by what the database is recognized.
CREATE TABLE meta(
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
); -- clustered

-- One row: the position of the newest log entry. Its lock orders all writers.
CREATE TABLE head(
    one BIGINT NOT NULL PRIMARY KEY,
    pos BIGINT NOT NULL
); -- heap
INSERT INTO head(one, pos) VALUES (1, 0);

-- The number of each replica's last batch: settles whether a commit with a broken connection happened.
CREATE TABLE writers(
    replica TEXT NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL
); -- clustered

-- Counters from which processes reserve numbers in blocks.
CREATE TABLE counters(
    name TEXT NOT NULL PRIMARY KEY,
    next BIGINT NOT NULL
); -- clustered

-- The ordered log; see the module of this name.
CREATE TABLE log(
    pos BIGINT NOT NULL PRIMARY KEY,
    kind BIGINT NOT NULL,
    scope BIGINT NOT NULL,
    object BIGINT NOT NULL
); -- heap

-- Users, ours and others', by number.
CREATE TABLE users(
    user_pk BIGINT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE
); -- heap

-- Accounts on this server. kind: 0 user, 1 guest. password_hash is null where nobody can log in by password.
CREATE TABLE accounts(
    user_pk BIGINT NOT NULL PRIMARY KEY,
    password_hash TEXT,
    kind BIGINT NOT NULL,
    admin BIGINT NOT NULL,
    deactivated BIGINT NOT NULL,
    created_ts BIGINT NOT NULL
); -- heap

-- Registration tokens. uses_left is null where there is no limit; admin: the account made by it is an administrator.
CREATE TABLE registration_tokens(
    token TEXT NOT NULL PRIMARY KEY,
    uses_left BIGINT,
    expires_ts BIGINT,
    admin BIGINT NOT NULL
); -- heap

-- User-interactive authentication under way: what was asked and which stages are done.
CREATE TABLE uia_sessions(
    session TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    expires_ts BIGINT NOT NULL
); -- heap
CREATE INDEX uia_sessions_expires ON uia_sessions(expires_ts);

-- Devices.
CREATE TABLE devices(
    device_pk BIGINT NOT NULL PRIMARY KEY,
    user_pk BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    display_name TEXT,
    created_ts BIGINT NOT NULL,
    last_seen_ts BIGINT,
    UNIQUE (user_pk, device_id)
); -- heap

-- Access tokens, by their SHA-256. refresh_hash: the refresh token that came with it. fresh: issued by a refresh and
-- not used yet; at the first use of the pair the device's older tokens go.
CREATE TABLE access_tokens(
    token_hash BYTEA NOT NULL PRIMARY KEY,
    user_pk BIGINT NOT NULL,
    device_pk BIGINT NOT NULL,
    expires_ts BIGINT,
    refresh_hash BYTEA,
    fresh BIGINT NOT NULL
); -- heap
CREATE INDEX access_tokens_device ON access_tokens(device_pk);
CREATE INDEX access_tokens_user ON access_tokens(user_pk);

-- Refresh tokens, by their SHA-256.
CREATE TABLE refresh_tokens(
    token_hash BYTEA NOT NULL PRIMARY KEY,
    user_pk BIGINT NOT NULL,
    device_pk BIGINT NOT NULL,
    expires_ts BIGINT NOT NULL
); -- heap
CREATE INDEX refresh_tokens_expires ON refresh_tokens(expires_ts);
CREATE INDEX refresh_tokens_device ON refresh_tokens(device_pk);

-- Short-lived tokens for m.login.token, by their SHA-256; used once.
CREATE TABLE login_tokens(
    token_hash BYTEA NOT NULL PRIMARY KEY,
    user_pk BIGINT NOT NULL,
    expires_ts BIGINT NOT NULL
); -- heap
CREATE INDEX login_tokens_expires ON login_tokens(expires_ts);

-- Profile fields, displayname and avatar_url among them; value is JSON.
CREATE TABLE profiles(
    user_pk BIGINT NOT NULL,
    field TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (user_pk, field)
); -- clustered

-- Account data, global (room_pk 0) or of a room. content is null where it was deleted.
CREATE TABLE account_data(
    user_pk BIGINT NOT NULL,
    room_pk BIGINT NOT NULL,
    kind TEXT NOT NULL,
    content TEXT,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_pk, room_pk, kind)
); -- clustered
CREATE INDEX account_data_pos ON account_data(user_pk, pos);

-- Filters that clients stored.
CREATE TABLE filters(
    user_pk BIGINT NOT NULL,
    filter_id BIGINT NOT NULL,
    definition TEXT NOT NULL,
    PRIMARY KEY (user_pk, filter_id)
); -- clustered

-- Rooms. root: the tree of the current state. guard: counts the appends, so that a write planned on an older room is
-- noticed. extremities: the events that no other follows yet, divided by commas: few, and always read and written with
-- the room. related: events of this depth and more have no others that are bundled with them. published: in the
-- directory.
CREATE TABLE rooms(
    room_pk BIGINT NOT NULL PRIMARY KEY,
    room_id TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    root BIGINT NOT NULL,
    guard BIGINT NOT NULL,
    depth BIGINT NOT NULL,
    related BIGINT NOT NULL,
    extremities TEXT NOT NULL,
    published BIGINT NOT NULL DEFAULT 0
); -- heap

-- Events. pos is null for outliers, rejected and soft-failed events. root: the tree of the state before the event.
-- flags: 1 outlier, 2 rejected, 4 soft-failed, 8 history (came by backfill), 16 redacted. txn_id: what the client that
-- sent it from device_pk called it, for that client only.
-- before_pos: of history, the position of the event in the timeline before which it belongs.
CREATE TABLE events(
    event_pk BIGINT NOT NULL PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    room_pk BIGINT NOT NULL,
    pos BIGINT,
    depth BIGINT NOT NULL,
    root BIGINT NOT NULL,
    flags BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    before_pos BIGINT,
    device_pk BIGINT,
    txn_id TEXT
); -- heap
CREATE INDEX events_history ON events(room_pk, before_pos, depth, event_pk) WHERE before_pos IS NOT NULL;
CREATE UNIQUE INDEX events_pos ON events(room_pk, pos) WHERE pos IS NOT NULL;
CREATE INDEX events_depth ON events(room_pk, depth, event_pk);

-- The events themselves, as federation knows them.
CREATE TABLE event_json(
    event_pk BIGINT NOT NULL PRIMARY KEY,
    json TEXT NOT NULL
); -- heap

-- Where the graph has gaps: events that another one follows and that are not here, or only as outliers.
CREATE TABLE gaps(
    room_pk BIGINT NOT NULL,
    prev_id TEXT NOT NULL,
    event_pk BIGINT NOT NULL,
    PRIMARY KEY (room_pk, prev_id, event_pk)
); -- clustered

-- Which event redacted an event, by the target's id, which may not have come yet.
CREATE TABLE redactions(
    target_id TEXT NOT NULL,
    event_pk BIGINT NOT NULL,
    room_pk BIGINT NOT NULL,
    applied BIGINT NOT NULL,
    PRIMARY KEY (target_id, event_pk)
); -- clustered

-- Events that relate to another one (edits, reactions, threads, references).
CREATE TABLE relations(
    room_pk BIGINT NOT NULL,
    target_id TEXT NOT NULL,
    rel_type TEXT NOT NULL,
    event_pk BIGINT NOT NULL,
    kind TEXT NOT NULL,
    sender_pk BIGINT NOT NULL,
    PRIMARY KEY (room_pk, target_id, rel_type, event_pk)
); -- clustered

-- A room's state keys, numbered densely: the tree's keys.
CREATE TABLE state_keys(
    room_pk BIGINT NOT NULL,
    state_index BIGINT NOT NULL,
    kind TEXT NOT NULL,
    state_key TEXT NOT NULL,
    PRIMARY KEY (room_pk, state_index)
); -- clustered

-- Nodes of the state trees; a child's number is smaller than its parent's.
CREATE TABLE state_nodes(
    node_id BIGINT NOT NULL PRIMARY KEY,
    room_pk BIGINT NOT NULL,
    body BYTEA NOT NULL
); -- heap
CREATE INDEX state_nodes_room ON state_nodes(room_pk, node_id);

-- The current state's tree after each change, so that the state at any position can be told.
CREATE TABLE room_states(
    room_pk BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    root BIGINT NOT NULL,
    PRIMARY KEY (room_pk, pos)
); -- clustered

-- The current membership of each user in each room. membership: 1 invite, 2 join, 3 leave, 4 ban, 5 knock.
-- stripped: the state that came with an invite or knock. forgotten: the user does not want to see the room again.
CREATE TABLE memberships(
    user_pk BIGINT NOT NULL,
    room_pk BIGINT NOT NULL,
    membership BIGINT NOT NULL,
    event_pk BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    forgotten BIGINT NOT NULL DEFAULT 0,
    stripped TEXT,
    PRIMARY KEY (user_pk, room_pk)
); -- clustered
CREATE INDEX memberships_room ON memberships(room_pk, membership, user_pk);
CREATE INDEX memberships_pos ON memberships(user_pk, pos);

-- All memberships that were, for device lists and for rooms that were left and joined again between two syncs.
CREATE TABLE membership_history(
    room_pk BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    user_pk BIGINT NOT NULL,
    membership BIGINT NOT NULL,
    event_pk BIGINT NOT NULL,
    PRIMARY KEY (room_pk, pos, user_pk)
); -- clustered
CREATE INDEX membership_history_user ON membership_history(user_pk, room_pk, pos);

-- Aliases of this server's rooms.
CREATE TABLE aliases(
    alias TEXT NOT NULL PRIMARY KEY,
    room_pk BIGINT NOT NULL,
    creator_pk BIGINT NOT NULL
); -- heap
CREATE INDEX aliases_room ON aliases(room_pk);

-- Receipts. kind: 1 m.read, 2 m.read.private, 3 m.fully_read. thread: '' without one, 'main', or its root's id.
-- event_pos: the position of the event, by which receipts are compared (0 when it is not here).
CREATE TABLE receipts(
    room_pk BIGINT NOT NULL,
    user_pk BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    thread TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_pos BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (room_pk, user_pk, kind, thread)
); -- clustered
CREATE INDEX receipts_pos ON receipts(room_pk, pos);
CREATE INDEX receipts_user ON receipts(user_pk, pos);

-- Checkpoints of unread counts: the events up to upto_pos are counted.
CREATE TABLE unread(
    user_pk BIGINT NOT NULL,
    room_pk BIGINT NOT NULL,
    thread TEXT NOT NULL,
    notify BIGINT NOT NULL,
    highlight BIGINT NOT NULL,
    upto_pos BIGINT NOT NULL,
    PRIMARY KEY (user_pk, room_pk, thread)
); -- clustered

-- What a device's transaction id stands for: scope is the endpoint with its path, answer what was answered.
CREATE TABLE transaction_ids(
    device_pk BIGINT NOT NULL,
    scope TEXT NOT NULL,
    txn_id TEXT NOT NULL,
    answer TEXT NOT NULL,
    ts BIGINT NOT NULL,
    PRIMARY KEY (device_pk, scope, txn_id)
); -- clustered
CREATE INDEX transaction_ids_ts ON transaction_ids(ts);

-- Device keys as uploaded (signatures by others apart).
CREATE TABLE device_keys(
    device_pk BIGINT NOT NULL PRIMARY KEY,
    user_pk BIGINT NOT NULL,
    json TEXT NOT NULL
); -- heap
CREATE INDEX device_keys_user ON device_keys(user_pk);

-- One-time keys that nobody claimed yet; claimed in the order of key_pk, that is of their upload.
CREATE TABLE one_time_keys(
    key_pk BIGINT NOT NULL PRIMARY KEY,
    device_pk BIGINT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id TEXT NOT NULL,
    json TEXT NOT NULL,
    UNIQUE (device_pk, algorithm, key_id)
); -- heap
CREATE INDEX one_time_keys_oldest ON one_time_keys(device_pk, algorithm, key_pk);

-- The ledger of one-time keys that were handed out: none of them may be stored again. Hashes (SHA-256 as
-- unpadded base64), so that the ledger holds no keys.
CREATE TABLE issued_one_time_keys(
    device_pk BIGINT NOT NULL,
    id_hash TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    PRIMARY KEY (device_pk, id_hash)
); -- clustered

-- Fallback keys: one for each algorithm of a device.
CREATE TABLE fallback_keys(
    device_pk BIGINT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id TEXT NOT NULL,
    json TEXT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (device_pk, algorithm)
); -- clustered

-- Cross-signing keys. usage: master, self_signing or user_signing. public_key: its unpadded base64.
CREATE TABLE cross_signing_keys(
    user_pk BIGINT NOT NULL,
    usage TEXT NOT NULL,
    public_key TEXT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (user_pk, usage)
); -- clustered

-- Signatures made later on device keys and cross-signing keys. target: a device id or a public key.
CREATE TABLE key_signatures(
    target_user_pk BIGINT NOT NULL,
    target TEXT NOT NULL,
    signer_user_pk BIGINT NOT NULL,
    signer_key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (target_user_pk, target, signer_user_pk, signer_key_id)
); -- clustered

-- The last change of each user's device list.
CREATE TABLE device_list_changes(
    user_pk BIGINT NOT NULL PRIMARY KEY,
    pos BIGINT NOT NULL
); -- heap
CREATE INDEX device_list_changes_pos ON device_list_changes(pos);

-- Versions of key backups. deleted ones keep their number so that it is not given again.
CREATE TABLE backups(
    user_pk BIGINT NOT NULL,
    version BIGINT NOT NULL,
    algorithm TEXT NOT NULL,
    auth_data TEXT NOT NULL,
    etag BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    PRIMARY KEY (user_pk, version)
); -- clustered

-- Backed-up sessions.
CREATE TABLE backup_sessions(
    user_pk BIGINT NOT NULL,
    version BIGINT NOT NULL,
    room_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    first_message_index BIGINT NOT NULL,
    forwarded_count BIGINT NOT NULL,
    is_verified BIGINT NOT NULL,
    session_data TEXT NOT NULL,
    PRIMARY KEY (user_pk, version, room_id, session_id)
); -- clustered

-- To-device messages that wait for their device to acknowledge them.
CREATE TABLE to_device(
    device_pk BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (device_pk, pos)
); -- clustered
