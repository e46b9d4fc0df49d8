//! Accounts, devices and captured output for the tests.

use anyhow::Result;
use myelin_client::{
    demo::people::{Device, Person},
    output::Output,
};
use serde_json::Value;
use std::{
    io::Write,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

/// The server to test against; None (loudly) if there is none.
pub fn server(test: &str) -> Option<String> {
    given("MYELIN_TEST_SERVER", test)
}

/// What a variable gives to a test; None (loudly) if it is not set.
pub fn given(variable: &str, test: &str) -> Option<String> {
    let value = std::env::var(variable).ok();
    if value.is_none() {
        // Past the capture of the test harness, so that nobody takes this for a pass.
        let _ = writeln!(std::io::stderr().lock(), "SKIPPED {test}: {variable} is not set");
    }
    value
}

/// People whose devices live in one temporary folder.
pub struct World {
    server: String,
    home: TempDir,
}

impl World {
    pub fn new(server: String) -> Self {
        Self { server, home: tempfile::tempdir().unwrap() }
    }

    pub async fn person(&self, name: &'static str) -> Person {
        let person = self.stranger(name);
        person.register().await.unwrap();
        person
    }

    /// Somebody who has no account yet.
    pub fn stranger(&self, name: &'static str) -> Person {
        Person::new(name, &self.server, None)
    }

    pub async fn device(&self, person: &Person, number: usize) -> Device {
        person.log_in(number, self.home.path()).await.unwrap()
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn home(&self) -> &std::path::Path {
        self.home.path()
    }
}

/// An output whose JSON lines can be looked at.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    pub fn output(&self) -> Output {
        Output::into_writer(true, self.clone())
    }

    /// What was reported with this type.
    pub fn all(&self, kind: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|value| value["type"] == kind).collect()
    }
}

/// What a command reports with this type.
pub async fn reported(kind: &str, command: impl AsyncFnOnce(&Output) -> Result<()>) -> Vec<Value> {
    let captured = Captured::default();
    command(&captured.output()).await.unwrap();
    captured.all(kind)
}
