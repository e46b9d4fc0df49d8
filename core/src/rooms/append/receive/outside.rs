//! Member events of this server's users in rooms that this server is not in: invitations, knocks, and what ends them.
//!
//! Nothing is known of such a room but what came with the event. It is kept as an outlier, and the user hears of it.

use super::check::Checked;
use super::{Received, Step};
use crate::error::{Error, Result};
use crate::rooms::append::plan::Plan;
use crate::rooms::append::{change, membership_number, row};
use crate::rooms::cache::{Room, View};
use crate::server::Server;
use myelin_storage::changes::{Changes, NewEvent, NewMembership, OUTLIER};
use std::sync::Arc;

/// Plans a member event; `stripped` is what is shown of the room, as a JSON list.
pub(super) async fn plan(
    server: &Server,
    room: &Arc<Room>,
    checked: &Checked,
    stripped: Option<&str>,
) -> Result<Step> {
    let snapshot = server.rooms.snapshot(room).await?;
    let mut pdu = checked.pdu.clone();
    let id = pdu.event_id.clone();
    let (Some(text), Some(user_id)) = (pdu.membership(), pdu.state_key.as_deref()) else {
        return Ok(Step::Answer(vec![Received::Refused("the event sets no membership".to_owned())]));
    };
    let membership =
        membership_number(&text).ok_or_else(|| Error::bad_json("there is no such membership"))?;
    let user_pk = server.ids.user(user_id).await?;
    if server.rooms.find_event(&id).await?.is_some() {
        return Ok(Step::Answer(vec![Received::Known(id)]));
    }
    pdu.pk = server.ids.events.next().await?;
    let pdu = Arc::new(pdu);
    let membership = Some(NewMembership { user_pk, membership, stripped: stripped.map(str::to_owned) });
    let mut changes = Changes::default();
    changes.events.push(NewEvent {
        root: 0,
        flags: OUTLIER,
        membership,
        ..row(&pdu, room, checked.json.clone())
    });
    let mut after = (*snapshot).clone();
    after.guard += 1;
    changes.rooms.push(change(room, &snapshot, &after));
    let plan = Plan { changes, pdus: vec![pdu], after, view: View::new(), answers: Vec::new() };
    Ok(Step::Write(Box::new(plan), vec![Received::Accepted(id)]))
}
