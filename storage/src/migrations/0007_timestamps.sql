-- Finding events by their time; tokens that show others who a user is.

-- Outliers, rejected and soft-failed events are not found.
CREATE INDEX events_ts ON events(room_pk, ts, depth) WHERE flags & 7 = 0;

-- Tokens by which a third party may ask who somebody is, by their SHA-256.
CREATE TABLE openid_tokens(
    token_hash BYTEA NOT NULL PRIMARY KEY,
    user_pk BIGINT NOT NULL,
    expires_ts BIGINT NOT NULL
); -- heap
CREATE INDEX openid_tokens_expires ON openid_tokens(expires_ts);
CREATE INDEX openid_tokens_user ON openid_tokens(user_pk);
