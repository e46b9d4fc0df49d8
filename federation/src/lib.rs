//! Matrix's server-server API.
//!
//! * [`inbound`] answers other servers; [`origin`] makes sure who they are.
//! * [`outbound`] finds them, signs, asks and waits; [`server_keys`] knows their keys.
//! * [`receive`] takes events in: it fetches what they need and hands them to `rooms::append::receive` in the core.
//! * [`join`] enters and leaves rooms through other servers.
//! * [`sender`] follows the log and tells the other servers of a room what happened here.
//!
//! There is no HTTP server here: handlers take a verified origin and a ruma request. The core knows this crate by its
//! port [`myelin_core::ports::Remote`], which [`Federation`] implements.

pub mod inbound;
pub mod join;
pub mod origin;
pub mod outbound;
pub mod receive;
mod remote;
pub mod sender;
pub mod server_keys;

use myelin_core::Result;
use myelin_core::server::Server;
use outbound::request::Client;
use receive::device_lists::Renewals;
use sender::Sender;
use server_keys::Keys;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long the end waits for what is only good to have on disk.
const CLOSE: Duration = Duration::from_secs(3);

/// Everything that speaks with other servers.
pub struct Federation {
    /// The homeserver.
    pub server: Arc<Server>,
    /// Asks other servers.
    pub client: Arc<Client>,
    /// Their keys, and ours.
    pub keys: Keys,
    /// Tells them what happened.
    pub sender: Sender,
    joining: join::joining::Joining,
    device_lists: Renewals,
    /// Itself, for what goes on when a request has ended.
    own: Weak<Federation>,
}

impl Federation {
    /// Starts to federate: the core gets its way to other servers, and the sender follows the log.
    pub async fn start(server: Arc<Server>) -> Result<Arc<Federation>> {
        let client = Arc::new(Client::new(server.clone()).await?);
        let keys = Keys::new(server.clone(), client.clone());
        let sender = Sender::start(server.clone(), client.clone()).await?;
        let federation = Arc::new_cyclic(|own| Federation {
            server: server.clone(),
            client,
            keys,
            sender,
            joining: join::joining::Joining::new(&*server.random),
            device_lists: Renewals::new(server.clone()),
            own: own.clone(),
        });
        server.set_remote(federation.clone());
        if server.replicas.are_there() {
            // Nobody has heard what they told until now.
            federation.look_who_is_back();
        }
        Ok(federation)
    }

    /// The server ends: what others have been told is not told again when it is back. Waits for it for a while only.
    pub async fn end(&self) {
        match tokio::time::timeout(CLOSE, self.sender.save()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "how far others were told was not written down"),
            Err(_) => {
                tracing::debug!("how far others were told was not written down: the database is too slow")
            }
        }
    }
}
