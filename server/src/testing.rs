//! A server for tests: real, on a free port of the loopback address, in a folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;

use tempfile::TempDir;

use crate::config::Config;
use crate::net::Stopper;
use crate::server::{Server, ServerError, stopper};

/// A running server. Dropping it stops it in order and removes its folder.
pub struct TestServer {
    address: SocketAddr,
    stopper: Option<Stopper>,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
    folder: Option<TempDir>,
}

/// Starts a server with the default configuration in a fresh folder.
pub async fn start() -> TestServer {
    start_with(|_| {}).await
}

/// The same, with the configuration changed.
///
/// # Panics
/// The server does not start.
pub async fn start_with(change: impl FnOnce(&mut Config)) -> TestServer {
    let folder = TempDir::new().expect("a temporary folder");
    let mut server = start_in(folder.path(), change).await;
    server.folder = Some(folder);
    server
}

/// The same, in a folder that is kept.
///
/// # Panics
/// The server does not start.
pub async fn start_in(folder: &Path, change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = Config {
        listen: "127.0.0.1:0".to_owned(),
        data: folder.to_owned(),
        ..Config::default()
    };
    change(&mut config);
    let (stopper, stopping) = stopper();
    let (told, address) = tokio::sync::oneshot::channel();
    // A runtime of its own: dropping the server can then wait for it, whatever runtime the test has.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let server = Server::start(&config).await?;
            let _ = told.send(server.address());
            server.run(stopping).await
        })
    });
    let address = address.await.expect("the server starts");
    TestServer {
        address,
        stopper: Some(stopper),
        thread: Some(thread),
        folder: None,
    }
}

impl TestServer {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// It did not stop in order.
    ///
    /// # Panics
    /// The server's thread panicked.
    pub fn stop(mut self) -> Result<(), ServerError> {
        self.stopper = None;
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("the server's thread does not panic")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stopper = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
