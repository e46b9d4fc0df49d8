//! Outliers: events that are kept because others are judged by them, without a place in the graph.

use super::check::Checked;
use super::near::auth_ids;
use super::{Received, Step};
use crate::error::Result;
use crate::events::pdu::Pdu;
use crate::rooms::append::plan::Plan;
use crate::rooms::append::{change, row};
use crate::rooms::authorize::{self, Reason};
use crate::rooms::cache::{Room, View};
use crate::server::Server;
use myelin_storage::changes::{Changes, NewEvent, OUTLIER, REJECTED};
use ruma::OwnedEventId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Plans those of the events whose auth events are here or among them.
pub(super) async fn plan(
    server: &Server,
    room: &Arc<Room>,
    checked: &[Result<Checked, String>],
) -> Result<Step> {
    let snapshot = server.rooms.snapshot(room).await?;
    let mut wanted: HashSet<OwnedEventId> = HashSet::new();
    for Checked { pdu, .. } in checked.iter().flatten() {
        wanted.insert(pdu.event_id.clone());
        wanted.extend(auth_ids(room, pdu));
    }
    let wanted: Vec<OwnedEventId> = wanted.into_iter().collect();
    let stored = server.rooms.events_by_ids(&wanted).await?;
    let mut here: HashMap<OwnedEventId, Arc<Pdu>> =
        stored.into_iter().map(|(id, event)| (id, event.pdu)).collect();
    let mut answers: Vec<Received> = checked
        .iter()
        .map(|event| Received::Refused(event.as_ref().err().cloned().unwrap_or_default()))
        .collect();
    let (mut changes, mut pdus) = (Changes::default(), Vec::new());
    for index in in_order(room, checked) {
        let (Some(Ok(event)), Some(answer)) = (checked.get(index), answers.get_mut(index)) else { continue };
        let id = event.pdu.event_id.clone();
        if here.contains_key(&id) {
            *answer = Received::Known(id);
            continue;
        }
        let auth: Vec<OwnedEventId> =
            auth_ids(room, &event.pdu).into_iter().filter(|id| !here.contains_key(id)).collect();
        if !auth.is_empty() {
            *answer = Received::Missing { auth, prev: Vec::new() };
            continue;
        }
        let mut pdu = event.pdu.clone();
        let verdict = verdict(room, &pdu, &here);
        pdu.rejected = verdict.is_err();
        pdu.pk = server.ids.events.next().await?;
        let pdu = Arc::new(pdu);
        let flags = OUTLIER | if pdu.rejected { REJECTED } else { 0 };
        changes.events.push(NewEvent { root: 0, flags, ..row(&pdu, room, event.json.clone()) });
        here.insert(id.clone(), pdu.clone());
        pdus.push(pdu);
        *answer = verdict.map_or_else(
            |reason| Received::Rejected(id.clone(), reason),
            |()| Received::Accepted(id.clone()),
        );
    }
    if pdus.is_empty() {
        return Ok(Step::Answer(answers));
    }
    let mut after = (*snapshot).clone();
    after.guard += 1;
    changes.rooms.push(change(room, &snapshot, &after));
    let plan = Plan { changes, pdus, after, view: View::new(), answers: Vec::new() };
    Ok(Step::Write(Box::new(plan), answers))
}

/// The rules by the auth events, which are all that is known of an outlier's place.
fn verdict(room: &Room, pdu: &Pdu, here: &HashMap<OwnedEventId, Arc<Pdu>>) -> Result<(), Reason> {
    let auth = auth_ids(room, pdu);
    let find = |kind: &str, key: &str| {
        auth.iter().filter_map(|id| here.get(id)).find(|event| event.is(kind, key)).cloned()
    };
    authorize::check_auth_events(&room.rules, pdu, |id| here.get(id).cloned())?;
    authorize::authorize(&room.rules, pdu, find)
}

/// The places of the events, each behind those that it is judged by.
fn in_order(room: &Room, checked: &[Result<Checked, String>]) -> Vec<usize> {
    let events =
        || checked.iter().enumerate().filter_map(|(index, event)| Some((index, event.as_ref().ok()?)));
    let places: HashMap<&OwnedEventId, usize> =
        events().map(|(index, event)| (&event.pdu.event_id, index)).collect();
    let mut waits: HashMap<usize, usize> = HashMap::new();
    let mut leads_to: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, event) in events() {
        for place in auth_ids(room, &event.pdu).iter().filter_map(|id| places.get(id)) {
            *waits.entry(index).or_default() += 1;
            leads_to.entry(*place).or_default().push(index);
        }
    }
    let mut order: Vec<usize> =
        events().map(|(index, _)| index).filter(|index| !waits.contains_key(index)).collect();
    let mut done = 0;
    while let Some(index) = order.get(done).copied() {
        done += 1;
        for next in leads_to.remove(&index).unwrap_or_default() {
            let left = waits.entry(next).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                order.push(next);
            }
        }
    }
    order
}
