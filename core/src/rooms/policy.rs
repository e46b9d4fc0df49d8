//! Policy servers: a server that the room names signs what it recommends for the room, before it is sent.
//!
//! A room has one where its current state names it in `m.room.policy`, with a key, and it has somebody in the room.
//! Every event but that state event itself should bear its signature. Events of this server's users are refused without
//! ([`Server::append`]), those of others are soft-failed (`rooms::append::receive`). Whoever brings an event in asks for
//! the signature that is missing ([`Server::recommend`]): no lock is held meanwhile.

use crate::error::Result;
use crate::events::signatures;
use crate::rooms::cache::Room;
use crate::rooms::state::NodeId;
use crate::server::Server;
use ruma::OwnedServerName;
use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};
use serde::Deserialize;

/// The type of the state event.
const POLICY: &str = "m.room.policy";
/// The id of the key, whatever the server.
const KEY_ID: &str = "ed25519:policy_server";

/// The policy server of a room.
#[derive(Clone, Debug)]
pub struct PolicyServer {
    /// Its name.
    pub name: OwnedServerName,
    /// Its public key in base64.
    key: String,
}

impl PolicyServer {
    /// Whether the server recommends an event: has signed it, or need not be asked.
    pub fn recommends(&self, room: &Room, event: &CanonicalJsonObject) -> bool {
        let says = |field: &str| event.get(field).and_then(CanonicalJsonValue::as_str);
        (says("type") == Some(POLICY) && says("state_key") == Some(""))
            || signatures::signed_by(event, &self.name, KEY_ID, &self.key, &room.rules)
    }
}

impl Server {
    /// The policy server of a room, in a state.
    pub async fn policy_server(&self, room: &Room, root: NodeId) -> Result<Option<PolicyServer>> {
        #[derive(Deserialize)]
        struct Content {
            via: OwnedServerName,
            public_keys: Keys,
        }
        #[derive(Deserialize)]
        struct Keys {
            ed25519: String,
        }
        let content: Option<Content> = self.state_content(room, root, POLICY, "").await?;
        let Some(Content { via: name, public_keys }) = content else { return Ok(None) };
        let is_there = self.servers_at(room, root).await?.contains(&name);
        Ok(is_there.then_some(PolicyServer { name, key: public_keys.ed25519 }))
    }

    /// Has an event signed by the room's policy server, where there is one and it has not yet.
    ///
    /// # Errors
    /// That server's refusal, or that it can't be asked.
    pub async fn recommend(&self, room: &Room, event: &mut CanonicalJsonObject) -> Result<()> {
        let root = self.current_root(room).await?;
        let Some(policy) = self.policy_server(room, root).await? else { return Ok(()) };
        if policy.recommends(room, event) {
            return Ok(());
        }
        let signature = self.remote()?.policy_signature(&policy.name, event).await?;
        signatures::add(event, policy.name.as_str(), KEY_ID, signature);
        Ok(())
    }
}
