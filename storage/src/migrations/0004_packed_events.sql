-- Events in fewer bytes.

-- The events themselves, as federation knows them, in the form of storage::rooms::packed. JSON is a packed form already.
CREATE TABLE event_bodies(
    event_pk BIGINT NOT NULL PRIMARY KEY,
    body BYTEA NOT NULL
); -- heap

INSERT INTO event_bodies(event_pk, body) SELECT event_pk, convert_to(json, 'UTF8') FROM event_json;
DROP TABLE event_json;
