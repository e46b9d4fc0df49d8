//! A user's account data, and what of it decides about the rest of an answer: push rules and ignored users.

use crate::error::{Error, Result};
use crate::server::Server;
use crate::sync::online::Online;
use crate::users::push_rules;
use myelin_storage::users::account_data::{self, AccountDataRow};
use ruma::push::Ruleset;
use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

const IGNORED: &str = "m.ignored_user_list";

/// What a user wishes to see and hear of.
#[derive(Debug)]
pub struct Preferences {
    /// The push rules.
    pub rules: Ruleset,
    /// Users of whom nothing is to be seen but state.
    pub ignored: HashSet<OwnedUserId>,
}

#[derive(Deserialize)]
struct Ignored {
    #[serde(default)]
    ignored_users: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    content: &'a RawValue,
}

/// An event without anything but type and content.
pub(super) fn bare_event(kind: &str, content: &RawValue) -> Result<Box<RawValue>> {
    to_raw_value(&Event { kind, content }).map_err(Error::internal_display)
}

/// Account data as events, by room (0: global), each with its type.
pub(super) type AccountData = HashMap<i64, Vec<(String, Box<RawValue>)>>;

impl Server {
    /// What a user wishes.
    pub(super) async fn preferences(&self, online: &Online, user: &UserId) -> Result<Arc<Preferences>> {
        if let Some(known) = online.preferences() {
            return Ok(known);
        }
        let generation = online.generation();
        let mut connection = self.database.read().await?;
        let rules = account_data::get(&mut connection, online.user_pk, 0, push_rules::TYPE).await?;
        let ignored = account_data::get(&mut connection, online.user_pk, 0, IGNORED).await?;
        let ignored = ignored.and_then(|text| serde_json::from_str::<Ignored>(&text).ok());
        let ids = ignored.into_iter().flat_map(|list| list.ignored_users.into_keys());
        let ignored = ids.filter_map(|id| OwnedUserId::try_from(id).ok()).filter(|id| id != user).collect();
        let preferences = Arc::new(Preferences { rules: push_rules::parse(user, rules), ignored });
        online.set_preferences(&preferences, generation);
        Ok(preferences)
    }

    /// The account data that changed behind a position; all of it for position 0.
    pub(super) async fn account_data(&self, user_pk: i64, user: &UserId, since: i64) -> Result<AccountData> {
        let rows = account_data::since(&mut self.database.read().await?, user_pk, since).await?;
        let mut data = AccountData::new();
        let mut has_rules = false;
        for row in rows {
            let rules = row.room_pk == 0 && row.kind == push_rules::TYPE;
            has_rules |= rules;
            let content = match content(&row, since)? {
                Some(_) if rules => rules_content(user, row.content)?,
                Some(content) => content,
                None => continue,
            };
            data.entry(row.room_pk).or_default().push((row.kind.clone(), bare_event(&row.kind, &content)?));
        }
        if since == 0 && !has_rules {
            let event = bare_event(push_rules::TYPE, &rules_content(user, None)?)?;
            data.entry(0).or_default().push((push_rules::TYPE.to_owned(), event));
        }
        Ok(data)
    }
}

/// The content to show: a client that knew of it is told of its deletion by an empty object.
fn content(row: &AccountDataRow, since: i64) -> Result<Option<Box<RawValue>>> {
    let text = match &row.content {
        Some(text) => text.clone(),
        None if since > 0 => "{}".to_owned(),
        None => return Ok(None),
    };
    RawValue::from_string(text).map(Some).map_err(Error::internal_display)
}

/// The rules as they hold, the predefined ones among them.
fn rules_content(user: &UserId, stored: Option<String>) -> Result<Box<RawValue>> {
    #[derive(Serialize)]
    struct Content {
        global: Ruleset,
    }
    to_raw_value(&Content { global: push_rules::parse(user, stored) }).map_err(Error::internal_display)
}
