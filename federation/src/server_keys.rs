//! Keys of servers: the document in which this one publishes its own, and what is known of others'.
//!
//! A key counts for an event up to the time until which its server said that it is valid, and for seven days after it
//! was fetched at most; an old key up to when it expired. Where no known key counts, the server is asked, and where it
//! does not answer, the notaries of the settings. One fetch a server is under way at a time, and a server that gave
//! nothing new is not asked again for a minute.

pub mod document;
pub mod own;

use crate::outbound::request::{Client, Patience};
use document::Checked;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use myelin_core::events::signatures as events;
use myelin_core::server::Server;
use myelin_core::{Error, Result};
use myelin_storage::federation::server_keys::{self as table, Document, KeyRow};
use parking_lot::Mutex;
use ruma::api::federation::discovery::{get_remote_server_keys_batch, get_server_keys};
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use ruma::room_version_rules::RoomVersionRules;
use ruma::serde::Base64;
use ruma::signatures::PublicKeyMap;
use ruma::{OwnedServerName, ServerName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A server that gave no new key is not asked again for so long, in milliseconds.
const PAUSE: i64 = 60_000;
/// Servers whose keys are kept in memory.
const REMEMBERED: usize = 10_000;
/// Fetches that run at once for one batch of events.
const TOGETHER: usize = 16;

/// What is known of a server's keys.
#[derive(Default)]
struct Known {
    keys: Mutex<Option<Vec<KeyRow>>>,
    /// Held while the server is asked; when it was asked last.
    asking: tokio::sync::Mutex<i64>,
}

/// The keys of servers.
pub struct Keys {
    server: Arc<Server>,
    client: Arc<Client>,
    known: Mutex<HashMap<OwnedServerName, Arc<Known>>>,
}

/// A key that is wanted: of whom, which, and valid when.
struct Wanted {
    server: OwnedServerName,
    key_id: String,
    at: i64,
}

impl Keys {
    /// None in memory yet.
    pub fn new(server: Arc<Server>, client: Arc<Client>) -> Self {
        Self { server, client, known: Mutex::default() }
    }

    /// A key of a server with which it signs now: a request is checked by it.
    pub async fn now(&self, server: &ServerName, key_id: &str) -> Result<Option<Base64>> {
        let at = self.server.now_ms();
        self.find(&Wanted { server: server.to_owned(), key_id: key_id.to_owned(), at }).await
    }

    /// The keys by which events are checked, fetched where they are not known. An event for which there is no valid key
    /// is not in the second part, its place in the list is.
    pub async fn for_events(
        &self,
        events: &[CanonicalJsonObject],
        rules: &RoomVersionRules,
    ) -> Result<(PublicKeyMap, BTreeSet<usize>)> {
        let wanted: Vec<Vec<Vec<Wanted>>> = events.iter().map(|event| wanted(event, rules)).collect();
        self.fetch_missing(wanted.iter().flatten().flatten()).await?;
        let mut map = PublicKeyMap::new();
        let mut good = BTreeSet::new();
        for (index, servers) in wanted.iter().enumerate() {
            let mut complete = !servers.is_empty();
            for keys in servers {
                let mut any = false;
                for want in keys {
                    if let Some(key) = self.known_key(want).await? {
                        any = true;
                        let of_server = map.entry(want.server.to_string()).or_default();
                        of_server.insert(want.key_id.clone(), key);
                    }
                }
                complete &= any;
            }
            if complete {
                good.insert(index);
            }
        }
        Ok((map, good))
    }

    /// The keys for one event.
    pub async fn for_event(
        &self,
        event: &CanonicalJsonObject,
        rules: &RoomVersionRules,
    ) -> Result<PublicKeyMap> {
        Ok(self.for_events(std::slice::from_ref(event), rules).await?.0)
    }

    /// Asks for what is missing, several servers at once.
    async fn fetch_missing(&self, wanted: impl Iterator<Item = &Wanted>) -> Result<()> {
        let mut missing: BTreeMap<&ServerName, &Wanted> = BTreeMap::new();
        for want in wanted {
            if !missing.contains_key(&*want.server) && self.known_key(want).await?.is_none() {
                missing.insert(&want.server, want);
            }
        }
        let fetches: Vec<BoxFuture<'_, Result<Option<Base64>>>> =
            missing.into_values().map(|want| self.find(want).boxed()).collect();
        let mut running = futures_util::stream::iter(fetches).buffer_unordered(TOGETHER);
        while let Some(found) = running.next().await {
            found?;
        }
        Ok(())
    }

    /// A key, from memory, from the database, or from whoever has it.
    async fn find(&self, want: &Wanted) -> Result<Option<Base64>> {
        if let Some(key) = self.known_key(want).await? {
            return Ok(Some(key));
        }
        if want.server == self.server.name() {
            return Ok(None);
        }
        let known = self.of(&want.server);
        let mut asked = known.asking.lock().await;
        if let Some(key) = self.known_key(want).await? {
            return Ok(Some(key));
        }
        if is_pause(*asked, self.server.now_ms()) {
            return Ok(None);
        }
        // Only what came to an end counts: what fails here, or is given up, is asked for again.
        let found = self.look_for(want).await?;
        *asked = self.server.now_ms();
        Ok(found)
    }

    /// Asks the server, and then the notaries.
    async fn look_for(&self, want: &Wanted) -> Result<Option<Base64>> {
        if let Some(document) = self.fetch(&want.server).await {
            self.keep(&want.server, &document).await?;
        }
        if self.known_key(want).await?.is_none() {
            for document in self.ask_notaries(want).await {
                self.keep(&want.server, &document).await?;
            }
        }
        self.known_key(want).await
    }

    fn of(&self, server: &ServerName) -> Arc<Known> {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED && !known.contains_key(server) {
            known.clear();
        }
        known.entry(server.to_owned()).or_default().clone()
    }

    async fn known_key(&self, want: &Wanted) -> Result<Option<Base64>> {
        if want.server == self.server.name() {
            return own::key(&self.server, &want.key_id, want.at).await;
        }
        let known = self.of(&want.server);
        if known.keys.lock().is_none() {
            let rows =
                table::of_server(&mut self.server.database.read().await?, want.server.as_str()).await?;
            known.keys.lock().get_or_insert(rows);
        }
        let keys = known.keys.lock();
        let row = keys.iter().flatten().find(|row| row.key_id == want.key_id);
        Ok(row
            .filter(|row| row.valid_until_ts >= want.at)
            .and_then(|row| Base64::parse(&row.public_key).ok()))
    }

    /// Asks the server itself.
    async fn fetch(&self, server: &ServerName) -> Option<Checked> {
        let answer = self.client.send(server, get_server_keys::v2::Request::new(), Patience::QUICK).await;
        let answer = answer.inspect_err(|error| tracing::debug!(%error, "no server keys")).ok()?;
        let checked = document::check(server, answer.server_key.json().get());
        checked.inspect_err(|reason| tracing::debug!(%server, %reason, "server keys are not used")).ok()
    }

    /// Asks the notaries of the settings.
    async fn ask_notaries(&self, want: &Wanted) -> Vec<Checked> {
        let mut found = Vec::new();
        for notary in &self.server.settings.federation.trusted_key_servers {
            if notary == self.server.name() || *notary == want.server {
                continue;
            }
            let criteria = get_remote_server_keys_batch::v2::QueryCriteria::new();
            let Ok(key_id) = want.key_id.as_str().try_into() else { return found };
            let request = get_remote_server_keys_batch::v2::Request::new(BTreeMap::from([(
                want.server.clone(),
                BTreeMap::from([(key_id, criteria)]),
            )]));
            let Ok(answer) = self.client.send(notary, request, Patience::QUICK).await else { continue };
            let notary_keys = match self.fetch(notary).await {
                Some(checked) => checked.key_map(notary),
                None => continue,
            };
            for raw in answer.server_keys.iter().take(16) {
                match document::check_notarized(&want.server, raw.json().get(), &notary_keys) {
                    Ok(checked) => found.push(checked),
                    Err(reason) => tracing::debug!(%notary, %reason, "what a notary says is not used"),
                }
            }
            if !found.is_empty() {
                return found;
            }
        }
        found
    }

    /// Puts keys into memory and database.
    async fn keep(&self, server: &ServerName, checked: &Checked) -> Result<()> {
        let now = self.server.now_ms();
        let rows = checked.rows(now);
        let known = self.of(server);
        {
            let mut keys = known.keys.lock();
            let all = keys.get_or_insert_default();
            for row in &rows {
                all.retain(|known| known.key_id != row.key_id);
                all.push(row.clone());
            }
        }
        let name = server.to_string();
        let document =
            Document { json: checked.json.clone(), valid_until_ts: checked.valid_until_ts, fetched_ts: now };
        self.server
            .commit
            .run(move |tx| {
                Box::pin(async move {
                    table::put(tx, &name, &rows).await?;
                    Ok(table::put_document(tx, &name, &document).await?)
                })
            })
            .await
    }

    /// A server's own document for somebody who asks this server as a notary, with this server's signature.
    pub async fn notarize(&self, server: &ServerName, valid_until: i64) -> Result<Option<String>> {
        if server == self.server.name() {
            return own::document(&self.server).await.map(Some);
        }
        let read = || async {
            let mut connection = self.server.database.read().await?;
            Ok::<_, Error>(table::document(&mut connection, server.as_str()).await?)
        };
        let mut document = read().await?;
        if document.as_ref().is_none_or(|document| document.valid_until_ts < valid_until) {
            let known = self.of(server);
            let mut asked = known.asking.lock().await;
            if !is_pause(*asked, self.server.now_ms()) {
                if let Some(checked) = self.fetch(server).await {
                    self.keep(server, &checked).await?;
                }
                *asked = self.server.now_ms();
                document = read().await?;
            }
        }
        let Some(document) = document else { return Ok(None) };
        let mut object: CanonicalJsonObject =
            serde_json::from_str(&document.json).map_err(Error::internal_display)?;
        self.server.key.sign_json(self.server.name(), &mut object).map_err(Error::internal_display)?;
        serde_json::to_string(&object).map(Some).map_err(Error::internal_display)
    }
}

/// Whether a server that was asked then is not to be asked now. A clock that was put back is no reason to wait longer.
fn is_pause(asked: i64, now: i64) -> bool {
    (asked..asked + PAUSE).contains(&now)
}

/// The keys that an event is checked by, for each server that must have signed it.
fn wanted(event: &CanonicalJsonObject, rules: &RoomVersionRules) -> Vec<Vec<Wanted>> {
    let Ok(signers) = events::signers(event, rules) else { return Vec::new() };
    let at = match event.get("origin_server_ts") {
        Some(CanonicalJsonValue::Integer(at)) => i64::from(*at),
        _ => return Vec::new(),
    };
    let signatures = event.get("signatures").and_then(CanonicalJsonValue::as_object);
    let of_server = |server: OwnedServerName| {
        let keys = signatures.and_then(|all| all.get(server.as_str())?.as_object());
        let ids = keys.into_iter().flat_map(|keys| keys.keys()).filter(|id| id.starts_with("ed25519:"));
        ids.take(8).map(|id| Wanted { server: server.clone(), key_id: id.clone(), at }).collect()
    };
    signers.into_iter().map(of_server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_not_asked_twice_in_a_minute_and_a_clock_put_back_is_no_minute() {
        let asked = 10 * PAUSE;
        assert!(is_pause(asked, asked) && is_pause(asked, asked + PAUSE - 1));
        assert!(!is_pause(asked, asked + PAUSE));
        assert!(!is_pause(asked, asked - 1), "the clock was put back since");
    }
}
