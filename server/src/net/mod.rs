//! The edge towards clients: the only place that names `tokio::net`, and where time enters.

mod batch;
mod buffers;
mod connection;
mod farewell;
mod foreign;
mod http;
mod listener;
mod outbox;
mod replies;
mod requests;
mod streams;
mod tls;

use std::time::Duration;

pub use http::{Pages, serve_pages};
pub use listener::{BindError, Purpose, Stopper, bind, serve};
pub use tls::{Tls, TlsError};

/// The bounds of connections.
#[derive(Clone, Copy, Debug)]
pub struct NetOptions {
    /// Open connections.
    pub max_connections: usize,
    /// A frame's body, in bytes.
    pub max_frame_bytes: usize,
    /// Replies of one connection that wait to be written.
    pub max_unread_replies: usize,
    /// The same in bytes.
    pub max_unread_bytes: usize,
    /// Bytes that all connections together may hold beyond a small allowance each.
    pub max_buffered_bytes: usize,
    /// A connection without a request for so long is closed.
    pub idle_timeout: Duration,
    /// A connection must have done its handshake and been greeted in this time.
    pub greeting_timeout: Duration,
    /// A frame must arrive in this time from its first byte on.
    pub frame_timeout: Duration,
    /// A client that takes next to nothing of its replies in so long is closed.
    pub write_timeout: Duration,
    /// A watcher that does not take a change in so long is cut off.
    pub watch_timeout: Duration,
    /// A watcher that was told nothing for so long is told how far it knows everything.
    pub watch_progress: Duration,
    /// What runs when the server stops may take this long.
    pub stop_timeout: Duration,
}
