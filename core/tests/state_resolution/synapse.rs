//! Synapse, as a process that resolves what it is sent.

use crate::graph::Graph;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The process.
pub struct Synapse {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The points in which Synapse departs from the specification: `tools/state-resolution/resolve.py` says how.
pub const DEPARTURES: [&str; 4] = ["rejected", "federate", "levels", "defaults"];

/// What Synapse makes of a graph.
pub struct Answer<const N: usize> {
    /// For each way and each resolution.
    pub resolved: [Vec<Resolved>; N],
    /// For each way and each try.
    pub allowed: [Vec<bool>; N],
    /// The time that the first way took.
    pub seconds: f64,
}

#[derive(Deserialize)]
struct Json {
    resolved: Vec<Vec<Resolved>>,
    allowed: Vec<Vec<bool>>,
    seconds: f64,
}

/// The ids of a resolved state, sorted, or why there is none.
#[derive(Deserialize, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Resolved {
    Events(Vec<String>),
    Error(String),
}

impl Synapse {
    pub fn start() -> Self {
        // Not a reason to pass: whoever runs this is to compare with Synapse.
        let folder = std::env::var_os("MYELIN_TEST_SYNAPSE").map(PathBuf::from).unwrap_or_else(|| {
            panic!("run tools/state-resolution/run, which installs Synapse, or set MYELIN_TEST_SYNAPSE to a virtual environment with it")
        });
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/state-resolution/resolve.py");
        let python = folder.join("bin/python");
        let mut child = Command::new(&python)
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let requests = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, requests, answers }
    }

    /// Has a graph's states resolved, once for each list of departures that Synapse is to do without.
    pub fn resolve<const N: usize>(&mut self, graph: &Graph, ways: [&[&str]; N]) -> Answer<N> {
        writeln!(self.requests, "{}", graph.line(&ways)).expect("resolve.py has ended; it has said why");
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Json = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("resolve.py answered {line:?}: {error}"));
        Answer {
            resolved: answer.resolved.try_into().expect("an answer for each way"),
            allowed: answer.allowed.try_into().expect("an answer for each way"),
            seconds: answer.seconds,
        }
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
