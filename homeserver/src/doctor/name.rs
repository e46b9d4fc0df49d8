//! The name itself: whether it is one, and what follows from its form.

use ruma::{OwnedServerName, ServerName};

use super::report::{Remark, Report};
use super::words::foreign;

const STEP: &str = "name";

/// The name, if it is one.
pub fn check(name: &str, report: &mut Report) -> Option<OwnedServerName> {
    let Ok(server) = ServerName::parse(name) else {
        let text = format!("{:?} is no server name", foreign(name));
        report.add(STEP, Remark::wrong(text, hint(name)));
        return None;
    };
    report.add(STEP, form(&server));
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        report.add(
            STEP,
            Remark::warning(
                "it has capital letters, and servers compare names letter by letter",
                format!("ask for {} unless users' ids really end in the other", name.to_ascii_lowercase()),
            ),
        );
    }
    Some(server)
}

/// What kind of name it is.
fn form(server: &ServerName) -> Remark {
    match (server.is_ip_literal(), server.port()) {
        (true, _) => Remark::note(format!(
            "{server} is an IP address: neither .well-known nor SRV records are asked, and the certificate must be for \
             the address"
        )),
        (false, Some(port)) => Remark::ok(format!(
            "{server} is a host name with a port: neither .well-known nor SRV records are asked, servers go to port {port}"
        )),
        (false, None) if !server.host().contains('.') => Remark::note(format!(
            "{server} is a name without a dot: only machines of its own network can find it"
        )),
        (false, None) => Remark::ok(format!("{server} is a host name")),
    }
}

/// What somebody meant who wrote this.
fn hint(name: &str) -> String {
    if name.contains("://") || name.contains('/') {
        return "give the name alone, without https:// and without a path".to_owned();
    }
    if name.starts_with(['@', '#', '!'])
        && let Some((_, server)) = name.split_once(':')
    {
        return format!("the server's name is what stands behind the colon: {}", foreign(server));
    }
    if !name.is_ascii() {
        return "write it as DNS has it, in ASCII (xn--...)".to_owned();
    }
    if name.matches(':').count() > 1 {
        return "an IPv6 address stands in brackets: [2001:db8::1]:8448".to_owned();
    }
    "a server name is a host or an IP address, with or without a port: example.org, example.org:8448, 192.0.2.1"
        .to_owned()
}
