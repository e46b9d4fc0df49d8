//! Myelin and Synapse, each a server to the other: both speak over TLS and trust one authority that is made for the run.
//!
//! `MYELIN_TEST_SYNAPSE` names the virtual environment with Synapse. The tests are ignored where nobody asks for them;
//! `tools/test` does. Everything is played in both directions, by what clients can see.

mod conversation;
mod encryption;
mod home;
mod membership;
mod outages;
mod process;
mod seen;

use std::sync::Arc;

use crate::support::Setup;

use self::home::Home;
use self::process::Synapse;

/// The room versions in which rooms are made today, for what they treat differently.
const ALL: &[&str] = &["10", "11", "12"];

/// Of the versions whose states are resolved alike and whose rooms are entered alike the newest.
const BOTH_KINDS: &[&str] = &["11", "12"];

/// The newest.
const NEWEST: &str = "12";

/// A Myelin of the test's own, and the Synapse that all tests share.
struct Border {
    setup: Setup,
    synapse: Arc<Synapse>,
}

impl Border {
    /// Starts what is not there yet.
    async fn open() -> Self {
        let synapse = Synapse::shared().await;
        Self { setup: Setup::start_federated(1, None, &[]).await, synapse }
    }

    /// Our server.
    fn ours(&self) -> Home {
        Home::new("Myelin", self.setup.name(), self.setup.url_of(0).to_owned())
    }

    /// Their server.
    fn theirs(&self) -> Home {
        self.synapse.home()
    }

    /// Plays something with Myelin as the first and Synapse as the second server, and then the other way round.
    async fn both_ways(&self, play: impl AsyncFn(Home, Home)) {
        play(self.ours(), self.theirs()).await;
        play(self.theirs(), self.ours()).await;
    }

    /// Plays something both ways and for each of these room versions.
    async fn each(&self, versions: &[&str], play: impl AsyncFn(Home, Home, &str)) {
        for version in versions {
            self.both_ways(async |here, there| play(here, there, version).await).await;
        }
    }

    /// Ends our server.
    async fn close(self) {
        self.setup.check_plans();
        self.setup.end().await;
    }
}
