//! What an instance holds of memory and of the kernel's mappings, as the operating system tells it of the server.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::server::Server;
use super::system::{Level, System};
use crate::load::client::Client;

/// Calls that are in flight at once, each with an instance.
const CALLS: usize = 2_000;

/// The kernel's bound on the mappings of a process, where nobody has raised it.
const DEFAULT_MAPPINGS: usize = 65_530;

/// How long a server's mappings must stay as they are, for all calls to have begun.
const STEADY: Duration = Duration::from_secs(2);

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// As large as what the Rust SDK builds, and touching as much of it as a small procedure does. It loops, so that it stays.
const GUEST: &str = r#"(module
    (memory (export "memory") 1)
    (data (i32.const 33000) "what a procedure has of constants")
    (func (export "wait") (result i32)
        (i32.store (i32.const 32000) (i32.const 1))
        (i32.store (i32.const 40000) (i32.const 1))
        (loop $on (br $on))
        (i32.const 0)))"#;

/// Every bound out of the way.
const SETTINGS: &[&str] = &[
    "max_running_calls=2000",
    "max_module_running_calls=2000",
    "module_running_calls=2000",
    "max_instances=2100",
    "max_connections=2100",
    "max_call_fuel=1000000000000",
    "call_fuel=1000000000000",
    "max_call_cpu_ms=3600000",
    "call_cpu_ms=3600000",
    "max_call_deadline_ms=3600000",
    "call_deadline_ms=3600000",
];

/// What one instance holds.
pub(super) struct Instance {
    /// Of memory, in KiB: its own, its stack's, and what the server keeps of its call; not its connection.
    pub(super) kibibytes: f64,
    /// Of the kernel's mappings, with those that its place has from the start.
    mappings: f64,
}

impl Instance {
    /// Of calls that are in flight at once.
    ///
    /// # Errors
    /// The server does not start, or refuses.
    pub(super) fn measure(luge: &System) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        let idle = luge.start_set(Level::Everysec, folder.path(), &["max_instances=100"])?;
        let few = idle.mappings()?;
        idle.stop()?;
        let server = luge.start_set(Level::Everysec, folder.path(), SETTINGS)?;
        let slots = server.mappings()?.saturating_sub(few);
        let mut client = Client::connect(&luge.dialect(), server.address)?;
        let wasm = wat::parse_str(GUEST).map_err(|error| error.to_string())?;
        client.each(&luge.push("instances", &wasm), std::iter::once(0))?;
        let mut connections = Vec::new();
        for _ in 0..CALLS {
            connections.push(luge.dialect().connect(server.address)?);
        }
        let (memory, mappings) = (server.memory()?, server.mappings()?);
        begin(luge, &mut connections)?;
        steady(&server)?;
        let grown = (
            server.memory()?.saturating_sub(memory),
            server.mappings()?.saturating_sub(mappings),
        );
        #[expect(
            clippy::cast_precision_loss,
            reason = "a process has far less than 2^53 of either"
        )]
        let each = |sum: u64, of: usize| sum as f64 / of as f64;
        Ok(Self {
            kibibytes: each(grown.0, CALLS) / 1024.0,
            mappings: each(grown.1 as u64, CALLS) + each(slots as u64, 2_000),
        })
    }

    /// How many there can be at once in so much memory, at the kernel's default bound on mappings.
    pub(super) fn within(&self, kibibytes: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let mappings = DEFAULT_MAPPINGS as f64 / self.mappings;
        mappings.min(kibibytes / self.kibibytes)
    }
}

fn begin(luge: &System, connections: &mut [TcpStream]) -> Result<(), String> {
    let mut call = Vec::new();
    luge.call("instances.wait", &[]).write_at(0, &mut call);
    for connection in connections {
        let sent = connection.write_all(&call);
        sent.map_err(|error| format!("a call can't be sent: {error}"))?;
    }
    Ok(())
}

/// Waits until a server makes no mappings any more.
fn steady(server: &Server) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    let (mut mappings, mut since) = (server.mappings()?, Instant::now());
    while since.elapsed() < STEADY {
        if Instant::now() > end {
            return Err("the calls do not all begin".to_owned());
        }
        std::thread::sleep(STEADY / 20);
        let now = server.mappings()?;
        if now != mappings {
            (mappings, since) = (now, Instant::now());
        }
    }
    Ok(())
}
