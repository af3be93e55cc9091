//! The demonstration's server: real, on a free port of the loopback address, in a temporary folder.

use std::net::SocketAddr;
use std::path::Path;

use luge_server::config::Config;
use luge_server::net::Stopper;
use luge_server::server::{Server, ServerError, stopper};
use luge_server::udf::Compilers;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A running server and its folder, which is removed with it.
pub(super) struct Host {
    folder: TempDir,
    running: Running,
}

struct Running {
    address: SocketAddr,
    stopper: Stopper,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Host {
    pub(super) async fn start() -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("luge-demo-")
            .tempdir()
            .map_err(|error| format!("can't create a temporary folder: {error}"))?;
        let running = Running::start(folder.path()).await?;
        Ok(Self { folder, running })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.running.address
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops the server in order, and starts another one in the same folder.
    pub(super) async fn restart(&mut self) -> Result<(), String> {
        self.running.stop().await?;
        self.running = Running::start(self.folder.path()).await?;
        Ok(())
    }

    /// Stops the server in order and removes the folder.
    pub(super) async fn stop(mut self) -> Result<(), String> {
        self.running.stop().await?;
        self.folder
            .close()
            .map_err(|error| format!("can't remove the temporary folder: {error}"))
    }
}

impl Running {
    async fn start(folder: &Path) -> Result<Self, String> {
        let config = Config {
            listen: "127.0.0.1:0".to_owned(),
            data: folder.to_owned(),
            ..Config::default()
        };
        let compilers = Compilers::own_program()
            .map_err(|error| format!("the program's own file can't be found: {error}"))?;
        let server = Server::start(&config, compilers)
            .await
            .map_err(|error| format!("the server does not start: {error}"))?;
        let address = server.address();
        let (stopper, stopping) = stopper();
        let task = tokio::spawn(server.run(stopping));
        Ok(Self {
            address,
            stopper,
            task,
        })
    }

    async fn stop(&mut self) -> Result<(), String> {
        self.stopper.stop();
        let stopped = (&mut self.task)
            .await
            .map_err(|error| format!("the server failed: {error}"))?;
        stopped.map_err(|error| format!("the server did not stop in order: {error}"))
    }
}
