use super::*;

fn file(text: &str) -> Option<ConfigFile<'_>> {
    Some(ConfigFile { name: "myelin.toml", text })
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[track_caller]
fn check_error(text: &str, pairs: &[(&str, &str)], expected: &[&str]) {
    let error = load(file(text), env(pairs)).unwrap_err().to_string();
    for part in expected {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn defaults_serve_clients_on_loopback() {
    let settings = load(None, env(&[("PATH", "/bin")])).unwrap();
    assert_eq!(settings.server_name, "localhost:8008");
    assert_eq!(settings.public_baseurl(), "http://localhost:8008");
    assert_eq!(settings.listeners.len(), 1);
    assert_eq!(settings.listeners[0].bind.to_string(), "127.0.0.1:8008");
    assert_eq!(settings.listeners[0].serve, [Api::Client]);
    assert_eq!(settings.database_url(), DatabaseUrl::Sqlite("./myelin-data/myelin.db".into()));
    assert_eq!(settings.registration.mode, RegistrationMode::Token);
    assert_eq!(settings.rooms.default_version, ruma::RoomVersionId::V12);
    assert_eq!(settings.limits.cache_bytes, 64 << 20);
    let loopback = "::ffff:127.0.0.1".parse().unwrap();
    assert!(settings.outbound_http.denied_ip_ranges.iter().any(|range| range.contains(loopback)));
    let public = "9.9.9.9".parse().unwrap();
    assert!(!settings.outbound_http.denied_ip_ranges.iter().any(|range| range.contains(public)));
}

#[test]
fn every_default_is_allowed() {
    for key in KEYS {
        assert_eq!(entries::default(key).is_some(), key.default.is_some(), "{}", key.path);
        assert!(key.doc.ends_with('.'), "{}", key.path);
    }
}

#[test]
fn every_variable_names_its_key() {
    for key in KEYS {
        let variable = key.variable();
        let (found, path) = entries::by_variable(variable.strip_prefix("MYELIN_").unwrap()).unwrap();
        assert_eq!(found.path, key.path);
        assert_eq!(path, key.path.replace('*', "0"));
    }
}

#[test]
fn file_and_variables() {
    let text = r#"
        server_name = "[::1]:8448"
        [database]
        url = "postgres://me:hidden@db/myelin"
        [[listeners]]
        bind = "0.0.0.0:8448"
        serve = ["client", "federation"]
        tls_certificate = "cert.pem"
        tls_private_key = "key.pem"
        [limits]
        request_size = "1 MiB"
        login.per_second = 3
    "#;
    let variables = env(&[
        ("MYELIN_LISTENERS_1_BIND", "127.0.0.1:9000"),
        ("MYELIN_LISTENERS_1_SERVE", "metrics, client"),
        ("MYELIN_LISTENERS_0_BIND", "127.0.0.1:8448"),
        ("MYELIN_LIMITS_RATE_LIMITS", "false"),
        ("MYELIN_OUTBOUND_HTTP_DENIED_IP_RANGES", ""),
        ("MYELIN_LIMITS_PASSWORD_HASHING_MEMORY_KIB", "64"),
        ("MYELIN_CONFIG", "elsewhere.toml"),
    ]);
    let settings = load(file(text), variables).unwrap();
    assert_eq!(settings.public_baseurl(), "http://[::1]:8448");
    assert_eq!(settings.listeners[0].bind.to_string(), "127.0.0.1:8448");
    assert_eq!(settings.listeners[1].serve, [Api::Metrics, Api::Client]);
    assert_eq!(settings.limits.request_size, 1 << 20);
    assert_eq!(settings.limits.login.per_second, 3.0);
    assert!(!settings.limits.rate_limits);
    assert!(settings.outbound_http.denied_ip_ranges.is_empty());
    assert_eq!(settings.limits.password_hashing.memory_kib, 64);
    assert!(!format!("{settings:?}").contains("hidden"));
}

#[test]
fn wrong_values_name_key_place_and_what_is_allowed() {
    check_error(
        "\n[registration]\nmode = \"opne\"",
        &[],
        &["myelin.toml:3: registration.mode: \"opne\" stands there", "one of closed, token, open"],
    );
    check_error("log = 3", &[], &["myelin.toml:1: log: allowed: a table, written as [log]"]);
    check_error("[listeners]\nbind = \"x\"", &[], &["listeners: allowed: a list of tables"]);
    check_error("[limits]\nrequest_size = \"9 parsecs\"", &[], &["9 parsecs", "64 MiB"]);
    check_error(
        "[database]\nconnections = 0",
        &[],
        &["database.connections: 0 stands there", "from 1 to 500"],
    );
    check_error("[[listeners]]\nbind = \"localhost\"", &[], &["listeners.0.bind", "127.0.0.1:8008"]);
    check_error("server_name = 1979-05-27", &[], &["server_name: 1979-05-27 stands there"]);
    check_error(
        "",
        &[("MYELIN_REGISTRATION_MODE", "all")],
        &["MYELIN_REGISTRATION_MODE: registration.mode: \"all\""],
    );
    check_error(
        "[turn]\nuris = [\"turn.example\"]",
        &[],
        &["turn.uris", "turn.example", "turn:turn.example.org:3478"],
    );
    check_error("[turn]\nuris = [\"turn:turn.example\"]", &[], &["turn: uris and shared_secret"]);
    check_error("a =", &[], &["myelin.toml:1"]);
}

#[test]
fn all_problems_are_told_at_once_in_order() {
    let error = load(file("zebra = 1\n[log]\nlevle = 2\nformat = 3"), env(&[])).unwrap_err();
    let places: Vec<_> = error.problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places, ["myelin.toml:1", "myelin.toml:3", "myelin.toml:4"]);
}

#[test]
fn unknown_names_come_with_the_nearest_known_one() {
    check_error("[log]\nlevle = \"info\"", &[], &["log.levle: unknown key", "log.level"]);
    check_error("[[listeners]]\nbnid = \"x\"", &[], &["listeners.bnid: unknown key", "listeners.bind"]);
    check_error(
        "",
        &[("MYELIN_SERVERNAME", "x")],
        &["MYELIN_SERVERNAME: unknown variable", "MYELIN_SERVER_NAME"],
    );
}

#[test]
fn secrets_are_not_in_messages() {
    check_error("[database]\nurl = \"mysql://me:hidden@db\"", &[], &["something else stands there"]);
    let error = load(None, env(&[("MYELIN_DATABASE_URL", "hidden")])).unwrap_err();
    assert!(!error.to_string().contains("hidden"));
}

#[test]
fn what_concerns_several_keys() {
    check_error("[[listeners]]\ntls_certificate = \"a\"", &[], &["only allowed together"]);
    check_error("[[listeners]]\nserve=[]\n[[listeners]]\nserve=[]", &[], &["listeners.1.bind", "already"]);
    check_error("", &[("MYELIN_LISTENERS_4_BIND", "127.0.0.1:1")], &["nothing is set for number 0"]);
    check_error(
        "[limits.password_hashing]\nmemory_kib = 8\nparallelism = 2",
        &[],
        &["memory_kib", "2 lanes"],
    );
}

#[test]
fn printed_settings_read_back_the_same() {
    let text = "server_name = \"example.org\"\n[[listeners]]\nbind = \"127.0.0.1:1\"\n[[listeners]]\nbind = \"[::1]:2\"\n[registration]\nshared_secret = \"hidden\"";
    let entries = load_entries(file(text), env(&[])).unwrap();
    let printed = as_toml(&entries);
    assert!(!printed.contains("hidden"));
    let again = load_entries(file(&printed), env(&[])).unwrap();
    assert_eq!(as_toml(&again), printed.replace("#shared_secret = (set, not shown)", "#shared_secret ="));
}

#[test]
fn ip_ranges() {
    let all: IpRange = "0.0.0.0/0".parse().unwrap();
    assert!(all.contains("1.2.3.4".parse().unwrap()));
    assert!(!all.contains("2001::1".parse().unwrap()));
    let one: IpRange = "1.2.3.4/32".parse().unwrap();
    assert!(one.contains("1.2.3.4".parse().unwrap()) && !one.contains("1.2.3.5".parse().unwrap()));
    for wrong in ["1.2.3.4", "1.2.3.4/33", "::/129", "x/8", "1.2.3.4/-1"] {
        assert!(wrong.parse::<IpRange>().is_err(), "{wrong}");
    }
}
