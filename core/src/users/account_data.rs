//! Account data: what clients keep for themselves, global or of a room; tags among it.

use crate::error::{Error, Result};
use crate::server::Server;
use myelin_storage::rooms;
use myelin_storage::users::account_data;
use serde_json::{Map, Value};

/// The type of a room's tags.
const TAGS: &str = "m.tag";
/// Longest type in bytes.
const LONGEST_TYPE: usize = 255;
/// Largest content in bytes.
const LARGEST: usize = 65_536;
/// Longest tag in bytes, by the specification.
const LONGEST_TAG: usize = 255;

/// Where account data belongs: 0, or a room.
pub type Scope = i64;

/// Global account data.
pub const GLOBAL: Scope = 0;

/// The number of a room that account data may belong to: any room that this server knows. Whether the user is or was in
/// it does not matter, as in Synapse; account data of rooms that are not known here has no place.
pub async fn room_scope(server: &Server, room_id: &str) -> Result<Scope> {
    let found = find_room_scope(server, room_id).await?;
    found.ok_or_else(|| Error::not_found("the room is not known here"))
}

/// The same, for those who only look.
pub async fn find_room_scope(server: &Server, room_id: &str) -> Result<Option<Scope>> {
    let found = rooms::find(&mut server.database.read().await?, room_id).await?;
    Ok(found.map(|room| room.room_pk))
}

/// Refuses types that have an endpoint of their own.
pub fn check_writable(scope: Scope, kind: &str) -> Result<()> {
    let endpoint = match kind {
        "m.fully_read" => "/rooms/{roomId}/read_markers",
        "m.push_rules" if scope == GLOBAL => "/pushrules",
        _ => return Ok(()),
    };
    Err(Error::WrongEndpoint(format!("{kind} is set by {endpoint}")))
}

/// The content of a type; none where it was deleted.
pub async fn get(server: &Server, user_pk: i64, scope: Scope, kind: &str) -> Result<String> {
    let found = find(server, user_pk, scope, kind).await?;
    found.ok_or_else(|| Error::not_found("there is no account data of this type"))
}

/// The content of a type, if there is some.
pub async fn find(server: &Server, user_pk: i64, scope: Scope, kind: &str) -> Result<Option<String>> {
    Ok(account_data::get(&mut server.database.read().await?, user_pk, scope, kind).await?)
}

/// Sets the content of a type: a JSON object as text.
pub async fn put(server: &Server, user_pk: i64, scope: Scope, kind: String, content: String) -> Result<()> {
    if kind.len() > LONGEST_TYPE {
        return Err(Error::InvalidParam(format!("the type is longer than {LONGEST_TYPE} bytes")));
    }
    if content.len() > LARGEST {
        return Err(Error::TooLarge(format!("the content is larger than {LARGEST} bytes")));
    }
    server
        .commit
        .run(move |tx| {
            Box::pin(async move { Ok(account_data::put(tx, user_pk, scope, &kind, Some(&content)).await?) })
        })
        .await
}

/// The tags of a room.
pub async fn tags(server: &Server, user_pk: i64, room_pk: Scope) -> Result<Map<String, Value>> {
    Ok(tags_of(find(server, user_pk, room_pk, TAGS).await?))
}

/// Sets a tag of a room, or removes it.
pub async fn set_tag(
    server: &Server,
    user_pk: i64,
    room_pk: Scope,
    tag: String,
    info: Option<Value>,
) -> Result<()> {
    if tag.len() > LONGEST_TAG {
        return Err(Error::InvalidParam(format!("the tag is longer than {LONGEST_TAG} bytes")));
    }
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let mut tags = tags_of(account_data::get(tx, user_pk, room_pk, TAGS).await?);
                let changed = match info {
                    Some(info) => tags.insert(tag, info.clone()) != Some(info),
                    None => tags.remove(&tag).is_some(),
                };
                if !changed {
                    return Ok(());
                }
                let content = serde_json::json!({ "tags": tags }).to_string();
                if content.len() > LARGEST {
                    return Err(Error::TooLarge("the room has too many tags".to_owned()));
                }
                Ok(account_data::put(tx, user_pk, room_pk, TAGS, Some(&content)).await?)
            })
        })
        .await
}

/// A client may have put anything under the type of tags.
fn tags_of(content: Option<String>) -> Map<String, Value> {
    let content = content.and_then(|content| serde_json::from_str::<Map<String, Value>>(&content).ok());
    match content.and_then(|mut content| content.remove("tags")) {
        Some(Value::Object(tags)) => tags,
        _ => Map::new(),
    }
}
