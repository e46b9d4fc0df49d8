//! A homeserver of the demo's own: a process on free ports of the loopback interface.

use super::authority::{Authority, Certificate};
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

/// Which homeserver is started, and how.
pub struct Plan<'a> {
    /// The program; without one it is looked for.
    pub program: Option<&'a Path>,
    /// Where its data and its log go.
    pub folder: &'a Path,
    /// What its files are called.
    pub label: &'a str,
    /// The authority by which it and other servers trust each other; without one it speaks with none.
    pub authority: Option<&'a Authority>,
}

/// A running homeserver.
pub struct Server {
    /// Its name, as it stands in its users' ids.
    pub name: String,
    /// Its address for clients.
    pub url: String,
    /// Where it keeps its data.
    pub data: PathBuf,
    log: PathBuf,
    child: Child,
}

/// The port for other servers, and what TLS on it needs.
struct Border<'a> {
    port: u16,
    authority: &'a Path,
    certificate: Certificate,
}

/// How the server is told what to do: the one place that knows the names of its settings.
fn settings(name: &str, port: u16, data: &Path, border: Option<&Border<'_>>) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("MYELIN_SERVER_NAME", name.to_owned()),
        ("MYELIN_DATA_DIR", data.display().to_string()),
        ("MYELIN_LISTENERS_0_BIND", format!("127.0.0.1:{port}")),
        ("MYELIN_REGISTRATION_MODE", "open".to_owned()),
        ("MYELIN_LIMITS_RATE_LIMITS", "false".to_owned()),
    ];
    if let Some(Border { port, authority, certificate }) = border {
        settings.extend([
            ("MYELIN_LISTENERS_1_BIND", format!("127.0.0.1:{port}")),
            ("MYELIN_LISTENERS_1_SERVE", "federation".to_owned()),
            ("MYELIN_LISTENERS_1_TLS_CERTIFICATE", certificate.chain.display().to_string()),
            ("MYELIN_LISTENERS_1_TLS_PRIVATE_KEY", certificate.key.display().to_string()),
            ("MYELIN_FEDERATION_EXTRA_CA_CERTIFICATES", authority.display().to_string()),
            // The other server is on this machine, and nobody else is asked.
            ("MYELIN_FEDERATION_DENIED_IP_RANGES", String::new()),
            ("MYELIN_FEDERATION_TRUSTED_KEY_SERVERS", String::new()),
        ]);
    }
    settings
}

/// A port that is free now and, in all likelihood, a moment later.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    /// Starts a server and waits until it answers.
    pub async fn start(plan: Plan<'_>, out: &Output) -> Result<Self> {
        let Plan { program, folder, label, authority } = plan;
        let program = match program {
            Some(program) => program.to_owned(),
            None => find_program()?,
        };
        let data = folder.join(label);
        fs::create_dir(&data)?;
        let log = folder.join(format!("{label}.log"));
        let port = free_port()?;
        let border = match authority {
            Some(authority) => Some(Border {
                port: free_port()?,
                authority: &authority.file,
                certificate: authority.certify(label)?,
            }),
            None => None,
        };
        // Other servers take the port from the name.
        let name = format!("localhost:{}", border.as_ref().map_or(port, |border| border.port));
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
            .envs(settings(&name, port, &data, border.as_ref()))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} could not be started", program.display()))?;
        let mut server = Self { name, url: format!("http://127.0.0.1:{port}"), data, log, child };
        let progress = out.progress("Starting a homeserver");
        server.wait_until_it_answers().await?;
        drop(progress);
        server.tell_start(began.elapsed().as_millis(), border.as_ref(), out)?;
        Ok(server)
    }

    fn tell_start(&self, milliseconds: u128, border: Option<&Border<'_>>, out: &Output) -> Result<()> {
        let Self { name, url, data, .. } = self;
        let federation = border.map(|border| format!("https://127.0.0.1:{}", border.port));
        let to_others = match &federation {
            Some(federation) => format!(" and, for other servers, at {federation}"),
            None => String::new(),
        };
        out.report(
            "server",
            json!({
                "name": name, "url": url, "federation": federation, "data": data, "milliseconds": milliseconds,
            }),
            format!(
                "The homeserver {name} runs at {url}{to_others} (after {milliseconds} ms); its data is in {}.",
                data.display()
            ),
        )
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
            json!({ "name": self.name, "milliseconds": milliseconds }),
            format!("The homeserver {} has ended (after {milliseconds} ms).", self.name),
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
