//! Events of other servers by their time.

use super::request::Patience;
use crate::Federation;
use crate::receive::state_before;
use myelin_core::events::canonical;
use myelin_core::rooms::append::receive::{Arrival, Received};
use myelin_core::rooms::cache::Room;
use myelin_core::rooms::timestamp_to_event::{Moment, Nearest};
use myelin_core::{Error, Result};
use ruma::api::Direction;
use ruma::api::federation::event::{get_event, get_event_by_timestamp};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, UInt};
use std::sync::Arc;

/// Servers that are tried.
const SERVERS: usize = 3;

impl Federation {
    /// The event nearest to a moment that one of the room's servers has. It is taken into the history before `anchor`.
    pub(crate) async fn fetch_event_near(
        &self,
        room: &Arc<Room>,
        moment: Moment,
        anchor: OwnedEventId,
    ) -> Result<Option<Nearest>> {
        for server in self.servers_to_ask(room, SERVERS).await? {
            let ts = MilliSecondsSinceUnixEpoch(UInt::try_from(moment.ts).unwrap_or_default());
            let dir = if moment.backwards { Direction::Backward } else { Direction::Forward };
            let request = get_event_by_timestamp::v1::Request::new(room.id.clone(), ts, dir);
            let found = match self.client.send(&server, request, Patience::QUICK).await {
                Ok(answer) => answer.event_id,
                Err(error) => {
                    tracing::debug!(%error, room = %room.id, "no event near that moment");
                    continue;
                }
            };
            match self.take_single(&server, room, &found, &anchor).await {
                Ok(nearest) if moment.admits(nearest.ts) => return Ok(Some(nearest)),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, room = %room.id, "an event could not be fetched"),
            }
        }
        Ok(None)
    }

    /// Fetches one event into the history, if it is not here; its time is what the event itself says.
    async fn take_single(
        &self,
        from: &OwnedServerName,
        room: &Arc<Room>,
        id: &OwnedEventId,
        anchor: &OwnedEventId,
    ) -> Result<Nearest> {
        if self.server.event_in(room, id).await.is_err() {
            let answer =
                self.client.send(from, get_event::v1::Request::new(id.clone()), Patience::SOME).await?;
            let event =
                canonical::parse(answer.pdu.get()).map_err(|error| Error::bad_json(error.to_string()))?;
            let keys = self.keys.for_event(&event, &room.rules).await?;
            let state = state_before(self, from, room, id).await?;
            let arrival =
                Arrival { history_before: Some(anchor.clone()), states: vec![state], ..Arrival::default() };
            let received = self.server.receive(room, event, &keys, &arrival).await?;
            if !matches!(&received, Received::Accepted(taken) | Received::Known(taken) if taken == id) {
                return Err(Error::Elsewhere(format!("the event {id} is not as it should be: {received:?}")));
            }
        }
        let event = self.server.event_in(room, id).await?;
        let ts = i64::try_from(event.origin_server_ts).unwrap_or(i64::MAX);
        Ok(Nearest { event_id: event.event_id.clone(), ts })
    }
}
