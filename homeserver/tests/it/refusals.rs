//! What each endpoint answers to what no client should send: wrong types, missing fields, unknown ids, other people's
//! rooms, devices and accounts. The list is `data/refusals.txt`; whatever is refused has written nothing.

use myelin::router;
use myelin_core::config::Api;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::support::{Setup, User, each_setup_with, ok};

const LIST: &str = include_str!("data/refusals.txt");

/// A line of the list.
struct Line<'a> {
    who: &'a str,
    method: Method,
    path: &'a str,
    body: &'a str,
    /// Status and errcode.
    refusal: &'a str,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Line<'a> {
        let (who, rest) = line.split_once(' ').expect(line);
        let (method, rest) = rest.split_once(' ').expect(line);
        let (rest, errcode) = rest.rsplit_once(' ').expect(line);
        let (rest, status) = rest.rsplit_once(' ').expect(line);
        let refusal = &line[line.len() - status.len() - errcode.len() - 1..];
        let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
        Line { who, method: method.parse().expect(line), path, body, refusal }
    }
}

/// Who is there, and what stands for the words in braces.
struct World {
    users: Vec<(&'static str, User)>,
    words: Vec<(&'static str, String)>,
}

impl World {
    async fn make(setup: &Setup) -> World {
        let alice = setup.register("alice").await;
        let bob = setup.register("bob").await;
        let eve = setup.register("eve").await;
        let guest = "/_matrix/client/v3/register?kind=guest";
        let gus = User::of(ok(setup.post(guest, None, json!({})).await));
        let mut rooms = Vec::new();
        for body in [json!({}), json!({}), json!({ "room_alias_name": "taken" })] {
            let room = ok(setup.post("/_matrix/client/v3/createRoom", &*alice.token, body).await);
            rooms.push(room["room_id"].as_str().unwrap().to_owned());
        }
        let [own, shared, hers] = <[String; 3]>::try_from(rooms).unwrap();
        let mut events = Vec::new();
        for room in [&shared, &hers] {
            let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/first");
            let event = ok(setup.put(&path, &*alice.token, json!({ "body": "x" })).await);
            events.push(event["event_id"].as_str().unwrap().to_owned());
        }
        for room in [&own, &shared] {
            let path = |what: &str| format!("/_matrix/client/v3/rooms/{room}/{what}");
            let body = json!({ "user_id": bob.id });
            ok(setup.post(&path("invite"), &*alice.token, body).await);
            ok(setup.post(&path("join"), &*bob.token, json!({})).await);
        }
        let leave = format!("/_matrix/client/v3/rooms/{own}/leave");
        ok(setup.post(&leave, &*bob.token, json!({})).await);
        let keys = json!({ "one_time_keys": { "signed_curve25519:USED": { "key": "x", "signatures": {} } } });
        ok(setup.post("/_matrix/client/v3/keys/upload", &*alice.token, keys).await);
        let backup = json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {} });
        let backup = ok(setup.post("/_matrix/client/v3/room_keys/version", &*bob.token, backup).await);
        let words = vec![
            ("alice", alice.id.clone()),
            ("bob", bob.id.clone()),
            ("eve", eve.id.clone()),
            ("gus", gus.id.clone()),
            ("device", alice.device.clone()),
            ("bobs_device", bob.device.clone()),
            ("own", own),
            ("shared", shared),
            ("hers", hers),
            ("event", events.remove(0)),
            ("secret", events.remove(0)),
            ("backup", backup["version"].as_str().unwrap().to_owned()),
        ];
        let users = vec![("alice", alice), ("bob", bob), ("eve", eve), ("gus", gus)];
        World { users, words }
    }

    fn filled(&self, text: &str) -> String {
        self.words
            .iter()
            .fold(text.to_owned(), |text, (word, value)| text.replace(&format!("{{{word}}}"), value))
    }

    async fn send(&self, setup: &Setup, client: &Client, line: &Line<'_>) -> String {
        let path = self.filled(line.path);
        let path = match path.starts_with('/') {
            true => path,
            false => format!("/_matrix/client/v3/{path}"),
        };
        let mut request = client.request(line.method.clone(), format!("{}{path}", setup.url()));
        if !line.body.is_empty() {
            request = request.body(self.filled(line.body));
        }
        if let Some((_, user)) = self.users.iter().find(|(name, _)| *name == line.who) {
            request = request.bearer_auth(&user.token);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        let says = body["errcode"].as_str().or(body.get("flows").map(|_| "interactive"));
        format!("{status} {}", says.unwrap_or("-"))
    }
}

#[tokio::test]
async fn each_endpoint_refuses_as_the_list_says() {
    each_setup_with(&[("REGISTRATION_GUESTS", "true")], async |setup| {
        let world = World::make(&setup).await;
        let client = Client::new();
        let mut wrong = Vec::new();
        for text in LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let line = Line::read(text);
            let before = setup.cores[0].log.visible();
            let got = world.send(&setup, &client, &line).await;
            if got != line.refusal {
                wrong.push(format!("{text}\n    but was {got}"));
            }
            if setup.cores.len() == 1 && setup.cores[0].log.visible() != before {
                wrong.push(format!("{text}\n    but something was written"));
            }
        }
        assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
    })
    .await;
}

/// A session that is over for now keeps its device: the client is told to log in softly, on every route.
#[tokio::test]
async fn expired_tokens_are_refused_everywhere() {
    each_setup_with(&[], async |setup| {
        setup.register("alice").await;
        let login = json!({
            "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "alice" },
            "password": "alice", "refresh_token": true,
        });
        let answer = ok(setup.post("/_matrix/client/v3/login", None, login).await);
        let lives = answer["expires_in_ms"].as_i64().unwrap();
        let token = answer["access_token"].as_str().unwrap();
        ok(setup.get("/_matrix/client/v3/account/whoami", token).await);
        setup.clock.advance(lives + 1);
        let client = Client::new();
        for route in router::routes(Api::Client).iter().filter(|route| route.authentication == "access token")
        {
            for path in &route.paths {
                let request = client.request(route.method.clone(), format!("{}{path}", setup.url()));
                let answer = request.bearer_auth(token).body("{}").send().await.unwrap();
                let status = answer.status().as_u16();
                let body: Value = answer.json().await.unwrap();
                let got = (status, body["errcode"].as_str(), body["soft_logout"].as_bool());
                assert_eq!(got, (401, Some("M_UNKNOWN_TOKEN"), Some(true)), "{} {path}", route.method);
            }
        }
    })
    .await;
}
