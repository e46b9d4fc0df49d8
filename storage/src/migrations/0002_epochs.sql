-- Epochs: what the database says of its own past.

-- The epochs of this database; the one with the highest pos holds. One begins when the database is made, and another
-- whenever the database is known to have been taken back to an earlier state, or that must be feared. number: random, so
-- that the number of an epoch that was lost is never given again. pos: the head of the log when it began. reason: why, in words.
CREATE TABLE epochs(
    number BIGINT NOT NULL PRIMARY KEY,
    pos BIGINT NOT NULL,
    ts BIGINT NOT NULL,
    reason TEXT NOT NULL
); -- clustered

INSERT INTO epochs(number, pos, ts, reason)
    SELECT CAST(value AS BIGINT), 0, 0, 'the database was made' FROM meta WHERE key = 'epoch';
DELETE FROM meta WHERE key = 'epoch';
