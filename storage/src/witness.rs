//! The witness: a small file beside a SQLite database that says how far the database had come.
//!
//! It is written after each commit and before the commit is acknowledged, without being forced to the disk: what a
//! process has written survives its death, only not the machine's. So the file says when it was opened, on which boot of
//! the machine, and whether it was closed in order; that is forced to the disk, once at each opening and closing. The
//! witness is never ahead of the database that it belongs to, and after the death of a process it is exactly as far as
//! what was acknowledged. docs/decisions/epochs.md has the reasoning.

use crate::database::Database;
use crate::log::{Entry, Kind};
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Where Linux says which boot of the machine this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// What a witness says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The epoch.
    pub epoch: i64,
    /// The position up to which commits were acknowledged.
    pub pos: i64,
    /// The database was closed in order, and the file is on the disk.
    pub closed: bool,
    /// The boot of the machine on which the database was opened; empty where that is not known.
    pub boot: String,
}

/// The witness of a database.
pub struct Witness {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<File>,
    record: Record,
}

impl Record {
    /// Always of the same length: it is written over the one before.
    fn to_text(&self) -> String {
        let state = if self.closed { "closed" } else { "opened" };
        let text = format!(
            "myelin witness 1\nepoch {:>20}\npos {:>20}\n{state} {:<64.64}\n",
            self.epoch, self.pos, self.boot
        );
        format!("{text}sum {:016x}\n", sum(text.as_bytes()))
    }

    /// `None` where the text is none that was written in one piece.
    fn parse(text: &str) -> Option<Record> {
        let (body, sum_line) = text.trim_end().rsplit_once('\n')?;
        let found = u64::from_str_radix(sum_line.strip_prefix("sum ")?, 16).ok()?;
        if found != sum(format!("{body}\n").as_bytes()) {
            return None;
        }
        let mut lines = body.lines();
        lines.next().filter(|line| *line == "myelin witness 1")?;
        let epoch = lines.next()?.strip_prefix("epoch ")?.trim().parse().ok()?;
        let pos = lines.next()?.strip_prefix("pos ")?.trim().parse().ok()?;
        let (state, boot) = lines.next()?.split_once(' ')?;
        Some(Record { epoch, pos, closed: state == "closed", boot: boot.trim().to_owned() })
    }
}

/// FNV-1a: tells a record from a torn or edited one.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Which boot of the machine this is; empty where the system does not say.
pub fn boot() -> String {
    std::fs::read_to_string(BOOT).map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl Witness {
    /// The witness beside a database's file.
    pub(crate) fn beside(database: &Path) -> Witness {
        let mut path = database.as_os_str().to_owned();
        path.push("-witness");
        Witness { path: path.into(), state: Mutex::default() }
    }

    /// What the file says; `None` where it is missing or damaged.
    pub fn read(&self) -> Option<Record> {
        Record::parse(&std::fs::read_to_string(&self.path).ok()?)
    }

    /// Begins to witness. What it says is on the disk when this returns.
    pub fn begin(&self, epoch: i64, pos: i64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
        let record = Record { epoch, pos, closed: false, boot: boot() };
        let text = record.to_text();
        file.set_len(text.len() as u64)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_all()?;
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        *self.state.lock() = State { file: Some(file), record };
        Ok(())
    }

    /// Notes a commit.
    pub(crate) fn note(&self, pos: i64, entries: &[Entry]) {
        let mut state = self.state.lock();
        state.record.pos = pos;
        if let Some(entry) = entries.iter().rfind(|entry| entry.kind == Kind::Epoch) {
            state.record.epoch = entry.object;
        }
        if let Some(file) = &state.file
            && let Err(error) = file.write_all_at(state.record.to_text().as_bytes(), 0)
        {
            tracing::error!(%error, file = %self.path.display(), "the database's witness cannot be written");
        }
    }

    /// Notes that the database was closed in order. Does nothing where the witness was never begun.
    fn close(&self, pos: i64) {
        let mut state = self.state.lock();
        let Some(file) = state.file.take() else { return };
        state.record.pos = pos;
        state.record.closed = true;
        let written = file.write_all_at(state.record.to_text().as_bytes(), 0).and_then(|()| file.sync_all());
        if let Err(error) = written {
            tracing::warn!(%error, "the database's witness could not be closed");
        }
    }
}

impl Database {
    /// The witness of a SQLite database.
    pub fn witness(&self) -> Option<&Witness> {
        self.witness.as_deref()
    }

    /// Closes the witness at the head of the log.
    pub(crate) async fn close_witness(&self) {
        let Some(witness) = self.witness() else { return };
        let head = async { crate::log::head(&mut self.read().await?).await };
        match head.await {
            Ok(head) => witness.close(head),
            Err(error) => tracing::warn!(%error, "the database's witness stays open"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record { epoch: 77, pos: 123_456, closed: false, boot: "a-boot".to_owned() }
    }

    #[test]
    fn records_go_round_and_have_one_length() {
        let text = record().to_text();
        assert_eq!(Record::parse(&text), Some(record()));
        let other = Record { epoch: i64::MAX, pos: i64::MAX, closed: true, boot: String::new() };
        assert_eq!(Record::parse(&other.to_text()), Some(other.clone()));
        assert_eq!(other.to_text().len(), text.len());
    }

    #[test]
    fn what_is_torn_or_edited_says_nothing() {
        let text = record().to_text();
        assert_eq!(Record::parse(&text.replace("123456", "123457")), None);
        for end in 0..text.len() - 1 {
            assert_eq!(Record::parse(&text[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_witness_says_what_was_noted() {
        let folder = tempfile::tempdir().unwrap();
        let witness = Witness::beside(&folder.path().join("m.db"));
        assert_eq!(witness.read(), None);
        witness.note(3, &[]);
        assert_eq!(witness.read(), None, "it was not begun");
        witness.begin(5, 10).unwrap();
        let entry = |kind, object| Entry { pos: 12, kind, scope: 0, object };
        witness.note(12, &[entry(Kind::Epoch, 6), entry(Kind::DeviceList, 0)]);
        let expected = Record { epoch: 6, pos: 12, closed: false, boot: boot() };
        assert_eq!(witness.read(), Some(expected.clone()));
        witness.close(13);
        assert_eq!(witness.read(), Some(Record { pos: 13, closed: true, ..expected }));
    }
}
