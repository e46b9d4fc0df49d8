-- Finds the rooms that the directory shows, which are few among all.
CREATE INDEX rooms_published ON rooms(published, room_pk) WHERE published = 1;
