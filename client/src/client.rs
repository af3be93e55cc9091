//! The handle, and the commands about the server itself.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use luge_protocol::{
    Command, Durability, HelloReply, InfoReply, NoArguments, Options, Request, RequestId, Response,
    ServerLimits, Stop,
};
use serde::de::DeserializeOwned;

use crate::builder::{ClientBuilder, within};
use crate::connection::Connection;
use crate::error::Error;
use crate::stream::Sink;

/// A connection to a server.
///
/// Clones share the connection. Requests that are made at the same time, from clones or from futures
/// that are polled together, are pipelined: none waits for another's response. The server carries
/// them out in the order in which they were sent.
///
/// A connection that broke stays broken: every further request gives the same error, and the program
/// decides whether to connect again. Dropping the last clone closes it.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: Options,
    pub(crate) request_timeout: Duration,
}

/// What clones share.
#[derive(Debug)]
pub(crate) struct Shared {
    connection: Connection,
    /// Ids begin with 1, because the server uses 0 for what is about the connection.
    next_id: AtomicU64,
    pub(crate) hello: HelloReply,
}

impl Client {
    /// Connects to `host:port` with the default settings.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect(address: impl Display) -> Result<Self, Error> {
        ClientBuilder::default().connect(address).await
    }

    /// Settings other than the default ones.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A handle on the same connection whose writes are answered once they are on disk, also where
    /// the server's own rule is weaker.
    #[must_use]
    pub fn durable(&self) -> Self {
        let mut client = self.clone();
        client.options.durability = Some(Durability::Always);
        client
    }

    /// A handle on the same connection whose requests the server gives up after this time, in whole
    /// milliseconds: they are answered `deadline_exceeded` then, and have changed nothing.
    #[must_use]
    pub fn deadline(&self, deadline: Duration) -> Self {
        let mut client = self.clone();
        client.options.deadline_ms = Some(milliseconds(deadline));
        client
    }

    /// What the server told when the connection was made.
    #[must_use]
    pub fn server(&self) -> &HelloReply {
        &self.shared.hello
    }

    /// Any command, with a reply of the type that the command has. The methods below are made of this.
    ///
    /// # Errors
    /// [`Error::Protocol`] where the reply is of another type; else as the command says.
    pub async fn request<R: DeserializeOwned>(&self, command: Command<'_>) -> Result<R, Error> {
        let request = self.shared.request(command, self.options.clone());
        within(self.request_timeout, request).await
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn ping(&self) -> Result<(), Error> {
        let pong: String = self.request(Command::Ping(NoArguments {})).await?;
        match pong.as_str() {
            "pong" => Ok(()),
            _ => Err(Error::Protocol("the answer to ping is not pong".to_owned())),
        }
    }

    /// How the server is.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn info(&self) -> Result<InfoReply, Error> {
        self.request(Command::Info(NoArguments {})).await
    }

    /// Returns once every write that was acknowledged before is on disk.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn flush(&self) -> Result<(), Error> {
        self.request(Command::Flush(NoArguments {})).await
    }
}

impl Shared {
    /// Around a new connection. Until the server has told its own, the limits are the default ones.
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            next_id: AtomicU64::new(1),
            hello: HelloReply {
                version: 0,
                server: String::new(),
                store: Bytes::new(),
                limits: ServerLimits {
                    max_frame_bytes: 16 << 20,
                    max_key_bytes: 0,
                    max_value_bytes: 0,
                    max_module_bytes: 0,
                },
            },
        }
    }

    pub(crate) async fn request<R: DeserializeOwned>(
        &self,
        command: Command<'_>,
        options: Options,
    ) -> Result<R, Error> {
        let (id, body) = self.encode(command, options)?;
        let body = self.connection.exchange(id, body).await?;
        let response =
            Response::<R>::decode(&body).map_err(|error| Error::Protocol(error.message))?;
        response.outcome.map_err(Error::Server)
    }

    /// Sends a request whose responses go to the sink.
    pub(crate) async fn begin(
        &self,
        command: Command<'_>,
        options: Options,
        sink: Sink,
    ) -> Result<RequestId, Error> {
        let (id, body) = self.encode(command, options)?;
        self.connection.begin(id, body, sink).await?;
        Ok(id)
    }

    /// Passes over what still comes of a stream.
    pub(crate) fn forget(&self, id: RequestId) {
        self.connection.forget(id);
    }

    /// The same, and stops it, without waiting.
    pub(crate) fn abandon(&self, id: RequestId) {
        let stop = Command::Stop(Stop { id });
        if let Ok((stop_id, body)) = self.encode(stop, Options::default()) {
            self.connection.abandon(id, stop_id, body);
        }
    }

    fn encode(
        &self,
        command: Command<'_>,
        options: Options,
    ) -> Result<(RequestId, Vec<u8>), Error> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let body = Request {
            id,
            command,
            options,
        }
        .encode();
        self.check_length(body.len())?;
        Ok((id, body))
    }

    fn check_length(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.hello.limits.max_frame_bytes.min(u64::from(u32::MAX));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        Ok(())
    }
}

/// Whole milliseconds; what is left of one counts as one, so that no time becomes none.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    whole.saturating_add(u64::from(
        !duration.subsec_nanos().is_multiple_of(1_000_000),
    ))
}
