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
    let flags: Vec<i64> = changes.events.iter().map(|event| event.flags).collect();
    let new_keys = changes.state_keys.clone();
    let sent: Vec<_> = changes.events.iter().map(|event| event.transaction.clone().map(Arc::new)).collect();
    let made: Vec<_> = changes.nodes.iter().map(|(id, ..)| *id).collect();
    let (room, rooms) = (room.clone(), server.rooms.clone());
    let publish = move |outcome: &Outcome| {
        let room_pk = room.pk;
        let stored = pdus.into_iter().zip(flags).zip(sent).zip(&outcome.positions);
        for (((pdu, flags), transaction), pos) in stored {
            rooms.remember(&Stored { pdu, pos: *pos, flags, room_pk, transaction });
        }
        for id in made {
            if let Some(node) = view.get(&id) {
                rooms.remember_node(id, node.clone());
            }
        }
        if moved {
            // A reader may have loaded them between the commit and now.
            let new_keys = new_keys.into_iter().map(|(_, index, kind, key)| (index, kind, key));
            room.keys.write().learn(new_keys);
            room.offer(Snapshot { upto: outcome.last, ..after });
        }
    };
    server.commit.write(changes, publish).await?;
    Ok(answers)
}
