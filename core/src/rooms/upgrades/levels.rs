//! The power levels of a room that replaces another, and of the one that is replaced.

use ruma::{Int, OwnedUserId, UserId};
use serde_json::{Map, Value};

type Content = Map<String, Value>;

/// Fields with one level each.
const SINGLE: [&str; 8] =
    ["users_default", "events_default", "state_default", "ban", "kick", "redact", "invite", "historical"];
/// Fields with a level for each of their keys.
const BY_KEY: [&str; 3] = ["users", "events", "notifications"];
/// What a level of those who moderate is, where a room does not say otherwise.
const MODERATOR: i64 = 50;
/// What a creator has who is no longer above all levels.
const CREATOR: i64 = 100;

/// The power levels of a new room, which may not be those that its first events need.
#[derive(Debug)]
pub(super) struct Levels {
    user: OwnedUserId,
    /// Users above all levels.
    creators: Vec<OwnedUserId>,
    first: Content,
    last: Content,
}

impl Levels {
    /// For a version whose creators are above all levels, and named in no levels.
    pub(super) fn under_creators(old: &Content, user: &UserId, creators: &[OwnedUserId]) -> Levels {
        let mut last = in_numbers(old);
        if let Some(Value::Object(users)) = last.get_mut("users") {
            users.retain(|known, _| !creators.iter().any(|creator| creator == known.as_str()));
        }
        Levels { user: user.to_owned(), creators: creators.to_vec(), first: last.clone(), last }
    }

    /// For a version whose creators have levels as others have. `before` were above all levels in the old room.
    ///
    /// Whoever may send the tombstone may not have the level for everything that the new room takes over, and has it
    /// at first.
    pub(super) fn without_creators(old: &Content, user: &UserId, before: &[OwnedUserId]) -> Levels {
        let mut last = in_numbers(old);
        let needed = needed(&last);
        for creator in before {
            set_user(&mut last, creator, needed.max(CREATOR));
        }
        let mut first = last.clone();
        if user_level(&first, user) < needed {
            set_user(&mut first, user, needed);
        }
        Levels { user: user.to_owned(), creators: Vec::new(), first, last }
    }

    /// With what the room begins.
    pub(super) fn at_first(&self) -> &Content {
        &self.first
    }

    /// What it has in the end, where that is something else.
    pub(super) fn in_the_end(&self) -> Option<&Content> {
        (self.first != self.last).then_some(&self.last)
    }

    /// Whether who upgrades may ban somebody at first.
    pub(super) fn may_ban(&self, banned: &UserId) -> bool {
        if self.creators.iter().any(|creator| creator == banned) || self.user == *banned {
            return false;
        }
        self.creators.contains(&self.user)
            || user_level(&self.first, banned) < user_level(&self.first, &self.user)
    }
}

/// The levels of a room that was replaced: only moderators speak and invite. `None` where it is so already.
pub(super) fn restricted(old: &Content) -> Option<Content> {
    let mut content = in_numbers(old);
    let needed = single(&content, "users_default", 0).saturating_add(1).max(MODERATOR);
    let mut changed = false;
    for field in ["events_default", "invite"] {
        if single(&content, field, 0) < needed {
            content.insert(field.to_owned(), needed.into());
            changed = true;
        }
    }
    changed.then_some(content)
}

/// The highest level that the first events of a room may need.
fn needed(content: &Content) -> i64 {
    let events = content.get("events").and_then(Value::as_object);
    let highest = events.into_iter().flat_map(|events| events.values()).filter_map(Value::as_i64).max();
    let state = single(content, "state_default", MODERATOR);
    state.max(single(content, "ban", MODERATOR)).max(highest.unwrap_or_default())
}

fn single(content: &Content, field: &str, otherwise: i64) -> i64 {
    content.get(field).and_then(Value::as_i64).unwrap_or(otherwise)
}

fn user_level(content: &Content, user: &UserId) -> i64 {
    let named = content.get("users").and_then(|users| users.get(user.as_str())?.as_i64());
    named.unwrap_or_else(|| single(content, "users_default", 0))
}

fn set_user(content: &mut Content, user: &UserId, level: i64) {
    let users = content.entry("users").or_insert_with(|| Content::new().into());
    if let Some(users) = users.as_object_mut() {
        users.insert(user.to_string(), level.into());
    }
}

/// The same levels as numbers, as newer versions want them; what is no level is left out.
fn in_numbers(old: &Content) -> Content {
    let mut content = old.clone();
    for field in SINGLE {
        if let Some(value) = content.remove(field) {
            content.extend(level(&value).map(|level| (field.to_owned(), level.into())));
        }
    }
    for field in BY_KEY {
        if let Some(value) = content.remove(field)
            && let Value::Object(levels) = value
        {
            let levels = levels.into_iter().filter_map(|(key, value)| Some((key, level(&value)?.into())));
            content.insert(field.to_owned(), levels.collect::<Content>().into());
        }
    }
    content
}

/// A level that is a number, or text as old versions allow it.
fn level(value: &Value) -> Option<i64> {
    let level = match value {
        Value::String(text) => text.trim().parse().ok()?,
        value => value.as_i64()?,
    };
    Int::new(level).map(i64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::{owned_user_id, user_id};
    use serde_json::json;

    fn content(value: Value) -> Content {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn creators_are_above_levels_and_in_none() {
        let (alice, bob) = (owned_user_id!("@alice:a"), owned_user_id!("@bob:a"));
        let old =
            content(json!({ "users": { "@alice:a": 50, "@bob:a": 100, "@carol:a": "100" }, "ban": " 7 " }));
        let levels = Levels::under_creators(&old, &alice, &[alice.clone(), bob.clone()]);
        assert_eq!(json!(levels.at_first()), json!({ "users": { "@carol:a": 100 }, "ban": 7 }));
        assert_eq!(levels.in_the_end(), None);
        assert!(levels.may_ban(user_id!("@carol:a")) && !levels.may_ban(&bob));
    }

    #[test]
    fn who_upgrades_has_the_level_for_it_for_a_while() {
        let alice = owned_user_id!("@alice:a");
        let users = json!({ "@alice:a": 50, "@bob:a": 90, "@carol:a": 100 });
        let old = content(json!({ "users": users, "events": { "m.room.name": 95, "x": "high" } }));
        let levels = Levels::without_creators(&old, &alice, &[]);
        assert_eq!(levels.at_first()["users"]["@alice:a"], 95);
        assert_eq!(levels.in_the_end().unwrap()["users"], users);
        assert_eq!(levels.at_first()["events"], json!({ "m.room.name": 95 }));
        assert!(levels.may_ban(user_id!("@bob:a")) && !levels.may_ban(user_id!("@carol:a")));
        let levels = Levels::without_creators(&Content::new(), &alice, std::slice::from_ref(&alice));
        assert_eq!(json!(levels.at_first()), json!({ "users": { "@alice:a": 100 } }));
        assert_eq!(levels.in_the_end(), None);
    }

    #[test]
    fn a_replaced_room_is_for_moderators() {
        let closed = restricted(&content(json!({ "users_default": 60, "invite": 70 }))).unwrap();
        assert_eq!(json!(closed), json!({ "users_default": 60, "invite": 70, "events_default": 61 }));
        assert_eq!(restricted(&closed), None);
        let closed = restricted(&content(json!({ "events_default": "0" }))).unwrap();
        assert_eq!(json!(closed), json!({ "invite": 50, "events_default": 50 }));
    }
}
