//! What the core needs from outside, as traits with few methods: tests hand in their own.

use crate::error::Result;
use crate::keys::{claim, query, remote_device_lists};
use crate::replicas::Note;
use crate::rooms::append::Draft;
use crate::rooms::cache::Room;
use crate::rooms::directory::{Listing, Search};
use crate::rooms::hierarchy::Branch;
use crate::rooms::timestamp_to_event::{Moment, Nearest};
use futures_util::future::BoxFuture;
use ruma::canonical_json::CanonicalJsonObject;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
}

/// Gives bytes that nobody can guess.
pub trait Random: Send + Sync + 'static {
    /// Fills the slice.
    fn fill(&self, bytes: &mut [u8]);
}

/// A wish of a user of ours about a room that this server is not in.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The room.
    pub room_id: &'a RoomId,
    /// Servers that may be in it, the likeliest first.
    pub via: &'a [OwnedServerName],
    /// The content of the member event, without what the other server adds.
    pub content: &'a Map<String, Value>,
}

/// Other servers, as the core needs them. Every call has a deadline, and its errors are those that a client gets.
pub trait Remote: Send + Sync + 'static {
    /// Joins a room through a server that is in it.
    fn join<'a>(&'a self, wish: Wish<'a>) -> BoxFuture<'a, Result<()>>;
    /// Knocks on a room through a server that is in it.
    fn knock<'a>(&'a self, wish: Wish<'a>) -> BoxFuture<'a, Result<()>>;
    /// Declines an invitation or takes a knock back through a server that is in the room. It succeeds for the user even
    /// where no server answers.
    fn leave<'a>(&'a self, wish: Wish<'a>) -> BoxFuture<'a, Result<()>>;
    /// Invites a user of another server: that server signs the event too.
    fn invite<'a>(&'a self, room: &'a Arc<Room>, draft: Draft) -> BoxFuture<'a, Result<()>>;
    /// The room behind an alias of another server, with servers that are in it.
    fn alias<'a>(
        &'a self,
        alias: &'a RoomAliasId,
    ) -> BoxFuture<'a, Result<(OwnedRoomId, Vec<OwnedServerName>)>>;
    /// The profile of a user of another server, or one field of it.
    fn profile<'a>(
        &'a self,
        user: &'a UserId,
        field: Option<&'a str>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Value>>>;
    /// A page of another server's directory of rooms.
    fn public_rooms<'a>(
        &'a self,
        server: &'a ServerName,
        search: &'a Search,
    ) -> BoxFuture<'a, Result<Listing>>;
    /// A room with its children, as another server sees them.
    fn hierarchy<'a>(
        &'a self,
        server: &'a ServerName,
        room_id: &'a RoomId,
        suggested_only: bool,
    ) -> BoxFuture<'a, Result<Branch>>;
    /// Keys of users of one other server.
    fn query_keys<'a>(
        &'a self,
        server: &'a ServerName,
        wanted: query::Wanted,
    ) -> BoxFuture<'a, Result<query::Answer>>;
    /// The signature of a room's policy server on an event, in base64.
    fn policy_signature<'a>(
        &'a self,
        server: &'a ServerName,
        event: &'a CanonicalJsonObject,
    ) -> BoxFuture<'a, Result<String>>;
    /// The whole device list of a user of another server.
    fn device_list<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<remote_device_lists::List>>;
    /// One-time keys of users of one other server.
    fn claim_keys<'a>(
        &'a self,
        server: &'a ServerName,
        wanted: claim::Wanted,
    ) -> BoxFuture<'a, Result<claim::Keys>>;
    /// Somebody, perhaps of another server, types in a room or has stopped. Never waits.
    fn typing(&self, room_pk: i64, user_pk: i64, typing: bool);
    /// The event nearest to a moment that another server of the room has; it is put into the room's history, before
    /// `anchor`.
    fn event_near<'a>(
        &'a self,
        room: &'a Arc<Room>,
        moment: Moment,
        anchor: OwnedEventId,
    ) -> BoxFuture<'a, Result<Option<Nearest>>>;
    /// A user, perhaps of another server, is more or less present than before. Never waits.
    fn presence(&self, user_pk: i64);
    /// A replica, perhaps this one, tells something ([`crate::replicas::Replicas::tell`]). Never waits.
    fn hear(&self, note: Note<'_>);
    /// Fetches events that came before these, and puts them into the room's history. Gives how many were new.
    fn backfill<'a>(
        &'a self,
        room: &'a Arc<Room>,
        before: &'a [OwnedEventId],
        limit: usize,
    ) -> BoxFuture<'a, Result<usize>>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        use rand::RngCore as _;
        rand::rng().fill_bytes(bytes);
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Text of the URL-safe base64 alphabet, six random bits a character.
pub fn random_text(random: &dyn Random, length: usize) -> String {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes.into_iter().filter_map(|b| ALPHABET.get(usize::from(b & 63))).map(|b| char::from(*b)).collect()
}

/// Capital letters, ten of them as in most servers: a device id.
pub fn random_device_id(random: &dyn Random) -> String {
    let mut bytes = [0; 10];
    random.fill(&mut bytes);
    bytes.into_iter().map(|b| char::from(b'A' + b % 26)).collect()
}
