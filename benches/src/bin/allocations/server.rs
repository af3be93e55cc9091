//! A server in this process, with one worker, which is counted.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use luge_server::config::Config;
use luge_server::net::Stopper;
use luge_server::server::{Server as WholeServer, ServerError, stopper};
use luge_server::udf::Compilers;
use tempfile::TempDir;

use crate::client::Client;
use crate::counting::count_this_thread;
use crate::paths::{Durability, preparation};

/// A server that runs, with what the paths need.
pub(crate) struct Server {
    address: SocketAddr,
    stopper: Stopper,
    thread: JoinHandle<Result<(), ServerError>>,
    _folder: TempDir,
}

impl Server {
    /// Starts it in a folder of its own.
    pub(crate) fn start(durability: Durability) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        let durability = match durability {
            Durability::Everysec => "everysec",
            Durability::Always => "always",
        };
        let config = Config {
            listen: "127.0.0.1:0".to_owned(),
            data: folder.path().to_owned(),
            durability: durability.to_owned().try_into()?,
            ..Config::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // The figures are those of one worker; more would take the connection from one another.
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| format!("can't start the runtime: {error}"))?;
        // Threads for what blocks are of the same runtime, and no workers.
        let counted = runtime.block_on(runtime.spawn(async { count_this_thread() }));
        counted.map_err(|error| format!("the worker does not run: {error}"))?;
        let server = runtime.block_on(WholeServer::start(&config, Compilers::Thread));
        let server = server.map_err(|error| format!("the server does not start: {error}"))?;
        let address = server.address();
        let (stopper, stopping) = stopper();
        // Whoever waits for it is no worker, and not counted: it takes connections in and sweeps.
        let thread = std::thread::spawn(move || runtime.block_on(server.run(stopping)));
        let mut client = Client::connect(address)?;
        for batch in preparation() {
            client.ask(&batch)?;
        }
        Ok(Self {
            address,
            stopper,
            thread,
            _folder: folder,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it in order.
    pub(crate) fn stop(self) -> Result<(), String> {
        drop(self.stopper);
        match self.thread.join() {
            Ok(stopped) => stopped.map_err(|error| format!("the server did not stop: {error}")),
            Err(_) => Err("the server panicked".to_owned()),
        }
    }
}
