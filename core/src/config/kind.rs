//! What may stand at a key.

use std::{fmt, net::SocketAddr};

use ruma::ServerName;
use toml::Value;

use super::{DatabaseUrl, IpRange};

/// The type of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// The smallest that is allowed.
        min: u64,
        /// The largest that is allowed.
        max: u64,
    },
    /// A number that may have a fraction, not below zero.
    Number,
    /// A number of bytes, or a text such as `64 MiB`.
    Size {
        /// The smallest that is allowed.
        min: u64,
        /// The largest that is allowed.
        max: u64,
    },
    /// Any text.
    Text,
    /// A text that is never printed.
    Secret,
    /// A path, relative to the working directory.
    Path,
    /// An `http` or `https` URL.
    Url,
    /// The URI of a TURN server.
    TurnUri,
    /// A Matrix server name.
    ServerName,
    /// An IP address and a port.
    Address,
    /// A range of IP addresses, `ADDRESS/PREFIX`.
    IpRange,
    /// `sqlite:` or `postgres:`, never printed since it may hold a password.
    DatabaseUrl,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A list of any length.
    List(&'static Kind),
}

impl Kind {
    /// Whether values of the kind must not be shown.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::DatabaseUrl)
    }

    /// The value in the form that [`super::Settings`] reads, or none if it is not allowed.
    pub(super) fn check(self, value: &Value) -> Option<Value> {
        let normal = match (self, value) {
            (Self::Bool, Value::Boolean(_)) => value.clone(),
            (Self::Integer { min, max }, Value::Integer(number)) => {
                in_range(u64::try_from(*number).ok()?, min, max)?
            }
            (Self::Number, Value::Integer(number)) => Value::Float(f64::from(u32::try_from(*number).ok()?)),
            (Self::Number, Value::Float(number)) if number.is_finite() && *number >= 0.0 => value.clone(),
            (Self::Size { min, max }, Value::Integer(number)) => {
                in_range(u64::try_from(*number).ok()?, min, max)?
            }
            (Self::Size { min, max }, Value::String(text)) => in_range(parse_size(text)?, min, max)?,
            (Self::List(kind), Value::Array(items)) => {
                Value::Array(items.iter().map(|item| kind.check(item)).collect::<Option<_>>()?)
            }
            (_, Value::String(text)) if self.allows_text(text) => value.clone(),
            _ => return None,
        };
        Some(normal)
    }

    fn allows_text(self, text: &str) -> bool {
        match self {
            Self::Text | Self::Secret | Self::Path => !text.is_empty(),
            Self::Url => text.strip_prefix("https://").or(text.strip_prefix("http://")).is_some_and(|rest| {
                !rest.is_empty()
                    && !rest.starts_with('/')
                    && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
            }),
            Self::TurnUri => text.strip_prefix("turn:").or(text.strip_prefix("turns:")).is_some_and(|rest| {
                !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(|byte| byte.is_ascii_graphic())
            }),
            Self::ServerName => ServerName::parse(text).is_ok(),
            Self::Address => text.parse::<SocketAddr>().is_ok(),
            Self::IpRange => text.parse::<IpRange>().is_ok(),
            Self::DatabaseUrl => text.parse::<DatabaseUrl>().is_ok(),
            Self::Choice(choices) => choices.contains(&text),
            _ => false,
        }
    }

    /// The value that a variable's text means; what can't be read stays text, so that the check refuses it.
    pub(super) fn read_variable(self, text: &str) -> Value {
        let as_text = || Value::String(text.to_owned());
        match self {
            Self::Bool => text.parse().map_or_else(|_| as_text(), Value::Boolean),
            Self::Integer { .. } | Self::Size { .. } => {
                text.parse().map_or_else(|_| as_text(), Value::Integer)
            }
            Self::Number => text.parse().map_or_else(|_| as_text(), Value::Float),
            Self::List(kind) => Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| kind.read_variable(item))
                    .collect(),
            ),
            _ => as_text(),
        }
    }
}

fn in_range(number: u64, min: u64, max: u64) -> Option<Value> {
    (min..=max).contains(&number).then_some(())?;
    i64::try_from(number).ok().map(Value::Integer)
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl fmt::Display for Kind {
    /// What is allowed, as it stands in messages and in the documentation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => write!(f, "true or false"),
            Self::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Number => write!(f, "a number, 0 or more"),
            Self::Size { min, max } => {
                write!(f, "a number of bytes from {min} to {max}, or a text such as \"64 MiB\"")
            }
            Self::Text | Self::Secret => write!(f, "a text"),
            Self::Path => write!(f, "a path"),
            Self::Url => write!(f, "an http:// or https:// URL"),
            Self::TurnUri => {
                write!(f, "a URI such as \"turn:turn.example.org:3478?transport=udp\" or \"turns:...\"")
            }
            Self::ServerName => write!(f, "a server name: a host or an IP literal, with or without a port"),
            Self::Address => {
                write!(f, "an IP address with a port, such as \"127.0.0.1:8008\" or \"[::1]:8008\"")
            }
            Self::IpRange => write!(f, "a range of addresses such as \"10.0.0.0/8\" or \"fc00::/7\""),
            Self::DatabaseUrl => write!(f, "sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE"),
            Self::Choice(choices) => write!(f, "one of {}", choices.join(", ")),
            Self::List(kind) => write!(f, "a list, each {kind}"),
        }
    }
}
