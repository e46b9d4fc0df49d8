-- Device lists across the border: ours as others follow them, and theirs as we keep them.

-- link: the position of the newest link of the chain in which other servers follow a user's devices.
ALTER TABLE device_list_changes ADD COLUMN link BIGINT NOT NULL DEFAULT 0;

-- The links of these chains while the log knows them: which device changed, and which link came before (0: none).
CREATE TABLE device_list_links(
    pos BIGINT NOT NULL PRIMARY KEY,
    user_pk BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    prev_pos BIGINT NOT NULL
); -- heap

-- Device lists of other servers' users that are kept. stream_id: the newest change in them, by their server's count;
-- null where it is not known. stale: a change was missed. since_pos: they were fetched when the log was here.
CREATE TABLE remote_device_lists(
    user_pk BIGINT NOT NULL PRIMARY KEY,
    stream_id BIGINT,
    stale BIGINT NOT NULL,
    since_pos BIGINT NOT NULL,
    master_key TEXT,
    self_signing_key TEXT
); -- heap

-- Their devices. json: the keys without what is unsigned.
CREATE TABLE remote_devices(
    user_pk BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    display_name TEXT,
    json TEXT NOT NULL,
    PRIMARY KEY (user_pk, device_id)
); -- clustered

-- about: what an EDU tells of, so that a later one takes its place: a user's devices (the user's number), a user's
-- cross-signing keys (minus that number), or nothing that another one could (0).
ALTER TABLE outbox ADD COLUMN about BIGINT NOT NULL DEFAULT 0;
CREATE INDEX outbox_about ON outbox(about, server) WHERE about <> 0;
