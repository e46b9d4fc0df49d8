//! The table of all settings.

use super::Kind;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Dotted path in the TOML file; `*` stands for the position in a list of tables.
    pub path: &'static str,
    /// What may stand there.
    pub kind: Kind,
    /// The default as TOML, or none when the setting is unset by default.
    pub default: Option<&'static str>,
    /// What it does, as shown by `print-config` and in the documentation.
    pub doc: &'static str,
}

impl Key {
    /// The environment variable that overrides the key; `*` becomes `0` (the first of the list).
    pub fn variable(&self) -> String {
        format!("MYELIN_{}", self.path.replace('*', "0").replace('.', "_").to_uppercase())
    }
}

const fn key(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { path, kind, default: Some(default), doc }
}

const fn unset(path: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { path, kind, default: None, doc }
}

/// Loopback, private, link-local, shared, documentation, benchmark, multicast and reserved ranges.
const NOT_PUBLIC: &str = r#"["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "::/127", "64:ff9b:1::/48", "100::/64", "2001:db8::/32", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"]"#;

/// Every setting, in the order in which they are printed: the keys of one table stand together.
pub const KEYS: &[Key] = &[
    key(
        "server_name",
        Kind::ServerName,
        r#""localhost:8008""#,
        "The part behind the colon in user ids. It can never be changed once users or rooms exist. An IP literal, with or without a port, is allowed.",
    ),
    unset(
        "public_baseurl",
        Kind::Url,
        "Where clients reach the server, as told in /.well-known/matrix/client. When unset: the server name by https, or by http if it names the local machine.",
    ),
    key("data_dir", Kind::Path, r#""./myelin-data""#, "Where keys, media and an SQLite database are kept."),
    unset(
        "database.url",
        Kind::DatabaseUrl,
        "`sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`. When unset: `sqlite:` with the file `myelin.db` in data_dir.",
    ),
    key(
        "database.connections",
        Kind::Integer { min: 1, max: 500 },
        "8",
        "Connections for reading. Writes go through one connection of their own.",
    ),
    key("listeners.*.bind", Kind::Address, r#""127.0.0.1:8008""#, "Address and port to listen on."),
    key(
        "listeners.*.serve",
        Kind::List(&Kind::Choice(&["client", "federation", "metrics"])),
        r#"["client"]"#,
        "The APIs on this port; several may share one. Metrics tell much: keep their port private.",
    ),
    unset(
        "listeners.*.tls_certificate",
        Kind::Path,
        "PEM file with the certificate chain; with tls_private_key it switches TLS on.",
    ),
    unset("listeners.*.tls_private_key", Kind::Path, "PEM file with the certificate's private key."),
    key(
        "listeners.*.trust_forwarded_for",
        Kind::Bool,
        "false",
        "Take the client's address from X-Forwarded-For. Only behind a reverse proxy that sets it.",
    ),
    key(
        "registration.mode",
        Kind::Choice(&["closed", "token", "open"]),
        r#""token""#,
        "Who may register: nobody, who has a registration token, anybody.",
    ),
    key("registration.guests", Kind::Bool, "false", "Whether guests may register."),
    unset(
        "registration.shared_secret",
        Kind::Secret,
        "Secret of /_synapse/admin/v1/register, by which tools make accounts. The endpoint is off when unset.",
    ),
    key(
        "rooms.default_version",
        Kind::Choice(&["6", "7", "8", "9", "10", "11", "12"]),
        r#""12""#,
        "Room version of new rooms whose creator asks for none.",
    ),
    key("federation.enabled", Kind::Bool, "true", "Whether the server talks to other servers at all."),
    key(
        "federation.extra_ca_certificates",
        Kind::List(&Kind::Path),
        "[]",
        "PEM files with certificate authorities that are trusted in addition when talking to other servers.",
    ),
    key(
        "federation.denied_ip_ranges",
        Kind::List(&Kind::IpRange),
        NOT_PUBLIC,
        "Addresses that requests to other servers never go to. May be emptied for tests.",
    ),
    key(
        "federation.trusted_key_servers",
        Kind::List(&Kind::ServerName),
        r#"["matrix.org"]"#,
        "Servers that are asked for the signing keys of servers that are gone.",
    ),
    key(
        "federation.public_rooms",
        Kind::Bool,
        "false",
        "Whether other servers may read this server's directory of rooms.",
    ),
    key(
        "federation.device_names",
        Kind::Bool,
        "false",
        "Whether other servers see how users named their devices.",
    ),
    key(
        "presence.enabled",
        Kind::Bool,
        "false",
        "Whether users see who is online, on this server and on others. It tells everybody who shares a room when somebody \
         is at their devices, and costs work.",
    ),
    key(
        "turn.uris",
        Kind::List(&Kind::TurnUri),
        "[]",
        "TURN servers that relay calls between people who can't reach each other. Clients are told of them with \
         credentials for a day.",
    ),
    unset(
        "turn.shared_secret",
        Kind::Secret,
        "The secret that the TURN servers share with this one: coturn's static-auth-secret.",
    ),
    key(
        "outbound_http.denied_ip_ranges",
        Kind::List(&Kind::IpRange),
        NOT_PUBLIC,
        "Addresses that requests to push gateways and for URL previews never go to. May be emptied for tests.",
    ),
    key("limits.rate_limits", Kind::Bool, "true", "Rate limits altogether."),
    key(
        "limits.request_size",
        Kind::Size { min: 64 << 10, max: 1 << 30 },
        r#""8 MiB""#,
        "Largest request body but for media. Not below 64 KiB, the size of an event.",
    ),
    key(
        "limits.request_seconds",
        Kind::Integer { min: 1, max: 3600 },
        "60",
        "How long a client may take to send a request body.",
    ),
    key(
        "limits.cache_bytes",
        Kind::Size { min: 1 << 20, max: 1 << 40 },
        r#""64 MiB""#,
        "What all caches together may hold; each gets its part by need. The process takes about as much again besides.",
    ),
    key(
        "limits.login.enabled",
        Kind::Bool,
        "true",
        "Limit failed and successful logins, by account and by address.",
    ),
    key("limits.login.per_second", Kind::Number, "0.2", "Logins a second in the long run."),
    key("limits.login.burst", Kind::Integer { min: 1, max: 1_000_000 }, "10", "Logins at once."),
    key("limits.registration.enabled", Kind::Bool, "true", "Limit registrations, by address."),
    key("limits.registration.per_second", Kind::Number, "0.2", "Registrations a second in the long run."),
    key("limits.registration.burst", Kind::Integer { min: 1, max: 1_000_000 }, "5", "Registrations at once."),
    key("limits.message.enabled", Kind::Bool, "true", "Limit what a user sends into rooms."),
    key("limits.message.per_second", Kind::Number, "5.0", "Events a second and user in the long run."),
    key("limits.message.burst", Kind::Integer { min: 1, max: 1_000_000 }, "50", "Events of a user at once."),
    key(
        "limits.password_hashing.memory_kib",
        Kind::Integer { min: 8, max: 4 << 20 },
        "19456",
        "Memory of one argon2id hash, in KiB.",
    ),
    key(
        "limits.password_hashing.iterations",
        Kind::Integer { min: 1, max: 1000 },
        "2",
        "Passes of argon2id.",
    ),
    key("limits.password_hashing.parallelism", Kind::Integer { min: 1, max: 64 }, "1", "Lanes of argon2id."),
    key(
        "log.level",
        Kind::Text,
        r#""info""#,
        "error, warn, info, debug, trace, or a list by module such as `info,myelin_core=debug`.",
    ),
    key("log.format", Kind::Choice(&["text", "json"]), r#""text""#, "For people or for machines."),
    key(
        "log.client_addresses",
        Kind::Bool,
        "false",
        "Whether the log and the device list may keep the addresses of clients.",
    ),
];

/// The first segment of the keys that stand in a list of tables.
pub(super) const LISTENERS: &str = "listeners";

/// The key of a concrete path, in which numbers stand for the positions of lists.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| matches_path(key.path, path))
}

fn matches_path(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('.');
    let mut given = path.split('.');
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(index)) if index.parse::<usize>().is_ok() => {}
            (Some(name), Some(other)) if name == other => {}
            _ => return false,
        }
    }
}
