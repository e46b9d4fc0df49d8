//! Follows the log and puts what concerns other servers into their queues.

use super::destination::{self, Destination};
use super::{Inner, catch_up, device_lists, edus};
use myelin_core::Result;
use myelin_core::rooms::cache::Stored;
use myelin_storage::Entry;
use myelin_storage::changes::{FORWARDED, TOLD};
use myelin_storage::federation::{destinations, outbox, rooms};
use myelin_storage::keys::device_lists::{self as changes, Told};
use myelin_storage::log::{self, Kind};
use ruma::{OwnedServerName, ServerName, UserId};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The lock of whoever tells other servers.
const TASK: i64 = 7_164_259_384;
/// Where the position is noted.
const POSITION: &str = "federation_position";
/// Entries that are taken at once.
const PAGE: usize = 500;
/// How long another process may lead before this one asks again.
const ASK: Duration = Duration::from_secs(1);
/// How often who leads makes sure of it, and writes its position down, while things happen.
const TICK: Duration = Duration::from_secs(5);
/// The same while nothing happens.
const IDLE: Duration = Duration::from_secs(30);

/// Dispatches until the server ends.
pub(super) async fn run(inner: Weak<Inner>, mut stop: watch::Receiver<bool>) {
    let work = async {
        loop {
            let Some(inner) = inner.upgrade() else { return };
            if let Err(error) = lead(&inner).await {
                tracing::warn!(%error, "other servers are not told for the moment");
            }
            inner.leads.store(false, Ordering::Relaxed);
            drop(inner);
            tokio::time::sleep(ASK).await;
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = work => {}
    }
}

/// Leads as long as the lock is held.
async fn lead(inner: &Arc<Inner>) -> Result<()> {
    let Some(mut lead) = inner.server.database.lead(TASK).await? else { return Ok(()) };
    begin(inner).await?;
    inner.leads.store(true, Ordering::Relaxed);
    let mut visible = inner.server.log.follow();
    let mut sure = Instant::now();
    loop {
        let dispatched = inner.position.lock().dispatched;
        if *visible.borrow_and_update() > dispatched {
            let Some(page) = inner.server.log.read(dispatched, PAGE).await? else {
                everybody_is_behind(inner, dispatched).await?;
                continue;
            };
            dispatch(inner, &page).await?;
        }
        let (dispatched, saved) = {
            let position = inner.position.lock();
            (position.dispatched, position.durable == position.dispatched)
        };
        let due = sure + if saved { IDLE } else { TICK };
        let more = async {
            if *visible.borrow() <= dispatched {
                let _ = visible.changed().await;
            }
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due) => {
                if !lead.holds().await {
                    return Ok(());
                }
                save(inner).await?;
                sure = Instant::now();
            }
            () = more => {}
        }
    }
}

/// Takes up where the last one was: its position, and the servers that are behind.
async fn begin(inner: &Arc<Inner>) -> Result<()> {
    let mut connection = inner.server.database.read().await?;
    let noted = log::meta(&mut connection, POSITION).await?.and_then(|text| text.parse().ok());
    let head = inner.server.log.visible();
    let behind = destinations::backlog(&mut connection).await?;
    let waiting = outbox::servers(&mut connection).await?;
    drop(connection);
    let position = noted.unwrap_or(head);
    *inner.position.lock() = super::Position { dispatched: position, durable: noted.unwrap_or(-1) };
    // What was noted when this process led before may have been settled by another one.
    inner.destinations.lock().values().for_each(|known| known.state.lock().noted = None);
    for (server, since) in behind {
        let Ok(server) = OwnedServerName::try_from(server) else { continue };
        let destination = inner.destination(&server);
        let mut state = destination.state.lock();
        (state.behind, state.noted) = (Some(since), Some(since));
    }
    for server in waiting {
        let Ok(server) = OwnedServerName::try_from(server) else { continue };
        inner.destination(&server).state.lock().outbox = true;
    }
    let all: Vec<_> = inner.destinations.lock().values().cloned().collect();
    for known in all {
        destination::wake(inner, &known);
    }
    save(inner).await
}

/// The log no longer says what happened since this position: every server may have missed something.
async fn everybody_is_behind(inner: &Arc<Inner>, since: i64) -> Result<()> {
    let servers = rooms::servers(&mut inner.server.database.read().await?).await?;
    let head = inner.server.log.visible();
    let changed = changes::since(&mut inner.server.database.read().await?, since).await?;
    for user_pk in changed {
        device_lists::tell(inner, user_pk, head, Told::Whole).await?;
    }
    for server in servers {
        let Ok(server) = OwnedServerName::try_from(server) else { continue };
        if server == inner.server.name() {
            continue;
        }
        let destination = inner.destination(&server);
        destination.state.lock().behind.get_or_insert(since);
        catch_up::note(inner, &destination).await?;
        destination::wake(inner, &destination);
    }
    inner.position.lock().dispatched = head;
    Ok(())
}

/// Servers for which something new waits, each once. By their addresses in memory and not by name: a room may have a
/// thousand servers, and each of its events goes to all of them.
#[derive(Default)]
struct Touched(HashMap<usize, Arc<Destination>>);

impl Touched {
    fn add(&mut self, to: Arc<Destination>) {
        self.0.insert(Arc::as_ptr(&to).addr(), to);
    }
}

async fn dispatch(inner: &Arc<Inner>, page: &[Entry]) -> Result<()> {
    let Some((first, last)) = page.first().zip(page.last()) else {
        inner.position.lock().dispatched = inner.server.log.visible();
        return Ok(());
    };
    let pks: Vec<i64> =
        page.iter().filter(|entry| entry.kind == Kind::Event).map(|entry| entry.object).collect();
    let events = inner.server.rooms.events(&pks).await?;
    let events: HashMap<i64, Stored> = events.into_iter().map(|event| (event.pk, event)).collect();
    let mut touched = Touched::default();
    for entry in page {
        match entry.kind {
            Kind::Event => {
                let Some(event) = events.get(&entry.object) else { continue };
                if is_ours(inner, event) {
                    for server in audience(inner, event).await?.iter() {
                        let to = inner.destination(server);
                        to.push(entry.pos, event.pk);
                        touched.add(to);
                    }
                }
                device_lists::introduce(inner, event, entry.pos).await?;
            }
            Kind::Receipt => {
                for to in edus::receipt(inner, entry.scope, entry.object).await? {
                    touched.add(to);
                }
            }
            Kind::DeviceList => {
                device_lists::tell(inner, entry.scope, entry.pos, Told::of(entry.object)).await?
            }
            _ => {}
        }
    }
    if page.iter().any(|entry| entry.kind == Kind::Outbox) {
        let mut connection = inner.server.database.read().await?;
        for server in outbox::servers_between(&mut connection, first.pos - 1, last.pos).await? {
            let Ok(server) = OwnedServerName::try_from(server) else { continue };
            let to = inner.destination(&server);
            to.state.lock().outbox = true;
            touched.add(to);
        }
    }
    inner.position.lock().dispatched = last.pos;
    for to in touched.0.values() {
        destination::wake(inner, to);
    }
    Ok(())
}

/// Whether this server tells of an event: it is its own and did not come back from a join through another server, or it
/// came by a handshake with this one.
pub(super) fn is_ours(inner: &Inner, event: &Stored) -> bool {
    let is_own = event.sender.server_name() == inner.server.name();
    (is_own && event.flags & TOLD == 0) || event.flags & FORWARDED != 0
}

/// The servers that are to get an event.
pub(super) struct Audience {
    /// Those that were in the room when it was made.
    there: Arc<BTreeSet<OwnedServerName>>,
    /// That of somebody who is put out by it, if it is not among them.
    put_out: Option<OwnedServerName>,
    /// Those that have it: this one, and its sender's.
    but: [Option<OwnedServerName>; 2],
}

impl Audience {
    fn iter(&self) -> impl Iterator<Item = &OwnedServerName> {
        self.there.iter().chain(&self.put_out).filter(|server| !self.has_it(server))
    }

    /// Whether a server is to get the event.
    pub(super) fn contains(&self, server: &ServerName) -> bool {
        !self.has_it(server) && (self.there.contains(server) || self.put_out.as_deref() == Some(server))
    }

    fn has_it(&self, server: &ServerName) -> bool {
        self.but.iter().flatten().any(|but| but == server)
    }
}

/// Who is to get an event.
pub(super) async fn audience(inner: &Inner, event: &Stored) -> Result<Audience> {
    let room = inner.server.rooms.by_pk(event.room_pk).await?;
    let there = inner.server.servers_at(&room, event.state_root).await?;
    let membership = event.membership();
    let target = match membership.as_deref() {
        Some("leave" | "ban") => event.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok()),
        _ => None,
    };
    let put_out = target.map(|user| user.server_name().to_owned()).filter(|server| !there.contains(server));
    // An invitation by a third-party identifier may be made for a sender of another server, which has to hear of it.
    let senders = (membership.as_deref() != Some("invite")).then(|| event.sender.server_name().to_owned());
    Ok(Audience { there, put_out, but: [Some(inner.server.owned_name()), senders] })
}

/// Writes down up to where every server has everything, or is noted to be behind.
pub(super) async fn save(inner: &Arc<Inner>) -> Result<()> {
    let _saving = inner.saving.lock().await;
    // In this order: whoever is told of something for the first time meanwhile is told of what comes behind.
    let mut position = inner.position.lock().dispatched;
    let all: Vec<_> = inner.destinations.lock().values().cloned().collect();
    for destination in all {
        catch_up::note(inner, &destination).await?;
        let state = destination.state.lock();
        if let Some((first, _)) = state.queue.first_key_value() {
            position = position.min(first - 1);
        }
        // It has fallen behind since that was noted.
        if let Some(since) = state.behind.filter(|since| state.noted != Some(*since)) {
            position = position.min(since);
        }
    }
    if inner.position.lock().durable == position {
        return Ok(());
    }
    let text = position.to_string();
    inner
        .server
        .commit
        .run(move |tx| Box::pin(async move { Ok(log::set_meta(tx, POSITION, &text).await?) }))
        .await?;
    inner.position.lock().durable = position;
    Ok(())
}
