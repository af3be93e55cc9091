//! A server for tests: real, on a free port of the loopback address, in a folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use crate::config::Config;
use crate::net::{self, Purpose, Stopper};
use crate::server::{self, Server, ServerError, SystemClock, stopper};
use crate::session::Core;
use crate::store::MemoryStore;
use crate::store::embedded::disk::{Disk, RealDisk};
use crate::udf::{Compilers, WasmRuntime};

/// A running server. Dropping it stops it in order and removes its folder.
pub struct TestServer {
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    stopper: Option<Stopper>,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
    folder: Option<TempDir>,
}

/// The time, for tests of what is told it.
#[expect(
    clippy::disallowed_methods,
    reason = "tests stand where the network does"
)]
pub fn now() -> Instant {
    Instant::now()
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
    start_compiling_in(Compilers::Thread, folder, Arc::new(RealDisk), change).await
}

/// The same, with the store's own files on a disk of the caller's.
///
/// # Panics
/// The server does not start.
pub async fn start_on(
    folder: &Path,
    disk: Arc<dyn Disk>,
    change: impl FnOnce(&mut Config),
) -> TestServer {
    start_compiling_in(Compilers::Thread, folder, disk, change).await
}

/// The same, which compiles modules there.
///
/// # Panics
/// The server does not start.
pub async fn start_compiling_in(
    compilers: Compilers,
    folder: &Path,
    disk: Arc<dyn Disk>,
    change: impl FnOnce(&mut Config),
) -> TestServer {
    let mut config = Config {
        listen: "127.0.0.1:0".to_owned(),
        data: folder.to_owned(),
        ..Config::default()
    };
    change(&mut config);
    start_thread(async move |told, stopping| {
        let server = Server::start_on(&config, compilers, disk).await?;
        let _ = told.send((server.address(), server.metrics_address()));
        server.run(stopping).await
    })
    .await
}

/// Starts a server whose data lies in memory alone.
///
/// # Panics
/// The server does not start.
pub async fn start_in_memory() -> TestServer {
    start_thread(async |told, stopping| {
        let config = Config::default();
        let listener = net::bind("127.0.0.1:0", Purpose::Clients, config.no_auth).await?;
        let address = listener.local_addr().expect("a bound socket");
        let ceilings = server::ceilings(&config);
        let runtime = WasmRuntime::new(&server::engine_options(&config, &ceilings))?;
        let store = MemoryStore::new([0; 16], Box::new(SystemClock));
        let settings = server::settings(&config, ceilings);
        let core = Core::new(store, runtime, settings, server::surroundings());
        let _ = told.send((address, None));
        net::serve(
            listener,
            Arc::new(core),
            server::net_options(&config),
            None,
            stopping,
        )
        .await;
        Ok(())
    })
    .await
}

/// Where it listens, and where it tells metrics.
type Addresses = (SocketAddr, Option<SocketAddr>);

async fn start_thread<F>(serve: F) -> TestServer
where
    F: AsyncFnOnce(oneshot::Sender<Addresses>, watch::Receiver<bool>) -> Result<(), ServerError>
        + Send
        + 'static,
{
    let (stopper, stopping) = stopper();
    let (told, addresses) = oneshot::channel();
    // A runtime of its own: dropping the server can then wait for it, whatever runtime the test has.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(serve(told, stopping))
    });
    let (address, metrics) = addresses.await.expect("the server starts");
    TestServer {
        address,
        metrics,
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

    /// Where it tells metrics, if it does.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
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
