//! The server's process: started, killed, stopped; nobody else's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// The longest wait for anything. Only a server that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server's program, and how it is started.
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Settings, as `name=value`.
    pub settings: Vec<String>,
    /// A bug that is to be planted.
    pub bug: Option<String>,
}

/// A server's process, killed when it is dropped.
pub struct Server {
    child: Child,
    wants_bug: bool,
    log: UnboundedReceiver<String>,
}

/// Why a server is not ready.
pub enum NotReady {
    /// It ended by itself, and had written this.
    Ended(String),
    /// Anything else.
    Other(String),
}

impl From<NotReady> for String {
    fn from(why: NotReady) -> Self {
        match why {
            NotReady::Ended(log) => format!("the server ended before it was ready:\n{log}"),
            NotReady::Other(message) => message,
        }
    }
}

/// The program that lies beside this one.
pub fn program() -> Result<PathBuf, String> {
    let own =
        std::env::current_exe().map_err(|error| format!("no path to this program: {error}"))?;
    let program = own.with_file_name("luge-server");
    if program.is_file() {
        return Ok(program);
    }
    let release = match cfg!(debug_assertions) {
        true => "",
        false => " --release",
    };
    Err(format!(
        "there is no {}; build it with: cargo build{release} -p luge-server",
        program.display()
    ))
}

impl Server {
    /// Starts the program on a folder.
    pub fn start(program: &Program, folder: &Path) -> Result<Self, String> {
        let mut command = Command::new(&program.path);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder);
        for setting in &program.settings {
            command.args(["--set", setting]);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LUGE_") {
                command.env_remove(name);
            }
        }
        command.env("SEEDED_BUG", program.bug.as_deref().unwrap_or_default());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| format!("can't start {}: {error}", program.path.display()))?;
        let (tell, log) = unbounded_channel();
        if let Some(source) = child.stderr.take() {
            tokio::spawn(async move {
                let mut lines = BufReader::new(source).lines();
                // The log is read to its end also when nobody listens.
                while let Ok(Some(line)) = lines.next_line().await {
                    let _ = tell.send(line);
                }
            });
        }
        Ok(Self {
            child,
            wants_bug: program.bug.is_some(),
            log,
        })
    }

    /// The process's number, as long as it runs.
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it serves; answers its address.
    pub async fn ready(&mut self) -> Result<SocketAddr, NotReady> {
        let mut before = String::new();
        loop {
            match timeout(PATIENCE, self.log.recv()).await {
                Ok(Some(line)) => {
                    let address = line
                        .split_whitespace()
                        .find_map(|word| word.strip_prefix("address="));
                    if let Some(Ok(address)) = address.map(str::parse) {
                        if self.wants_bug && !before.contains("seeded bugs") {
                            let message = "luge-server is built without the feature seeded-bugs";
                            return Err(NotReady::Other(message.to_owned()));
                        }
                        // A kill leaves the index as it is; were it thrown away, nobody would see what
                        // it has lost.
                        if before.contains("the index is made anew") {
                            let message = format!("the index was not trusted:\n{before}");
                            return Err(NotReady::Other(message));
                        }
                        return Ok(address);
                    }
                    before += &line;
                    before.push('\n');
                }
                Ok(None) => return Err(NotReady::Ended(before)),
                Err(_) => {
                    let message = format!("the server is not ready after {PATIENCE:?}:\n{before}");
                    return Err(NotReady::Other(message));
                }
            }
        }
    }

    /// Kills it where it stands.
    pub async fn kill(mut self) -> Result<(), String> {
        let killed = self.child.kill().await;
        killed.map_err(|error| format!("can't kill the server: {error}"))
    }

    /// Tells it to stop, and waits until it has.
    pub async fn stop(mut self) -> Result<(), String> {
        let Some(process) = self.child.id() else {
            return Err("the server ended by itself".to_owned());
        };
        let told = Command::new("kill")
            .args(["-TERM", &process.to_string()])
            .status()
            .await;
        if !told.is_ok_and(|status| status.success()) {
            return Err(format!("can't send SIGTERM to {process}"));
        }
        let ended: Result<std::io::Result<ExitStatus>, _> =
            timeout(PATIENCE, self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the server stopped with {status}")),
            Ok(Err(error)) => Err(format!("can't wait for the server: {error}")),
            Err(_) => Err(format!("the server did not stop within {PATIENCE:?}")),
        }
    }
}
