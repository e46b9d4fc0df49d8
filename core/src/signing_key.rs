//! The key with which this server signs its events and requests. It lives in the database, so that replicas share it and a
//! backup holds it.

use crate::commit::Committer;
use crate::error::{Error, Result};
use crate::events::signatures::ServerKey;
use crate::ports::Random;
use crate::server::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use myelin_storage::federation::server_keys::{self, KeyRow};
use myelin_storage::log;

const META: &str = "signing_key";

/// A new key in its text form.
fn make(random: &dyn Random) -> String {
    let (mut seed, mut version) = ([0; 32], [0; 3]);
    random.fill(&mut seed);
    random.fill(&mut version);
    let version = STANDARD_NO_PAD.encode(version).replace(['+', '/'], "_");
    ServerKey::to_text(&version, &seed)
}

/// The key, made at the first start.
pub(crate) async fn of_database(commit: &Committer, random: &dyn Random) -> Result<ServerKey> {
    let text = make(random);
    let text =
        commit.run(move |tx| Box::pin(async move { Ok(log::meta_or(tx, META, &text).await?) })).await?;
    ServerKey::parse(&text).map_err(|error| Error::Internal(format!("the signing key is damaged: {error}")))
}

/// What became of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The id of the key that is out of use now.
    pub old: String,
    /// The id of the key that takes its place.
    pub new: String,
}

/// Puts a new key in the place of the present one, which is published from now on as one that was in use once: what it
/// signed stays valid, what it signs later does not. A server that runs goes on with the old key until it is restarted.
pub async fn rotate(server: &Server) -> Result<Rotated> {
    let text = make(&*server.random);
    let key = ServerKey::parse(&text).map_err(Error::internal_display)?;
    let old = KeyRow {
        key_id: server.key.id().to_string(),
        public_key: server.key.public_base64().to_owned(),
        valid_until_ts: server.now_ms(),
    };
    let rotated = Rotated { old: old.key_id.clone(), new: key.id().to_string() };
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                server_keys::retire(tx, &old).await?;
                Ok(log::set_meta(tx, META, &text).await?)
            })
        })
        .await?;
    Ok(rotated)
}
