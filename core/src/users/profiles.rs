//! Profiles of this server's users.
//!
//! A field's change is an entry of the log. Telling the rooms, whose member events repeat name and picture, is the
//! caller's: [`is_in_member_events`] says for which fields.

use crate::error::{Error, Result};
use crate::server::Server;
use myelin_storage::log::Kind;
use myelin_storage::rooms::memberships;
use myelin_storage::users::{accounts, profiles};
use ruma::{MxcUri, UserId};
use serde_json::Value;
use std::collections::BTreeMap;

/// The largest profile in bytes, by the specification.
const LARGEST: usize = 65_536;
/// The longest name of a field in bytes.
const LONGEST_FIELD: usize = 255;
/// Longest display name and picture's address, as in Synapse.
const LONGEST_NAME: usize = 256;
const LONGEST_URL: usize = 1_000;

/// Whether member events repeat a field.
pub fn is_in_member_events(field: &str) -> bool {
    matches!(field, "displayname" | "avatar_url")
}

/// The rooms whose member events repeat a user's name and picture.
pub async fn joined_rooms(server: &Server, user_pk: i64) -> Result<Vec<i64>> {
    let all = memberships::of_user(&mut server.database.read().await?, user_pk).await?;
    Ok(all.iter().filter(|row| row.membership == memberships::JOIN).map(|row| row.room_pk).collect())
}

/// All fields of a user of any server.
pub async fn of_anybody(server: &Server, user: &UserId) -> Result<BTreeMap<String, Value>> {
    match server.is_local(user) {
        true => get(server, user).await,
        false => server.remote()?.profile(user, None).await,
    }
}

/// All fields of a user of this server.
pub async fn get(server: &Server, user: &UserId) -> Result<BTreeMap<String, Value>> {
    let not_found = || Error::not_found("there is no such user");
    if user.server_name() != server.name() {
        return Err(not_found());
    }
    let user_pk = server.ids.find_user(user.as_str()).await?.ok_or_else(not_found)?;
    let mut connection = server.database.read().await?;
    accounts::get(&mut connection, user_pk).await?.ok_or_else(not_found)?;
    let fields = profiles::all(&mut connection, user_pk).await?;
    fields.into_iter().map(|(field, value)| Ok((field, parse(&value)?))).collect()
}

/// One field of a user of any server.
pub async fn get_field(server: &Server, user: &UserId, field: &str) -> Result<Value> {
    let value = match server.is_local(user) {
        true => get(server, user).await?.remove(field),
        false => server.remote()?.profile(user, Some(field)).await?.remove(field),
    };
    value.ok_or_else(|| Error::not_found("the profile has no such field"))
}

fn parse(value: &str) -> Result<Value> {
    serde_json::from_str(value).map_err(|error| Error::Internal(format!("a stored profile: {error}")))
}

/// Sets a field; null, or an empty name or picture, removes it. True when something changed.
pub async fn put(server: &Server, user_pk: i64, field: String, value: Value) -> Result<bool> {
    check_name(&field)?;
    if is_in_member_events(&field) {
        match &value {
            Value::Null => return delete(server, user_pk, field).await,
            Value::String(text) if text.is_empty() => return delete(server, user_pk, field).await,
            Value::String(text) => check_text(&field, text)?,
            _ => return Err(Error::bad_json(format!("{field} must be text"))),
        }
    }
    let value = serde_json::to_string(&value).map_err(Error::internal_display)?;
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let all = profiles::all(tx, user_pk).await?;
                if all.iter().any(|(name, old)| *name == field && *old == value) {
                    return Ok(false);
                }
                let others = all.iter().filter(|(name, _)| *name != field);
                // Quotes, colon and comma of each field, and the braces.
                let size: usize = others.map(|(name, value)| name.len() + value.len() + 4).sum();
                if size + field.len() + value.len() + 6 > LARGEST {
                    return Err(Error::Other {
                        errcode: "M_PROFILE_TOO_LARGE",
                        message: format!("the profile would be larger than {LARGEST} bytes"),
                    });
                }
                profiles::put(tx, user_pk, &field, &value).await?;
                tx.entry(Kind::Profile, user_pk, 0);
                Ok(true)
            })
        })
        .await
}

/// Removes a field. True when it was there.
pub async fn delete(server: &Server, user_pk: i64, field: String) -> Result<bool> {
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let removed = profiles::delete(tx, user_pk, &field).await?;
                if removed {
                    tx.entry(Kind::Profile, user_pk, 0);
                }
                Ok(removed)
            })
        })
        .await
}

/// A field's name is a common namespaced identifier.
fn check_name(field: &str) -> Result<()> {
    if field.len() > LONGEST_FIELD {
        return Err(Error::Other {
            errcode: "M_KEY_TOO_LARGE",
            message: format!("the field's name is longer than {LONGEST_FIELD} bytes"),
        });
    }
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-' | '.');
    if !field.starts_with(|c: char| c.is_ascii_lowercase()) || !field.chars().all(allowed) {
        return Err(Error::invalid_param(
            "a field's name begins with a-z and has only the characters a-z, 0-9 and . _ -",
        ));
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<()> {
    if field == "displayname" && text.chars().count() > LONGEST_NAME {
        return Err(Error::InvalidParam(format!(
            "the display name is longer than {LONGEST_NAME} characters"
        )));
    }
    if field == "avatar_url" && (text.len() > LONGEST_URL || <&MxcUri>::from(text).validate().is_err()) {
        return Err(Error::invalid_param("avatar_url must be an mxc: URI"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields() {
        for good in ["displayname", "m.tz", "org.example.x-y_1"] {
            check_name(good).unwrap();
        }
        for bad in ["", "1a", "A", "a b", "a\0", &"a".repeat(256)] {
            check_name(bad).unwrap_err();
        }
    }
}
