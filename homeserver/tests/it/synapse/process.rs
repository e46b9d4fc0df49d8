//! Synapse, as a process of its own, and Myelin as one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::home::Home;
use crate::pair::certificates;
use crate::support::{federating, free_port};

/// How long a start may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// A Synapse with its files.
pub struct Synapse {
    ports: [u16; 2],
    folder: TempDir,
    child: Option<Child>,
}

impl Synapse {
    /// The one that tests share which leave it as it is: it starts for the first and ends with the last.
    pub async fn shared() -> Arc<Synapse> {
        static SHARED: Mutex<Weak<Synapse>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&started);
        started
    }

    /// Starts a new one.
    pub async fn start() -> Synapse {
        let ports = [free_port(), free_port()];
        let mut synapse = Self { ports, folder: tempfile::tempdir().unwrap(), child: None };
        synapse.resume().await;
        synapse
    }

    /// What its clients see. Each test has connections of its own, which end with the test.
    pub fn home(&self) -> Home {
        // Ours is called by an address, so this is another host to access lists.
        let [clients, servers] = self.ports;
        Home::new("Synapse", format!("localhost:{servers}"), format!("http://127.0.0.1:{clients}"))
    }

    /// Starts the process, on the files of the last one.
    pub async fn resume(&mut self) {
        let files = certificates();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/synapse/serve.py");
        let python = environment().join("bin/python");
        let ports = self.ports.map(|port| port.to_string());
        let child = Command::new(&python)
            .arg(program)
            .arg(self.folder.path())
            .args(ports)
            .args([&files.authority, &files.certificate, &files.key])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
        let home = self.home();
        until_it_answers(&home, self.child.insert(child)).await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Waits until it has found that a server does not answer, since it had told so many bytes. Before that it would not
    /// notice that the server is back.
    pub async fn until_given_up(&self, name: &str, told: usize) {
        let began = Instant::now();
        let given_up = |line: &str| line.contains(&format!("TX [{name}]")) && line.contains("Failed to send");
        while !self.log()[told..].lines().any(given_up) {
            assert!(began.elapsed() < PATIENCE, "Synapse did not give {name} up: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it told, from WARNING on; `MYELIN_TEST_SYNAPSE_LOG=INFO` makes it tell more.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Synapse's log:\n{}", self.log());
        }
        self.kill();
    }
}

/// A Myelin in a process of its own, with its files.
pub struct Myelin {
    /// What its clients see.
    pub home: Home,
    address: String,
    folder: TempDir,
    child: Option<Child>,
}

impl Myelin {
    /// Starts a new one.
    pub async fn start() -> Myelin {
        let (name, address) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let home = Home::new("Myelin", name, format!("http://{address}"));
        let mut myelin = Self { home, address, folder: tempfile::tempdir().unwrap(), child: None };
        myelin.resume().await;
        myelin
    }

    /// Starts the process, on the files of the last one.
    pub async fn resume(&mut self) {
        let data = self.folder.path().display().to_string();
        let own = [
            ("DATA_DIR", data.as_str()),
            ("LISTENERS_0_BIND", &self.address),
            ("REGISTRATION_MODE", "open"),
            ("LIMITS_RATE_LIMITS", "false"),
            ("LIMITS_PASSWORD_HASHING_MEMORY_KIB", "64"),
            ("LIMITS_PASSWORD_HASHING_ITERATIONS", "1"),
            ("LOG_LEVEL", "error"),
        ];
        let settings = federating(&self.home.name).into_iter().chain(own);
        let child = Command::new(env!("CARGO_BIN_EXE_myelin"))
            .arg("serve")
            // The tests' own variables are no settings.
            .env_clear()
            .envs(settings.map(|(name, value)| (format!("MYELIN_{name}"), value)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until_it_answers(&self.home, self.child.insert(child)).await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Myelin {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn until_it_answers(home: &Home, child: &mut Child) {
    let began = Instant::now();
    while !home.answers().await {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && began.elapsed() < PATIENCE, "{} does not start", home.kind);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The virtual environment with Synapse.
fn environment() -> PathBuf {
    // Not a reason to pass: whoever runs these tests is to run them with Synapse.
    std::env::var_os("MYELIN_TEST_SYNAPSE").map(PathBuf::from).unwrap_or_else(|| {
        panic!(
            "set MYELIN_TEST_SYNAPSE to a virtual environment with Synapse; tools/synapse/install makes one"
        )
    })
}
