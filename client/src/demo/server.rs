//! A homeserver of the demo's own: a process on a free port of the loopback interface.

use crate::output::Output;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running homeserver.
pub struct Server {
    /// Its address for clients.
    pub url: String,
    /// Where it keeps its data.
    pub data: PathBuf,
    log: PathBuf,
    child: Child,
}

/// How the server is told what to do: the one place that knows the names of its settings.
fn settings(port: u16, data: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("MYELIN_SERVER_NAME", format!("localhost:{port}")),
        ("MYELIN_DATA_DIR", data.display().to_string()),
        ("MYELIN_LISTENERS_0_BIND", format!("127.0.0.1:{port}")),
        ("MYELIN_REGISTRATION_MODE", "open".to_owned()),
        ("MYELIN_LIMITS_RATE_LIMITS", "false".to_owned()),
    ]
}

impl Server {
    /// Starts a server with its data in `folder` and waits until it answers.
    pub async fn start(program: Option<&Path>, folder: &Path, out: &Output) -> Result<Self> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => find_program()?,
        };
        let data = folder.join("server");
        fs::create_dir(&data)?;
        let log = folder.join("server.log");
        // Free now and, in all likelihood, a moment later.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log_file = File::create(&log)?;
        let began = Instant::now();
        // Variables of ours that are meant for something else (the client, tests, another server) would be refused or,
        // worse, obeyed.
        let others =
            env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("MYELIN_"));
        let mut command = Command::new(&program);
        for name in others {
            command.env_remove(name);
        }
        let child = command
            .arg("serve")
            .envs(settings(port, &data))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} could not be started", program.display()))?;
        let mut server = Self { url: format!("http://127.0.0.1:{port}"), data, log, child };
        let progress = out.progress("Starting a homeserver");
        server.wait_until_it_answers().await?;
        drop(progress);
        let milliseconds = began.elapsed().as_millis();
        out.report(
            "server",
            json!({ "url": server.url, "data": server.data, "milliseconds": milliseconds }),
            format!(
                "A homeserver runs at {} (after {milliseconds} ms); its data is in {}.",
                server.url,
                server.data.display()
            ),
        )?;
        Ok(server)
    }

    async fn wait_until_it_answers(&mut self) -> Result<()> {
        let http = matrix_sdk::reqwest::Client::new();
        let url = format!("{}/_matrix/client/versions", self.url);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at once ({status}):\n{}", self.last_lines());
            }
            if http.get(&url).send().await.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the server did not answer GET {url}:\n{}", self.last_lines())
    }

    /// The end of what the server said.
    pub fn last_lines(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks the server to end, and waits for it.
    pub async fn stop(mut self, out: &Output) -> Result<()> {
        let began = Instant::now();
        terminate(&mut self.child)?;
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .context("the server did not end when it was asked to")??;
        if !status.success() {
            bail!("the server ended with {status}:\n{}", self.last_lines());
        }
        let milliseconds = began.elapsed().as_millis();
        out.report(
            "server_ended",
            json!({ "milliseconds": milliseconds }),
            format!("\nThe homeserver has ended (after {milliseconds} ms)."),
        )
    }
}

#[cfg(unix)]
fn terminate(child: &mut Child) -> Result<()> {
    let id = child.id().context("the server has ended by itself")?;
    let id = rustix::process::Pid::from_raw(i32::try_from(id)?).context("no process")?;
    Ok(rustix::process::kill_process(id, rustix::process::Signal::TERM)?)
}

#[cfg(not(unix))]
fn terminate(child: &mut Child) -> Result<()> {
    Ok(child.start_kill()?)
}

/// `myelin` beside this program, or on the PATH.
fn find_program() -> Result<PathBuf> {
    let name = format!("myelin{}", env::consts::EXE_SUFFIX);
    let beside = env::current_exe()?.parent().map(|folder| folder.join(&name));
    let path = env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(env::split_paths(&path).map(|folder| folder.join(&name)))
        .find(|candidate| candidate.is_file())
        .context(
            "there is no `myelin` beside this program or on the PATH: use --myelin FILE, or --server URL",
        )
}
