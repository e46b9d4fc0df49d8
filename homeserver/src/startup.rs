//! What the server says when it is ready.

use std::{fmt, path::Path};

use crate::listeners::Port;

/// What an operator wants to know first.
pub struct Ready<'a> {
    /// The server's name.
    pub server_name: &'a str,
    /// The open ports.
    pub ports: &'a [Port],
    /// Where files are.
    pub data_dir: &'a Path,
    /// The database, without a password.
    pub database: &'a str,
    /// What is known about first accounts.
    pub accounts: Accounts<'a>,
}

/// Whether there are accounts, and how to make the first one.
pub enum Accounts<'a> {
    /// There are some.
    Exist,
    /// None yet: this registration token makes one, an administrator.
    FirstToken(&'a str),
    /// None yet, and there is no token.
    None,
}

impl fmt::Display for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Myelin {} serves {}", env!("CARGO_PKG_VERSION"), self.server_name)?;
        for port in self.ports {
            let scheme = if port.is_tls() { "https" } else { "http" };
            let apis: Vec<&str> = port.apis.iter().map(|api| api.as_str()).collect();
            writeln!(f, "  {scheme}://{}: {}", port.address, apis.join(", "))?;
        }
        writeln!(f, "  data: {}", self.data_dir.display())?;
        writeln!(f, "  database: {}", self.database)?;
        match self.accounts {
            Accounts::Exist => write!(f, "Ready."),
            Accounts::FirstToken(token) => write!(
                f,
                "No accounts yet. The first one becomes the administrator: register with the token\n  {token}\n\
                 Next: point a client at the address above and register, or run `myelin-client register`."
            ),
            Accounts::None => write!(f, "No accounts yet. Registration is set by registration.mode."),
        }
    }
}
