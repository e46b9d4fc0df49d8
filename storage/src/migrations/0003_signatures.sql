-- Signatures that only their makers see.

-- What changed for one user alone: somebody's key that they signed (target_pk: whose), or their own user-signing key
-- (target_pk: themselves). Everybody else who shares a room reads device_list_changes.
CREATE TABLE signature_changes(
    user_pk BIGINT NOT NULL,
    target_pk BIGINT NOT NULL,
    pos BIGINT NOT NULL,
    PRIMARY KEY (user_pk, target_pk)
); -- clustered
