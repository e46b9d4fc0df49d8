//! What Myelin does with bytes that others send, each as a function that takes any bytes and may never panic.
//!
//! A target parses, and where that succeeds it goes on as the server would and checks what must hold: what was written
//! can be read again, what was redacted stays so. The suite feeds each target its seeds and mutations of them
//! (`tests/it`); `tools/fuzz` runs them under libFuzzer, which looks for inputs by itself. A target panics by assertion
//! where something does not hold, as a test does.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod events;
mod federation;
mod requests;

/// Something that is done with foreign bytes.
pub struct Target {
    /// How `tools/fuzz` calls it.
    pub name: &'static str,
    /// Does it.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "pdu", run: events::pdu, seeds: events::PDUS },
    Target { name: "canonical_json", run: events::canonical_json, seeds: events::PDUS },
    Target { name: "power_levels", run: events::power_levels, seeds: events::LEVELS },
    Target { name: "signing_key", run: events::signing_key, seeds: events::SIGNING_KEYS },
    Target { name: "x_matrix", run: federation::x_matrix, seeds: federation::HEADERS },
    Target { name: "well_known", run: federation::well_known, seeds: federation::DELEGATIONS },
    Target { name: "server_keys", run: federation::server_keys, seeds: federation::KEYS },
    Target { name: "tokens", run: requests::tokens, seeds: requests::TOKENS },
    Target { name: "filter", run: requests::filter, seeds: requests::FILTERS },
    Target { name: "device_keys", run: requests::device_keys, seeds: requests::DEVICE_KEYS },
    Target { name: "push_rules", run: requests::push_rules, seeds: requests::PUSH_RULES },
    Target { name: "configuration", run: requests::configuration, seeds: requests::CONFIGURATIONS },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
