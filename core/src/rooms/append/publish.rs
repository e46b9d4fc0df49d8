//! Committing a plan, and putting into the caches what it made, before it becomes visible.

use super::plan::Plan;
use crate::error::Result;
use crate::rooms::cache::{Room, Snapshot, Stored};
use crate::server::Server;
use myelin_storage::changes::Outcome;
use ruma::OwnedEventId;
use std::sync::Arc;

/// Writes a plan durably and gives the answers to its requests.
pub(super) async fn commit(
    server: &Server,
    room: &Arc<Room>,
    plan: Plan,
) -> Result<Vec<Result<Vec<OwnedEventId>>>> {
    let Plan { changes, pdus, after, view, answers } = plan;
    if changes.events.is_empty() && changes.transactions.is_empty() {
        return Ok(answers);
    }
    let moved = !changes.events.is_empty();
    let new_keys = changes.state_keys.clone();
    let sent: Vec<_> = changes.events.iter().map(|event| event.transaction.clone().map(Arc::new)).collect();
    let made: Vec<_> = changes.nodes.iter().map(|(id, ..)| *id).collect();
    let (room, rooms) = (room.clone(), server.rooms.clone());
    let publish = move |outcome: &Outcome| {
        let room_pk = room.pk;
        for ((pdu, pos), transaction) in pdus.into_iter().zip(&outcome.positions).zip(sent) {
            rooms.remember(&Stored { pdu, pos: *pos, flags: 0, room_pk, transaction });
        }
        for id in made {
            if let Some(node) = view.get(&id) {
                rooms.remember_node(id, node.clone());
            }
        }
        if moved {
            {
                let mut keys = room.keys.write();
                for (_, index, kind, state_key) in &new_keys {
                    // A reader may have loaded them between the commit and now.
                    if *index == i64::from(keys.len()) {
                        keys.add(kind, state_key);
                    }
                }
            }
            room.offer(Snapshot { upto: outcome.last, ..after });
        }
    };
    server.commit.write(changes, publish).await?;
    Ok(answers)
}
