//! Receipts and typing.

use crate::error::{Error, Result};
use crate::server::Server;
use crate::sync::account::bare_event;
use myelin_storage::rooms::receipts::{self, PRIVATE, ReceiptRow};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

impl Server {
    /// The receipts of rooms behind a position as one event a room.
    pub(super) async fn receipts_since(
        &self,
        rooms: &[i64],
        since: i64,
        user_pk: i64,
    ) -> Result<HashMap<i64, Box<RawValue>>> {
        if rooms.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = receipts::since(&mut self.database.read().await?, rooms, since, user_pk).await?;
        let users: Vec<i64> = rows.iter().map(|row| row.user_pk).collect();
        let names: HashMap<i64, Arc<str>> = self.ids.user_ids(&users).await?.into_iter().collect();
        let mut by_room: HashMap<i64, Vec<(&Arc<str>, &ReceiptRow)>> = HashMap::new();
        for row in &rows {
            if let Some(name) = names.get(&row.user_pk) {
                by_room.entry(row.room_pk).or_default().push((name, row));
            }
        }
        by_room.into_iter().map(|(room_pk, receipts)| Ok((room_pk, receipt_event(&receipts)?))).collect()
    }

    /// Who types in a room, as an event.
    pub(super) async fn typing_event(&self, users: &[i64]) -> Result<Box<RawValue>> {
        let names = self.ids.user_ids(users).await?;
        let ids: Vec<&str> = names.iter().map(|(_, id)| &**id).collect();
        bare_event("m.typing", &to_raw_value(&json!({ "user_ids": ids })).map_err(Error::internal_display)?)
    }
}

fn receipt_event(receipts: &[(&Arc<str>, &ReceiptRow)]) -> Result<Box<RawValue>> {
    let mut content = Map::new();
    for (user, row) in receipts {
        let kind = if row.kind == PRIVATE { "m.read.private" } else { "m.read" };
        let mut receipt = json!({ "ts": row.ts });
        if !row.thread.is_empty()
            && let Value::Object(fields) = &mut receipt
        {
            fields.insert("thread_id".to_owned(), row.thread.as_str().into());
        }
        let kinds = content.entry(row.event_id.as_str()).or_insert_with(|| json!({}));
        if let Value::Object(kinds) = kinds
            && let Value::Object(users) = kinds.entry(kind).or_insert_with(|| json!({}))
        {
            // Of two receipts of one user on one event the one without a thread says more.
            if row.thread.is_empty() || !users.contains_key(&***user) {
                users.insert(user.to_string(), receipt);
            }
        }
    }
    bare_event("m.receipt", &to_raw_value(&content).map_err(Error::internal_display)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_stand_under_event_kind_and_user() {
        let row = |kind, thread: &str, ts| ReceiptRow {
            room_pk: 1,
            user_pk: 2,
            kind,
            thread: thread.to_owned(),
            event_id: "$e".to_owned(),
            event_pos: 3,
            ts,
        };
        let (alice, bob): (Arc<str>, Arc<str>) = ("@alice:x".into(), "@bob:x".into());
        let rows = [row(1, "", 5), row(1, "main", 6), row(2, "main", 7)];
        let event = receipt_event(&[(&alice, &rows[0]), (&alice, &rows[1]), (&bob, &rows[2])]).unwrap();
        let expected = json!({ "type": "m.receipt", "content": { "$e": {
            "m.read": { "@alice:x": { "ts": 5 } },
            "m.read.private": { "@bob:x": { "ts": 7, "thread_id": "main" } },
        } } });
        assert_eq!(serde_json::from_str::<Value>(event.get()).unwrap(), expected);
    }
}
