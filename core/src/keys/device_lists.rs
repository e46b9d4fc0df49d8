//! Whose keys a client should query again, and whose it may forget.
//!
//! Devices and the keys that vouch for them concern everybody who shares a room. A signature on somebody else's key and
//! a user-signing key are seen by one user alone ([`Kind::Signature`]): their devices hear of it, whether they share a
//! room with the signed user or not.

use crate::error::Result;
use crate::server::Server;
use myelin_storage::keys::device_lists;
use myelin_storage::log::Kind;
use myelin_storage::rooms::memberships;
use ruma::UserId;
use std::collections::HashSet;

/// Users whose devices changed, as far as a user is concerned. Told too often it does no harm; never told, messages
/// are encrypted for the wrong devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceLists {
    /// They share a room and their keys changed, or they began to share one.
    pub changed: Vec<String>,
    /// They share no room any more.
    pub left: Vec<String>,
}

/// What changed behind `from`, up to `to`.
///
/// The memory's tail of the log tells without SQL that nothing did; for older positions the tables are read.
pub async fn changes(server: &Server, user_pk: i64, from: i64, to: i64) -> Result<DeviceLists> {
    let recent = server.log.since(from, |entries| {
        let (mut users, mut signed) = (HashSet::new(), HashSet::new());
        let mut memberships_moved = false;
        for entry in entries.take_while(|entry| entry.pos <= to) {
            match entry.kind {
                Kind::DeviceList => {
                    users.insert(entry.scope);
                }
                Kind::Signature if entry.scope == user_pk => {
                    signed.insert(entry.object);
                }
                Kind::Membership => memberships_moved = true,
                _ => {}
            }
        }
        (users, signed, memberships_moved)
    });
    let (mut candidates, signed, memberships_moved) = match recent {
        Some(recent) => recent,
        None => {
            let mut connection = server.database.read().await?;
            let users = device_lists::since(&mut connection, from).await?;
            let signed = device_lists::signed_since(&mut connection, user_pk, from).await?;
            (users.into_iter().collect(), signed.into_iter().collect(), true)
        }
    };
    let mut parted = HashSet::new();
    if memberships_moved {
        moved(server, user_pk, from, to, &mut candidates, &mut parted).await?;
    }
    if candidates.is_empty() && parted.is_empty() && signed.is_empty() {
        return Ok(DeviceLists::default());
    }
    let asked: Vec<i64> = candidates.union(&parted).copied().filter(|user| *user != user_pk).collect();
    let mut connection = server.database.read().await?;
    let sharing: HashSet<i64> =
        memberships::sharing(&mut connection, user_pk, &asked).await?.into_iter().collect();
    drop(connection);
    // A user's own devices concern them without any room, as does what they signed.
    let concerns = |user: &i64| *user == user_pk || sharing.contains(user) || signed.contains(user);
    let changed: Vec<i64> = candidates.union(&signed).copied().filter(concerns).collect();
    let left: Vec<i64> =
        parted.iter().copied().filter(|user| *user != user_pk && !sharing.contains(user)).collect();
    Ok(DeviceLists { changed: ids(server, &changed).await?, left: ids(server, &left).await? })
}

/// The newest link of the chain in which other servers follow a user's devices; 0 where there is none.
pub async fn newest_link(server: &Server, user: &UserId) -> Result<i64> {
    let Some(user_pk) = server.ids.find_user(user.as_str()).await? else { return Ok(0) };
    Ok(device_lists::newest_link(&mut server.database.read().await?, user_pk).await?)
}

/// Who began or ceased to share a room with the user.
async fn moved(
    server: &Server,
    user_pk: i64,
    from: i64,
    to: i64,
    joined: &mut HashSet<i64>,
    parted: &mut HashSet<i64>,
) -> Result<()> {
    let mut connection = server.database.read().await?;
    let rooms: Vec<i64> =
        memberships::of_user(&mut connection, user_pk).await?.iter().map(|m| m.room_pk).collect();
    let mut joined_rooms = HashSet::new();
    let mut left_rooms = HashSet::new();
    for (room, user, membership, _, _) in memberships::changes(&mut connection, &rooms, from, to).await? {
        let joins = membership == memberships::JOIN;
        match (user == user_pk, joins) {
            (true, true) => drop(joined_rooms.insert(room)),
            (true, false) => drop(left_rooms.insert(room)),
            (false, true) => drop(joined.insert(user)),
            (false, false) => drop(parted.insert(user)),
        }
    }
    for room in joined_rooms {
        let members = memberships::of_room(&mut connection, room, memberships::JOIN).await?;
        // The user is among them: their other devices did not know of those whom they meet there.
        joined.extend(members.into_iter().map(|(user, _)| user));
    }
    for room in left_rooms {
        let members = memberships::of_room(&mut connection, room, memberships::JOIN).await?;
        parted.extend(members.into_iter().map(|(user, _)| user));
    }
    Ok(())
}

async fn ids(server: &Server, users: &[i64]) -> Result<Vec<String>> {
    let mut ids: Vec<String> =
        server.ids.user_ids(users).await?.into_iter().map(|(_, id)| id.to_string()).collect();
    ids.sort_unstable();
    Ok(ids)
}
