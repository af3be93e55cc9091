//! The listener: accepts connections up to their bound, and stops in order.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use luge_protocol::ErrorCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::buffers::SharedBuffers;
use super::connection::{self, Common};
use super::farewell::{refusal, say_farewell};
use super::replies::Shared;
use super::{NetOptions, Tls};
use crate::function::Runtime;
use crate::session::Core;
use crate::store::Store;

/// How long to wait after the operating system refuses to accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections beyond the bound that are told so at once; more are closed without a word.
const MAX_REFUSALS: usize = 64;

/// Why an address can't be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Others could reach it, and nobody would have to say who they are.
    #[error("{0} can be reached from other machines, and there are no tokens: whoever reaches it could read, write and deploy; make a token with `luge-server token add NAME --role admin`, or pass --no-auth if the network is yours alone; 127.0.0.1:{port} is served without either", port = .0.port())]
    Open(SocketAddr),
    /// Others could reach the metrics, and nobody would have to say who they are.
    #[error(
        "{0} can be reached from other machines, and whoever reaches it could read the metrics, which name modules and functions; choose 127.0.0.1:{port}, make tokens for the server, or pass --no-auth if the network is yours alone", port = .0.port()
    )]
    OpenMetrics(SocketAddr),
    /// Somebody has it.
    #[error("{0} is in use by another program; stop it, or choose another address with --{1}")]
    InUse(SocketAddr, Purpose),
    /// It is no address.
    #[error("can't resolve the address `{0}` of --{1}: {2}; it should be a host and a port, such as 127.0.0.1:{port}", port = .1.usual_port())]
    Unresolved(String, Purpose, io::Error),
    /// The operating system refused.
    #[error("can't listen on {0}: {1}")]
    Io(SocketAddr, io::Error),
}

/// What an address is for; shown as the setting that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Clients connect there.
    Clients,
    /// Metrics are told there.
    Metrics,
}

impl Purpose {
    /// The port that is an example.
    fn usual_port(self) -> u16 {
        match self {
            Self::Clients => luge_protocol::DEFAULT_PORT,
            Self::Metrics => 9843,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Clients => "listen",
            Self::Metrics => "metrics",
        })
    }
}

/// Tells a server to stop. Dropping it tells so, too.
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// A stopper, and what its server watches.
    pub fn new() -> (Self, watch::Receiver<bool>) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), receiver)
    }

    /// Stop accepting, finish what runs.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Listens on an address. One that others can reach only if that `may_be_reached`: because they have to
/// say who they are, or because it is wanted so.
///
/// # Errors
/// It is not served, and why.
pub async fn bind(
    address: &str,
    purpose: Purpose,
    may_be_reached: bool,
) -> Result<TcpListener, BindError> {
    let unresolved = |error| BindError::Unresolved(address.to_owned(), purpose, error);
    let mut resolved = tokio::net::lookup_host(address).await.map_err(unresolved)?;
    let address = resolved.next().ok_or_else(|| {
        unresolved(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ))
    })?;
    if !address.ip().is_loopback() && !may_be_reached {
        return Err(match purpose {
            Purpose::Clients => BindError::Open(address),
            Purpose::Metrics => BindError::OpenMetrics(address),
        });
    }
    TcpListener::bind(address)
        .await
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address, purpose),
            _ => BindError::Io(address, error),
        })
}

/// Serves connections, with TLS if there is any, until `stopping`, then lets what runs finish.
pub async fn serve<S: Store, R: Runtime<S::Snapshot>>(
    listener: TcpListener,
    core: Arc<Core<S, R>>,
    options: NetOptions,
    tls: Option<Arc<Tls>>,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(options.max_connections));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let shared = Shared {
        replies: SharedBuffers::new(options.max_buffered_bytes),
        events: SharedBuffers::new(options.max_buffered_bytes / 4),
    };
    let common = Arc::new(Common {
        core: Arc::clone(&core),
        options,
        shared,
        tls,
        stopping: stopping.clone(),
    });
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                report(&ended);
                continue;
            }
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        number += 1;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            turn_away(socket, &refusals, &common);
            continue;
        };
        let common = Arc::clone(&common);
        connections.spawn(async move {
            let _place = place;
            let open = Open::count(&common.core);
            connection::serve(&common, socket, peer, number).await;
            drop(open);
        });
    }
    drop(listener);
    drain(connections, options.stop_timeout).await;
}

/// Counts a connection for as long as it lives, also if its task fails.
struct Open<'a, S: Store, R: Runtime<S::Snapshot>>(&'a Core<S, R>);

impl<'a, S: Store, R: Runtime<S::Snapshot>> Open<'a, S, R> {
    fn count(core: &'a Core<S, R>) -> Self {
        core.connections().fetch_add(1, Ordering::Relaxed);
        Self(core)
    }
}

impl<S: Store, R: Runtime<S::Snapshot>> Drop for Open<'_, S, R> {
    fn drop(&mut self) {
        self.0.connections().fetch_sub(1, Ordering::Relaxed);
    }
}

async fn drain(mut connections: JoinSet<()>, patience: Duration) {
    let deadline = Instant::now() + patience;
    let left = connections.len();
    if left > 0 {
        tracing::info!(
            left,
            "connections may finish what runs, in {patience:?} at the most"
        );
    }
    while let Ok(Some(ended)) = timeout_at(deadline, connections.join_next()).await {
        report(&ended);
    }
    let left = connections.len();
    if left > 0 {
        tracing::warn!(
            left,
            "connections did not finish in {patience:?} and are cut off"
        );
        connections.shutdown().await;
    }
}

fn report(ended: &Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task failed; the others go on");
    }
}

/// Tells a peer that there is no place, and closes.
fn turn_away<S: Store, R: Runtime<S::Snapshot>>(
    socket: TcpStream,
    refusals: &Arc<Semaphore>,
    common: &Arc<Common<S, R>>,
) {
    let Ok(turn) = Arc::clone(refusals).try_acquire_owned() else {
        return;
    };
    let common = Arc::clone(common);
    tokio::spawn(async move {
        let _turn = turn;
        let limit = common.options.max_connections;
        let message = format!("the limit of {limit} connections is reached");
        let farewell = refusal(ErrorCode::Overloaded, message);
        let patience = common.options.write_timeout;
        match common.tls.as_deref() {
            None => {
                let (mut source, mut sink) = socket.into_split();
                say_farewell(&mut source, &mut sink, &farewell, patience).await;
            }
            Some(tls) => {
                let deadline = Instant::now() + common.options.greeting_timeout;
                if let Some(stream) = tls.accept(socket, deadline, &common.options).await {
                    let (mut source, mut sink) = tokio::io::split(stream);
                    say_farewell(&mut source, &mut sink, &farewell, patience).await;
                }
            }
        }
    });
}
