//! Sessions: access tokens, refresh tokens, and whom they stand for.
//!
//! Tokens are random and stored by their SHA-256. Sessions of tokens that were used are kept in memory. A revocation is
//! an entry of the log ([`Kind::Tokens`]), which [`Cache`] applies before the revoking request is answered, and other
//! replicas before they answer for that position.
//!
//! A refresh gives a *fresh* pair. The pair before stays valid until the fresh one is first used, since the answer may
//! have been lost; then the older tokens of the device go.

use super::{LONGEST_TEXT, check_text, hash};
use crate::cache::{Cache as Map, Caches, Weight};
use crate::error::{Error, Result};
use crate::log::Reader;
use crate::ports::{random_device_id, random_text};
use crate::server::Server;
use myelin_storage::keys::device_lists::{self, Change};
use myelin_storage::log::Kind;
use myelin_storage::users::access_tokens::{self, NewToken};
use myelin_storage::users::refresh_tokens::{self, RefreshToken};
use myelin_storage::users::{accounts, devices, login_tokens};
use myelin_storage::{Entry, Tx};
use parking_lot::Mutex;
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use std::sync::Arc;

/// How long an access token lives that comes with a refresh token; as in Synapse.
const ACCESS_TOKEN_MS: i64 = 5 * 60 * 1_000;
/// How long a refresh token can be used. A device that was away for longer logs in again.
const REFRESH_TOKEN_MS: i64 = 90 * 24 * 3_600 * 1_000;
/// How long a token for m.login.token can be used.
pub const LOGIN_TOKEN_MS: i64 = 2 * 60 * 1_000;
/// A device's last use is noted this often at most.
const SEEN_EVERY_MS: i64 = 3_600 * 1_000;

/// Whom an access token stands for.
#[derive(Clone, Debug)]
pub struct Session {
    /// The user's number.
    pub user_pk: i64,
    /// The user.
    pub user: OwnedUserId,
    /// The device's number.
    pub device_pk: i64,
    /// The device.
    pub device: OwnedDeviceId,
    /// A guest's.
    pub guest: bool,
    /// The account may administer the server.
    pub admin: bool,
    expires_ts: Option<i64>,
}

/// The sessions of tokens that were used lately.
pub struct Cache {
    sessions: Map<[u8; 32], Arc<Session>>,
    /// Counts revocations. A session that was read before one must not come in after it.
    revocations: Mutex<u64>,
}

impl Cache {
    /// Empty, with its share of the memory.
    pub fn new(caches: &Caches) -> Cache {
        Cache { sessions: caches.cache(6, 250), revocations: Mutex::new(0) }
    }
}

impl Weight for Arc<Session> {
    fn weight(&self) -> usize {
        size_of::<Session>() + self.user.as_str().len() + self.device.as_str().len() + 32
    }
}

impl Reader for Cache {
    fn handle(&self, entries: &[Entry]) {
        if entries.iter().any(|entry| entry.kind == Kind::Epoch) {
            let mut revocations = self.revocations.lock();
            *revocations += 1;
            self.sessions.clear();
            return;
        }
        let mut users: Vec<i64> =
            entries.iter().filter(|entry| entry.kind == Kind::Tokens).map(|entry| entry.scope).collect();
        if users.is_empty() {
            return;
        }
        users.sort_unstable();
        let mut revocations = self.revocations.lock();
        *revocations += 1;
        self.sessions.retain(|_, session| users.binary_search(&session.user_pk).is_err());
    }
}

/// What a client wants of a new session.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The device, or a new one.
    pub device_id: Option<OwnedDeviceId>,
    /// The name of a new device.
    pub display_name: Option<String>,
    /// Whether the client refreshes its tokens.
    pub refresh: bool,
}

/// Tokens as they are given to the client.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The access token.
    pub access_token: String,
    /// The refresh token, where the client wants one.
    pub refresh_token: Option<String>,
    /// How long the access token lives, in milliseconds.
    pub expires_in_ms: Option<i64>,
}

/// A session that was opened.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// The device.
    pub device: OwnedDeviceId,
    /// Its tokens.
    pub tokens: Issued,
}

/// What is decided of a session before the transaction that opens it.
pub(super) struct Opening {
    device: OwnedDeviceId,
    candidate: i64,
    display_name: Option<String>,
    tokens: Issued,
    now: i64,
}

impl Opening {
    pub(super) async fn new(server: &Server, wanted: Wanted) -> Result<Opening> {
        let Wanted { device_id, display_name, refresh } = wanted;
        let device = match device_id {
            Some(id) if !id.as_str().is_empty() => id,
            _ => random_device_id(&*server.random).into(),
        };
        check_text("device_id", device.as_str(), LONGEST_TEXT)?;
        check_text("initial_device_display_name", display_name.as_deref().unwrap_or(""), LONGEST_TEXT)?;
        Ok(Opening {
            device,
            candidate: server.ids.devices.next().await?,
            display_name,
            tokens: Issued::new(server, refresh),
            now: server.now_ms(),
        })
    }

    /// Opens the session. Earlier tokens of the same device stop working.
    pub(super) async fn open(self, tx: &mut Tx, user_pk: i64) -> Result<LoggedIn> {
        let Opening { device, candidate, display_name, tokens, now } = self;
        let name = display_name.as_deref();
        let device_pk = devices::insert(tx, candidate, user_pk, device.as_str(), name, now).await?;
        if device_pk == candidate {
            device_lists::changed(tx, user_pk, Change::Devices(&[device.as_str()])).await?;
        } else {
            access_tokens::delete_of_device(tx, device_pk).await?;
            refresh_tokens::delete_of_device(tx, device_pk).await?;
            tx.entry(Kind::Tokens, user_pk, device_pk);
        }
        tokens.store(tx, user_pk, device_pk, now, false).await?;
        Ok(LoggedIn { device, tokens })
    }
}

impl Issued {
    fn new(server: &Server, refresh: bool) -> Issued {
        let random = |prefix: &str| format!("{prefix}_{}", random_text(&*server.random, 40));
        Issued {
            access_token: random("myt"),
            refresh_token: refresh.then(|| random("myr")),
            expires_in_ms: refresh.then_some(ACCESS_TOKEN_MS),
        }
    }

    async fn store(&self, tx: &mut Tx, user_pk: i64, device_pk: i64, now: i64, fresh: bool) -> Result<()> {
        let refresh_hash = self.refresh_token.as_deref().map(hash);
        let token = NewToken {
            hash: &hash(&self.access_token),
            user_pk,
            device_pk,
            expires_ts: self.expires_in_ms.map(|ms| now + ms),
            refresh_hash: refresh_hash.as_ref().map(<[u8; 32]>::as_slice),
            fresh,
        };
        access_tokens::insert(tx, token).await?;
        if let Some(refresh_hash) = refresh_hash {
            let token = RefreshToken { user_pk, device_pk, expires_ts: now + REFRESH_TOKEN_MS };
            refresh_tokens::insert(tx, &refresh_hash, token).await?;
        }
        Ok(())
    }
}

/// Whom a token stands for. From memory, as a rule.
pub async fn authenticate(server: &Server, token: &str) -> Result<Arc<Session>> {
    let hash = hash(token);
    let session = match server.users.sessions.sessions.get(&hash) {
        Some(session) => session,
        None => read(server, hash).await?,
    };
    if session.expires_ts.is_some_and(|expires| expires <= server.now_ms()) {
        return Err(Error::UnknownToken { soft_logout: true });
    }
    Ok(session)
}

async fn read(server: &Server, hash: [u8; 32]) -> Result<Arc<Session>> {
    let cache = &server.users.sessions;
    let before = *cache.revocations.lock();
    let found = access_tokens::find(&mut server.database.read().await?, &hash).await?;
    let found = found.ok_or(Error::UnknownToken { soft_logout: false })?;
    let now = server.now_ms();
    let device_pk = found.device_pk;
    if found.fresh {
        let (user_pk, refresh_hash) = (found.user_pk, found.refresh_hash.clone());
        server
            .commit
            .run(move |tx| {
                Box::pin(async move { settle(tx, user_pk, device_pk, &hash, refresh_hash.as_deref()).await })
            })
            .await?;
    } else if found.last_seen_ts.is_none_or(|seen| seen < now - SEEN_EVERY_MS) {
        let commit = server.commit.clone();
        // Nobody waits for this, and nothing is lost if it fails.
        tokio::spawn(async move {
            let seen =
                commit.run(move |tx| Box::pin(async move { Ok(devices::seen(tx, device_pk, now).await?) }));
            if let Err(error) = seen.await {
                tracing::debug!(%error, "a device's last use was not noted");
            }
        });
    }
    let session = Arc::new(Session {
        user_pk: found.user_pk,
        user: UserId::parse(&found.user_id).map_err(Error::internal_display)?,
        device_pk,
        device: found.device_id.into(),
        guest: found.kind == accounts::GUEST,
        admin: found.admin,
        expires_ts: found.expires_ts,
    });
    let revocations = cache.revocations.lock();
    if *revocations == before {
        cache.sessions.insert(hash, session.clone());
    }
    Ok(session)
}

/// A fresh pair was used: the device's older tokens go.
async fn settle(
    tx: &mut Tx,
    user_pk: i64,
    device_pk: i64,
    access_hash: &[u8],
    refresh_hash: Option<&[u8]>,
) -> Result<()> {
    access_tokens::keep_only(tx, device_pk, access_hash).await?;
    match refresh_hash {
        Some(hash) => refresh_tokens::keep_only(tx, device_pk, hash).await?,
        None => refresh_tokens::delete_of_device(tx, device_pk).await?,
    }
    tx.entry(Kind::Tokens, user_pk, device_pk);
    Ok(())
}

/// Opens a session for a user who has shown who they are.
pub async fn open(server: &Server, user_pk: i64, wanted: Wanted) -> Result<LoggedIn> {
    let opening = Opening::new(server, wanted).await?;
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                // Looked up again here: a deactivation may have come between.
                match accounts::get(tx, user_pk).await? {
                    Some(account) if !account.deactivated => opening.open(tx, user_pk).await,
                    _ => Err(Error::UserDeactivated),
                }
            })
        })
        .await
}

/// A new pair of tokens for a refresh token.
pub async fn refresh(server: &Server, refresh_token: &str) -> Result<Issued> {
    let old = hash(refresh_token);
    let (issued, now) = (Issued::new(server, true), server.now_ms());
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let found = refresh_tokens::find(tx, &old).await?;
                let Some(RefreshToken { user_pk, device_pk, .. }) = found.filter(|t| t.expires_ts > now)
                else {
                    return Err(Error::UnknownToken { soft_logout: false });
                };
                // Using it settles the pair it belongs to: what came before that pair goes.
                let access_hash = access_tokens::of_refresh_token(tx, device_pk, &old).await?;
                settle(tx, user_pk, device_pk, &access_hash.unwrap_or_default(), Some(&old)).await?;
                issued.store(tx, user_pk, device_pk, now, true).await?;
                devices::seen(tx, device_pk, now).await?;
                Ok(issued)
            })
        })
        .await
}

/// A token by which another device of the user logs in, once and soon.
pub async fn login_token(server: &Server, user_pk: i64) -> Result<String> {
    let token = format!("myl_{}", random_text(&*server.random, 40));
    let (hash, now) = (hash(&token), server.now_ms());
    server
        .commit
        .run(move |tx| {
            Box::pin(
                async move { Ok(login_tokens::insert(tx, &hash, user_pk, now + LOGIN_TOKEN_MS, now).await?) },
            )
        })
        .await?;
    Ok(token)
}

/// The user that a token for m.login.token was made for; it cannot be used again.
pub async fn take_login_token(server: &Server, token: &str) -> Result<i64> {
    let (hash, now) = (hash(token), server.now_ms());
    let user_pk = server
        .commit
        .run(move |tx| Box::pin(async move { Ok(login_tokens::take(tx, &hash, now).await?) }))
        .await?;
    user_pk.ok_or_else(|| Error::forbidden("the login token is not known, or has expired"))
}

/// Ends a device's session, and the device with it.
pub async fn logout(server: &Server, user_pk: i64, device_pk: i64) -> Result<()> {
    super::devices::delete_by_pk(server, user_pk, vec![device_pk]).await
}

/// Ends all sessions of a user.
pub async fn logout_all(server: &Server, user_pk: i64) -> Result<()> {
    server
        .commit
        .run(move |tx| Box::pin(async move { super::devices::remove_all_but(tx, user_pk, None).await }))
        .await
}
