//! Processes of `luge-server`, each ended by its own id.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use luge_client::Client;

/// The longest wait for anything. Only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The program, without settings from this process's environment.
pub(crate) fn program<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_luge-server"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LUGE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A process that is killed when it is dropped.
pub(crate) struct Process {
    pid: u32,
    status: Option<ExitStatus>,
    exited: Receiver<ExitStatus>,
}

impl Process {
    /// Watches a child in a thread, so that waiting for it can have an end.
    fn watch(mut child: Child) -> Self {
        let pid = child.id();
        let (tell, exited) = channel();
        std::thread::spawn(move || tell.send(child.wait().unwrap()));
        Self {
            pid,
            status: None,
            exited,
        }
    }

    /// Sends a signal, such as `-TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        assert!(self.try_signal(signal), "no process {}", self.pid);
    }

    /// The same, and whether there was a process to take it.
    fn try_signal(&self, signal: &str) -> bool {
        let kill = Command::new("kill")
            .args([signal, &self.pid.to_string()])
            .stderr(Stdio::null())
            .status();
        kill.is_ok_and(|status| status.success())
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = match self.status {
            Some(status) => status,
            None => self.exited.recv_timeout(PATIENCE).unwrap(),
        };
        self.status = Some(status);
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let has_ended = self.status.is_some() || self.exited.try_recv().is_ok();
        if !has_ended && self.try_signal("-KILL") {
            let _ = self.exited.recv_timeout(PATIENCE);
        }
    }
}

/// What a process left behind.
pub(crate) struct Ended {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

/// Runs the program to its end.
pub(crate) fn run(mut command: Command) -> Ended {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let status = Process::watch(child).wait();
    Ended {
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
        code: status.code(),
    }
}

fn read_all(mut source: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        source.read_to_string(&mut text).unwrap();
        text
    })
}

impl Ended {
    /// Checks that it failed with one sentence that names all of this.
    #[track_caller]
    pub(crate) fn refuses(&self, named: &[&str]) {
        let Self {
            stdout,
            stderr,
            code,
        } = self;
        assert_eq!((stdout.as_str(), *code), ("", Some(1)), "{stderr}");
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        for part in named {
            assert!(stderr.contains(part), "{part:?} is not in {stderr}");
        }
    }

    /// Checks that it went well, and answers what it printed.
    #[track_caller]
    pub(crate) fn prints(self) -> String {
        assert_eq!((self.stderr.as_str(), self.code), ("", Some(0)));
        self.stdout
    }
}

/// A process that serves.
pub(crate) struct Served {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    log: Receiver<String>,
}

impl Served {
    /// Serves a folder on a free port of the loopback address.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_command(program([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            folder.to_str().unwrap(),
        ]))
    }

    /// Runs a command that serves, and waits until it is ready.
    pub(crate) fn start_command(command: Command) -> Self {
        Self::start_telling(command).0
    }

    /// The same, with what its log says before that.
    pub(crate) fn start_telling(mut command: Command) -> (Self, String) {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = read_lines(child.stderr.take().unwrap());
        let process = Process::watch(child);
        let (ready, before) = wait_for(&log, "ready");
        let address = ready
            .split_once("address=")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .and_then(|address| address.parse().ok());
        let served = Self {
            process,
            address: address.unwrap_or_else(|| panic!("no address in {ready}")),
            log,
        };
        (served, before)
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }

    /// Has it take changed files over, and answers what it said of that.
    pub(crate) fn reload(&self) -> String {
        self.process.signal("-HUP");
        let mut told = String::new();
        while !told.contains("reloaded") {
            told += &self.log.recv_timeout(PATIENCE).unwrap();
            told += "\n";
        }
        told
    }

    /// Interrupts it, and once more while it waits for what runs; answers its exit code.
    pub(crate) fn interrupt_twice(mut self) -> Option<i32> {
        self.process.signal("-INT");
        wait_for(&self.log, "Ctrl-C");
        self.process.signal("-INT");
        self.process.wait().code()
    }

    /// Stops it in order, and answers the rest of its log.
    pub(crate) fn stop(mut self, signal: &str) -> Vec<String> {
        self.process.signal(signal);
        assert_eq!(self.process.wait().code(), Some(0));
        self.log.iter().collect()
    }

    /// Kills it where it stands.
    pub(crate) fn kill(mut self) {
        self.process.signal("-KILL");
        assert_eq!(self.process.wait().code(), None);
    }
}

fn read_lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines() {
            // A test that has ended reads no more; the log is read to its end all the same.
            let _ = tell.send(line.unwrap());
        }
    });
    lines
}

/// The first line of the log that has this word.
#[track_caller]
/// The line with this word, and those before it.
fn wait_for(log: &Receiver<String>, word: &str) -> (String, String) {
    let mut before = String::new();
    loop {
        match log.recv_timeout(PATIENCE) {
            Ok(line) if line.split_whitespace().any(|each| each == word) => return (line, before),
            Ok(line) => before += &format!("{line}\n"),
            Err(RecvTimeoutError::Timeout) => panic!("not {word} in time:\n{before}"),
            Err(RecvTimeoutError::Disconnected) => panic!("it ended before {word}:\n{before}"),
        }
    }
}
