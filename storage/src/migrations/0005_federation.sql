-- Other servers: their keys, what waits for them, and how they fare.

-- Public keys of other servers. valid_until_ts: events up to this time may be signed with the key.
CREATE TABLE server_keys(
    server TEXT NOT NULL,
    key_id TEXT NOT NULL,
    public_key TEXT NOT NULL,
    valid_until_ts BIGINT NOT NULL,
    PRIMARY KEY (server, key_id)
); -- clustered

-- The newest document in which a server published its keys, as it signed it: a notary passes it on.
CREATE TABLE server_key_documents(
    server TEXT NOT NULL PRIMARY KEY,
    json TEXT NOT NULL,
    valid_until_ts BIGINT NOT NULL,
    fetched_ts BIGINT NOT NULL
); -- heap

-- Keys with which this server signed once.
CREATE TABLE old_signing_keys(
    key_id TEXT NOT NULL PRIMARY KEY,
    public_key TEXT NOT NULL,
    expired_ts BIGINT NOT NULL
); -- clustered

-- Servers that do not answer. retry_ts: when they are asked again; interval_ms: how long was waited for that.
CREATE TABLE destinations(
    server TEXT NOT NULL PRIMARY KEY,
    failing_since_ts BIGINT NOT NULL,
    retry_ts BIGINT NOT NULL,
    interval_ms BIGINT NOT NULL
); -- clustered

-- Servers that have not got every event of this server. since_pos: they have those up to it.
CREATE TABLE backlog(
    server TEXT NOT NULL PRIMARY KEY,
    since_pos BIGINT NOT NULL
); -- clustered

-- EDUs that must not be lost (to-device messages, device lists), until their server has them.
CREATE TABLE outbox(
    server TEXT NOT NULL,
    pos BIGINT NOT NULL,
    edu TEXT NOT NULL,
    PRIMARY KEY (server, pos)
); -- clustered
CREATE INDEX outbox_pos ON outbox(pos);

-- Finds the users of a server.
CREATE INDEX users_server ON users(substr(user_id, strpos(user_id, ':') + 1));
