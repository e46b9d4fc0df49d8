//! What the demo has seen: who read what, where the plain text was found, what was not as it
//! should be.

use super::{
    conversation::{Scene, Store},
    people::{Device, quiet},
    search::{Findings, search},
};
use crate::{
    messages::{self, Content},
    output::Output,
    session::Session,
};
use anyhow::{Context, Result};
use matrix_sdk::ruma::{OwnedEventId, OwnedRoomId, api::client::room::get_room_event};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long keys may take to follow their messages.
const PATIENCE: Duration = Duration::from_secs(30);
/// As much of a message's ciphertext as must be found to trust the search.
const CIPHERTEXT_PART: usize = 64;

/// A message that was sent.
pub struct Sent {
    /// The room.
    pub room: OwnedRoomId,
    /// What kind of room it is.
    pub kind: &'static str,
    /// The device that sent it.
    pub from: String,
    /// The event.
    pub event: OwnedEventId,
    /// The plain text.
    pub text: String,
}

/// What somebody made of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Had the plain text.
    Read,
    /// Had ciphertext only.
    Unreadable,
    /// Was not there yet, or did not see it.
    Absent,
}

struct Row {
    label: String,
    readings: Vec<Reading>,
}

/// Everything that counts at the end.
#[derive(Default)]
pub struct Evidence {
    /// The messages, in their order.
    pub sent: Vec<Sent>,
    rows: Vec<Row>,
    checks: usize,
    problems: Vec<String>,
    searched: Vec<String>,
}

impl Evidence {
    /// Notes whether something is as it should be.
    pub fn expect(&mut self, what: impl Into<String>, is_so: bool) {
        self.checks += 1;
        if !is_so {
            self.problems.push(what.into());
        }
    }

    /// Lets a device read everything and notes what it could read. The messages in `unreadable`
    /// must be ciphertext to it, all others plain text.
    pub async fn read(
        &mut self,
        device: &Device,
        state: &str,
        unreadable: &[usize],
        out: &Output,
    ) -> Result<()> {
        let expected: Vec<_> = (0..self.sent.len())
            .map(|i| if unreadable.contains(&i) { Reading::Unreadable } else { Reading::Read })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        let readings = loop {
            device.session.catch_up(&quiet()).await?;
            let readings = self.look(device).await?;
            if readings == expected || Instant::now() > deadline {
                break readings;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let label = format!("{}{state}", device.label);
        let count = readings.iter().filter(|reading| **reading == Reading::Read).count();
        for (i, (seen, expected)) in readings.iter().zip(&expected).enumerate() {
            self.expect(
                format!("{label}: message {} is {expected:?}, seen: {seen:?}", i + 1),
                seen == expected,
            );
        }
        out.report(
            "reading",
            json!({ "label": label, "readable": readings.iter().map(|r| *r == Reading::Read).collect::<Vec<_>>() }),
            format!("{label} can read {count} of {} messages.", readings.len()),
        )?;
        // A device's later reading replaces its earlier one in the same state.
        self.rows.retain(|row| row.label != label);
        self.rows.push(Row { label, readings });
        Ok(())
    }

    async fn look(&self, device: &Device) -> Result<Vec<Reading>> {
        let mut seen = Vec::new();
        let mut rooms: Vec<_> = self.sent.iter().map(|sent| &sent.room).collect();
        rooms.dedup();
        for id in rooms {
            let room = device.session.client.get_room(id).context("the room is not known")?;
            seen.extend(messages::last(&room, 100).await?);
        }
        let reading = |sent: &Sent| match seen.iter().find(|message| message.event == sent.event.as_str()) {
            Some(message) if message.text() == Some(&sent.text) => Reading::Read,
            Some(message) if message.content == Content::Undecryptable => Reading::Unreadable,
            _ => Reading::Absent,
        };
        Ok(self.sent.iter().map(reading).collect())
    }

    /// Searches the servers' files, and the devices' stores, for the plain text of every message;
    /// the ciphertext must be found on the server, or the search would prove nothing.
    pub async fn search(&mut self, session: &Session, scene: &Scene, out: &Output) -> Result<()> {
        let progress = out.progress("Searching the server's files for the plain text");
        let texts: Vec<_> = self.sent.iter().map(|sent| sent.text.clone()).collect();
        if scene.stores.is_empty() {
            self.searched
                .push("The server's files were not searched: --data says where they are.".to_owned());
        }
        let mut wanted = texts.clone();
        for sent in self.sent.iter().filter(|_| !scene.stores.is_empty()) {
            wanted.push(ciphertext(session, sent).await?);
        }
        for Store { label, paths } in &scene.stores {
            let findings = in_background(paths.clone(), wanted.clone()).await?;
            let (plain, cipher) = findings.found.split_at(texts.len());
            for (i, found) in plain.iter().enumerate() {
                self.expect(format!("{label} do not hold the plain text of message {}", i + 1), !found);
            }
            for (i, found) in cipher.iter().enumerate() {
                self.expect(format!("{label} hold the ciphertext of message {}", i + 1), *found);
            }
            self.note_search(label, &findings, plain);
        }
        let findings = in_background(vec![scene.devices.clone()], texts).await?;
        for (i, found) in findings.found.iter().enumerate() {
            self.expect(
                format!("the devices' stores do not hold the plain text of message {}", i + 1),
                !found,
            );
        }
        let found = findings.found.clone();
        self.note_search("the devices' stores at rest", &findings, &found);
        drop(progress);
        Ok(())
    }

    fn note_search(&mut self, label: &str, findings: &Findings, plain: &[bool]) {
        let readings = plain.iter().map(|found| if *found { Reading::Read } else { Reading::Unreadable });
        self.rows.push(Row { label: label.to_owned(), readings: readings.collect() });
        let count = plain.iter().filter(|found| **found).count();
        self.searched.push(format!(
            "Searched {label} ({} files, {:.1} MB) for the {} plain texts, also in base64: {count} found.",
            findings.files,
            findings.bytes as f64 / 1e6,
            plain.len()
        ));
    }

    /// Prints the table and the verdict; returns how many things were not as they should be.
    pub fn conclude(&self, out: &Output) -> Result<usize> {
        out.say("\nWho could read what\n")?;
        for (i, sent) in self.sent.iter().enumerate() {
            out.say(format!("  ({}) {} in the {} room: {}", i + 1, sent.from, sent.kind, sent.text))?;
        }
        out.say(format!("\n{}", self.table()))?;
        for line in &self.searched {
            out.say(line)?;
        }
        let rows: Vec<_> = self.rows.iter().map(Row::to_json).collect();
        let fields = json!({
            "rows": rows, "searched": self.searched, "checks": self.checks, "problems": self.problems,
            "ok": self.problems.is_empty(),
        });
        let verdict = if self.problems.is_empty() {
            format!("\nAll {} checks are as they should be.", self.checks)
        } else {
            format!("\nNOT as it should be:\n  - {}", self.problems.join("\n  - "))
        };
        out.report("result", fields, verdict)?;
        Ok(self.problems.len())
    }

    fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.label.len()).max().unwrap_or(0);
        let heads: String =
            (1..=self.sent.len()).map(|number| format!("  {:^5}", format!("({number})"))).collect();
        let rule = "─".repeat(width + heads.chars().count());
        let mut text = format!("{:width$}{heads}\n{rule}\n", "");
        for row in &self.rows {
            let cells = (0..self.sent.len()).map(|i| {
                let mark = match row.readings.get(i) {
                    Some(Reading::Read) => "read",
                    Some(Reading::Unreadable) => "·",
                    Some(Reading::Absent) => "?",
                    None => "",
                };
                format!("  {mark:^5}")
            });
            let line = format!("{:width$}{}", row.label, cells.collect::<String>());
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push_str("\nread = had the plain text   · = ciphertext only   blank = sent later\n");
        text
    }
}

impl Row {
    fn to_json(&self) -> Value {
        let readings: Vec<_> = self
            .readings
            .iter()
            .map(|reading| match reading {
                Reading::Read => "read",
                Reading::Unreadable => "unreadable",
                Reading::Absent => "absent",
            })
            .collect();
        json!({ "label": self.label, "readings": readings })
    }
}

/// A part of a message's ciphertext, as the server gives it out.
async fn ciphertext(session: &Session, sent: &Sent) -> Result<String> {
    let request = get_room_event::v3::Request::new(sent.room.clone(), sent.event.clone());
    let event: Value = session.client.send(request).await?.event.deserialize_as_unchecked()?;
    let text = event.pointer("/content/ciphertext").and_then(Value::as_str);
    let text = text.with_context(|| format!("{} is not encrypted", sent.event))?;
    Ok(text.chars().take(CIPHERTEXT_PART).collect())
}

async fn in_background(paths: Vec<std::path::PathBuf>, texts: Vec<String>) -> Result<Findings> {
    tokio::task::spawn_blocking(move || search(&paths, &texts)).await?
}
