//! The demo between two servers, which it starts itself: `MYELIN_TEST_BIN` names the program. Without it the test says so
//! and does nothing.

use crate::world::{Captured, given};
use myelin_client::demo;
use std::{collections::BTreeSet, path::Path};

#[tokio::test]
async fn two_people_on_two_servers() {
    let Some(program) = given("MYELIN_TEST_BIN", "two_people_on_two_servers") else { return };
    let captured = Captured::default();
    let arguments =
        demo::Arguments { federated: true, myelin: Some(program.into()), ..demo::Arguments::default() };
    demo::run(arguments, &captured.output()).await.unwrap();

    let servers = captured.all("server");
    let names: BTreeSet<&str> = servers.iter().map(|server| server["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{servers:?}");
    let devices = captured.all("device");
    let homes: BTreeSet<&str> =
        devices.iter().map(|device| device["user"].as_str().unwrap().split_once(':').unwrap().1).collect();
    assert_eq!(homes, names, "each person is on a server of their own");

    let result = &captured.all("result")[0];
    assert_eq!(result["ok"], true, "{result}");
    let labels: Vec<&str> =
        result["rows"].as_array().unwrap().iter().map(|row| row["label"].as_str().unwrap()).collect();
    for label in ["the files of alice's server", "the files of bob's server"] {
        assert!(labels.contains(&label), "{labels:?}");
    }

    assert_eq!(captured.all("server_ended").len(), 2);
    for server in &servers {
        let data = Path::new(server["data"].as_str().unwrap());
        assert!(!data.parent().unwrap().exists(), "{} is still there", data.display());
    }
}
