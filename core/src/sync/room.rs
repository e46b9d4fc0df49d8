//! Rooms in an answer: joined, left, invited and knocking.

use crate::error::{Error, Result};
use crate::rooms::cache::Room;
use crate::server::Server;
use crate::sync::answer::{Answer, InvitedRoom, JoinedRoom, KnockedRoom, LeftRoom, List, Summary};
use crate::sync::filter;
use crate::sync::gather::RoomChanged;
use crate::sync::history::Span;
use crate::sync::look::Moment;
use myelin_storage::changes::OUTLIER;
use myelin_storage::rooms::memberships::{self, BAN, INVITE, JOIN, KNOCK, LEAVE};
use serde_json::value::RawValue;

/// How a user's stand in a room changed.
#[derive(Clone, Debug)]
pub(super) struct Stand {
    now: i64,
    /// The position of the change, behind that of its event.
    pos: i64,
    /// The event that made it so.
    event_pk: i64,
    /// The user was joined when the client last asked.
    was_joined: bool,
    /// The user was joined all the time.
    stayed: bool,
    forgotten: bool,
    stripped: Option<String>,
}

impl Stand {
    /// The user is joined, and was not all the time.
    pub(super) fn entered(&self) -> bool {
        self.now == JOIN && !self.stayed
    }
}

impl Server {
    /// How a user's stand in a room changed between two positions.
    pub(super) async fn stand(
        &self,
        user_pk: i64,
        room_pk: i64,
        since: i64,
        upto: i64,
    ) -> Result<Option<Stand>> {
        let mut connection = self.database.read().await?;
        let history = memberships::history(&mut connection, user_pk, room_pk).await?;
        let row = memberships::get(&mut connection, user_pk, room_pk).await?;
        drop(connection);
        let was_joined =
            history.iter().rfind(|(_, pos, _)| *pos <= since).is_some_and(|(before, ..)| *before == JOIN);
        let between = history.iter().filter(|(_, pos, _)| *pos > since && *pos <= upto);
        let stayed = was_joined && between.clone().all(|(membership, ..)| *membership == JOIN);
        let last = history.iter().rfind(|(_, pos, _)| *pos <= upto);
        Ok(last.map(|(now, pos, event_pk)| Stand {
            now: *now,
            pos: *pos,
            event_pk: *event_pk,
            was_joined,
            stayed,
            forgotten: row.as_ref().is_some_and(|row| row.forgotten),
            stripped: row.and_then(|row| row.stripped),
        }))
    }

    /// Tells of a room in which the user's own membership changed.
    pub(super) async fn tell_stand(
        &self,
        moment: &Moment<'_>,
        room_pk: i64,
        changed: RoomChanged,
        stand: &Stand,
        answer: &mut Answer,
    ) -> Result<()> {
        match stand.now {
            JOIN => self.tell_joined(moment, room_pk, changed, stand.entered(), answer).await,
            // The user's other devices have to hear of the end even where it is forgotten already.
            LEAVE | BAN if !stand.forgotten || (stand.was_joined && moment.since > 0) => {
                self.tell_left(moment, room_pk, stand, answer).await
            }
            INVITE | KNOCK => {
                let room = self.rooms.by_pk(room_pk).await?;
                let Some(events) = self.stripped(moment, &room, stand).await? else { return Ok(()) };
                if stand.now == INVITE {
                    answer.rooms.invite.insert(room.id.clone(), InvitedRoom { invite_state: events });
                } else {
                    answer.rooms.knock.insert(room.id.clone(), KnockedRoom { knock_state: events });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What is shown of a room to somebody outside; nothing where the filter or the user does not want to see it.
    async fn stripped(&self, moment: &Moment<'_>, room: &Room, stand: &Stand) -> Result<Option<List>> {
        if !filter::wants_room(&moment.ask.filter.room, &room.id) {
            return Ok(None);
        }
        let event = self.rooms.event(stand.event_pk).await?;
        if event.is_some_and(|event| moment.preferences.ignored.contains(&event.sender)) {
            return Ok(None);
        }
        let events: Vec<Box<RawValue>> = match &stand.stripped {
            Some(text) => serde_json::from_str(text).map_err(Error::internal_display)?,
            None => Vec::new(),
        };
        Ok(Some(events.into()))
    }

    async fn tell_left(
        &self,
        moment: &Moment<'_>,
        room_pk: i64,
        stand: &Stand,
        answer: &mut Answer,
    ) -> Result<()> {
        let room = self.rooms.by_pk(room_pk).await?;
        if !filter::wants_room(&moment.ask.filter.room, &room.id) {
            return Ok(());
        }
        let Some(leave) = self.rooms.event(stand.event_pk).await? else { return Ok(()) };
        if leave.flags & OUTLIER != 0 {
            // The user was never in the room with this server: there is nothing to show but the end.
            let history = self.only(moment.ask, &room, leave, stand.pos).await?;
            let account_data = room_data(moment, &room);
            answer.rooms.leave.insert(room.id.clone(), LeftRoom { history, account_data });
            return Ok(());
        }
        // The event has a position of its own unless it came into the state by a merge of branches.
        let shown = if leave.pos > 0 && leave.pos < stand.pos { leave.pos - 1 } else { stand.pos };
        // Somebody who was only invited sees no more than the end of it.
        let since = if stand.was_joined || moment.since == 0 { moment.since } else { shown };
        let span = Span {
            room: &room,
            since,
            upto: stand.pos,
            full_state: moment.ask.full_state || moment.since == 0,
            state_moved: leave.pos == 0 || leave.pos < since,
            joined_until: stand.pos,
        };
        let told = self.history(moment.ask, &moment.preferences, &span).await?;
        let account_data = room_data(moment, &room);
        answer.rooms.leave.insert(room.id.clone(), LeftRoom { history: told.history, account_data });
        Ok(())
    }

    /// Tells of a room that the user is joined to. `entered`: the client knows nothing of it.
    pub(super) async fn tell_joined(
        &self,
        moment: &Moment<'_>,
        room_pk: i64,
        changed: RoomChanged,
        entered: bool,
        answer: &mut Answer,
    ) -> Result<()> {
        let room = self.rooms.by_pk(room_pk).await?;
        let filter = &moment.ask.filter.room;
        if !filter::wants_room(filter, &room.id) {
            return Ok(());
        }
        let new = entered || moment.since == 0;
        let span = Span {
            room: &room,
            since: if new { 0 } else { moment.since },
            upto: moment.upto,
            full_state: new || moment.ask.full_state,
            state_moved: changed.state,
            joined_until: i64::MAX,
        };
        let mut told = JoinedRoom::default();
        if new || changed.events || changed.state || moment.ask.full_state {
            let history = self.history(moment.ask, &moment.preferences, &span).await?;
            if history.members_changed || new {
                told.summary = self.summary(&room, moment.ask.reader.user_pk).await?;
            }
            told.history = history.history;
            // There is more than the client knows of.
            told.history.timeline.limited |= entered && moment.since > 0;
        } else {
            told.history.timeline.prev_batch = crate::rooms::timeline::Point::at(moment.upto).to_string();
        }
        told.account_data = room_data(moment, &room);
        told.ephemeral = self.ephemeral(moment, &room).await?;
        let unread = self.unread(moment, &room).await?;
        if filter.timeline.unread_thread_notifications {
            (told.unread_notifications, told.unread_thread_notifications) = unread.by_thread();
        } else {
            told.unread_notifications = unread.total();
        }
        // Receipts of one's own change the counts, which are news even where a filter hides the receipts.
        let is_news = new || changed.receipts || moment.ask.full_state;
        let is_empty = told.history.is_empty() && told.account_data.is_empty() && told.ephemeral.is_empty();
        if is_news || !is_empty {
            answer.rooms.join.insert(room.id.clone(), told);
        }
        Ok(())
    }

    async fn ephemeral(&self, moment: &Moment<'_>, room: &Room) -> Result<List> {
        let filter = &moment.ask.filter.room.ephemeral;
        let mut events = Vec::new();
        if !filter::wants_events_of(filter, &room.id) {
            return Ok(events.into());
        }
        if let Some(typing) = moment.typing.get(&room.pk)
            && filter::wants_room_type(filter, "m.typing")
        {
            events.push(self.typing_event(typing).await?);
        }
        if let Some(receipts) = moment.receipts.get(&room.pk)
            && filter::wants_room_type(filter, "m.receipt")
        {
            events.push(receipts.clone());
        }
        Ok(events.into())
    }

    async fn summary(&self, room: &Room, user_pk: i64) -> Result<Summary> {
        let brief = self.brief(room).await?;
        let heroes = self.heroes(room, &brief, user_pk).await?;
        Ok(Summary { heroes, joined: Some(brief.joined), invited: Some(brief.invited) })
    }
}

/// Account data of a room, as far as the filter wants it.
fn room_data(moment: &Moment<'_>, room: &Room) -> List {
    let filter = &moment.ask.filter.room.account_data;
    let data = moment.data.get(&room.pk).filter(|_| filter::wants_events_of(filter, &room.id));
    let wanted = data.into_iter().flatten().filter(|(kind, _)| filter::wants_room_type(filter, kind));
    wanted.map(|(_, event)| event.clone()).collect::<Vec<_>>().into()
}
