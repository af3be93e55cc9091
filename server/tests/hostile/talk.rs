//! A conversation in bodies of frames: with a session over the memory store, or with a server on a socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use luge_protocol::{Command, Hello, Request};
use luge_server::config::Config;
use luge_server::function::Identity;
use luge_server::server::{SystemClock, ceilings, engine_options, settings, surroundings};
use luge_server::session::{Core, Session};
use luge_server::store::{MemoryStore, Store};
use luge_server::testing::{TestServer, start_with};
use luge_server::udf::{Compilers, WasmRuntime};
use tokio::runtime::Runtime;

type Snapshot = <MemoryStore as Store>::Snapshot;

/// One connection.
pub(crate) enum Talk {
    Session(Runtime, Box<Session<MemoryStore, WasmRuntime<Snapshot>>>),
    Socket(TcpStream),
}

/// What a call has. Loops without end, of which there are many here, are over sooner than with the default.
const FUEL: u64 = 2_000_000;

/// Few slots: what keeps one for itself is found out by the calls behind it. And plenty of time, so that on
/// a slow machine, too, calls end by what they do.
fn configure(config: &mut Config) {
    config.max_instances = 8;
    config.call_fuel = FUEL;
    config.call_cpu_ms = 5_000;
    config.call_deadline_ms = 60_000;
}

impl Talk {
    pub(crate) fn in_memory() -> Self {
        let mut config = Config::default();
        configure(&mut config);
        let ceilings = ceilings(&config);
        let program = PathBuf::from(env!("CARGO_BIN_EXE_luge-server"));
        let runtime = WasmRuntime::new(&engine_options(&config, &ceilings))
            .map(|runtime| runtime.compiling_in(Compilers::Process(program)));
        let store = MemoryStore::new([1; 16], Box::new(SystemClock));
        let settings = settings(&config, ceilings);
        let core = Core::new(store, runtime.unwrap(), settings, surroundings());
        let session = Session::new(Arc::new(core), Identity::default());
        let mut talk = Self::Session(threads(), Box::new(session));
        talk.greet();
        talk
    }

    pub(crate) fn on_a_socket() -> (TestServer, Self) {
        let server = threads().block_on(start_with(configure));
        let socket = TcpStream::connect(server.address()).unwrap();
        let hang = Some(Duration::from_secs(60));
        socket.set_read_timeout(hang).unwrap();
        let mut talk = Self::Socket(socket);
        talk.greet();
        (server, talk)
    }

    fn greet(&mut self) {
        self.ask(Command::Hello(Hello {
            versions: vec![1],
            client: None,
            credentials: None,
        }));
    }

    /// The body of the answer.
    pub(crate) fn ask(&mut self, command: Command<'_>) -> Vec<u8> {
        let body = Request::new(1, command).encode();
        match self {
            Self::Session(runtime, session) => runtime.block_on(async {
                let answer = session.handle(&body, now()).await;
                let mut told = Vec::new();
                answer.response.encode(&mut told).unwrap();
                told
            }),
            Self::Socket(socket) => {
                let header = u32::try_from(body.len()).unwrap().to_be_bytes();
                socket.write_all(&header).unwrap();
                socket.write_all(&body).unwrap();
                let mut header = [0; 4];
                socket.read_exact(&mut header).unwrap();
                let mut told = vec![0; u32::from_be_bytes(header) as usize];
                socket.read_exact(&mut told).unwrap();
                told
            }
        }
    }
}

fn threads() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests stand where the network does"
)]
fn now() -> Instant {
    Instant::now()
}
