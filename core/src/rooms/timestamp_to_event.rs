//! The event of a room that is nearest to a moment, before or behind it.
//!
//! Where history is missing around that moment, other servers of the room are asked too, and what they name is fetched
//! into the history, so that a client can read on from there.

use crate::error::{Error, Result};
use crate::rooms::cache::{Room, Stored};
use crate::rooms::serialize::Reader;
use crate::server::Server;
use myelin_storage::rooms::{events, gaps};
use ruma::{OwnedEventId, RoomId, ServerName};
use std::sync::Arc;

/// Events that are looked at until one may be seen.
const LOOKED_AT: i64 = 50;

/// A moment, and on which side of it the event is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the Unix epoch, by the clock of each event's server.
    pub ts: i64,
    /// Before the moment, rather than behind it. Either way the moment itself counts.
    pub backwards: bool,
}

/// The event that was found, and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// The event's id.
    pub event_id: OwnedEventId,
    /// Its time.
    pub ts: i64,
}

impl Moment {
    fn is_nearer(self, one: &Nearest, than: &Nearest) -> bool {
        one.ts.abs_diff(self.ts) < than.ts.abs_diff(self.ts)
    }

    /// Whether a time is on the side of the moment that is asked for.
    pub fn admits(self, ts: i64) -> bool {
        if self.backwards { ts <= self.ts } else { ts >= self.ts }
    }
}

fn nearest(event: &Stored) -> Nearest {
    let ts = i64::try_from(event.origin_server_ts).unwrap_or(i64::MAX);
    Nearest { event_id: event.event_id.clone(), ts }
}

impl Server {
    /// The event nearest to a moment that a user may see.
    ///
    /// # Errors
    /// M_NOT_FOUND where there is none.
    pub async fn timestamp_to_event(
        &self,
        room_id: &RoomId,
        reader: &Reader<'_>,
        moment: Moment,
    ) -> Result<Nearest> {
        let reading = self.reading(room_id, reader.user_pk).await?;
        let mut found = self.events_near(&reading.room, moment).await?;
        found.retain(|event| event.pos <= reading.upto);
        let visible = self.visible_events(&reading.room, reader, reading.joined_until(), found).await?;
        let here = visible.first().map(nearest);
        let there = match reading.joined {
            true => self.nearest_elsewhere(&reading.room, moment, here.as_ref()).await?,
            false => None,
        };
        let found = match (here, there) {
            (Some(here), Some(there)) if moment.is_nearer(&there, &here) => Some(there),
            (None, there) => there,
            (here, _) => here,
        };
        found.ok_or_else(nothing)
    }

    /// The event nearest to a moment, for another server.
    ///
    /// # Errors
    /// M_NOT_FOUND where there is none.
    pub async fn timestamp_to_event_for(
        &self,
        room: &Room,
        origin: &ServerName,
        moment: Moment,
    ) -> Result<Nearest> {
        let found = self.events_near(room, moment).await?;
        let visible = self.visible_to(room, found, origin).await?;
        visible.first().map(nearest).ok_or_else(nothing)
    }

    /// Events around a moment, the nearest first.
    async fn events_near(&self, room: &Room, moment: Moment) -> Result<Vec<Stored>> {
        let mut connection = self.database.read().await?;
        let found = events::by_time(&mut connection, room.pk, moment.ts, moment.backwards, LOOKED_AT).await?;
        drop(connection);
        self.rooms.events(&found).await
    }

    /// What other servers have nearer to a moment than what was found here, if history is missing here that may hold
    /// it: what is missing is older than the event that follows it.
    async fn nearest_elsewhere(
        &self,
        room: &Arc<Room>,
        moment: Moment,
        here: Option<&Nearest>,
    ) -> Result<Option<Nearest>> {
        let Ok(remote) = self.remote() else { return Ok(None) };
        let open = gaps::of_room(&mut self.database.read().await?, room.pk).await?;
        let followers: Vec<i64> = open.into_iter().map(|(_, follower)| follower).collect();
        let since = if moment.backwards { here.map_or(i64::MIN, |here| here.ts) } else { moment.ts };
        let followers = self.rooms.events(&followers).await?;
        let behind = followers.iter().map(nearest).filter(|follower| follower.ts > since);
        let Some(next) = behind.min_by_key(|follower| follower.ts) else { return Ok(None) };
        match remote.event_near(room, moment, next.event_id).await {
            Ok(found) => Ok(found),
            Err(error) => {
                // The client gets what is here.
                tracing::debug!(%error, room = %room.id, "no other server told of events near that moment");
                Ok(None)
            }
        }
    }
}

fn nothing() -> Error {
    Error::not_found("there is no event on that side of the moment")
}
