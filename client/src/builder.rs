//! How to connect.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use luge_protocol::{Command, Hello, HelloReply, Options, PROTOCOL_VERSION, Secret};
use tokio::net::TcpStream;

use crate::client::{Client, Shared};
use crate::connection::Connection;
use crate::error::Error;
use crate::tls::Tls;

/// Settings of a connection, to begin with [`Client::builder`].
///
/// ```no_run
/// # async fn example() -> Result<(), luge_client::Error> {
/// use std::time::Duration;
///
/// let client = luge_client::Client::builder()
///     .name("billing")
///     .request_timeout(Duration::from_secs(2))
///     .connect("127.0.0.1:5843")
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    name: Option<String>,
    token: Option<Secret<'static>>,
    tls: Option<Tls>,
    connect_timeout: Duration,
    request_timeout: Duration,
    max_frame_bytes: usize,
    max_requests_in_flight: usize,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            name: None,
            token: None,
            tls: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            max_frame_bytes: 16 << 20,
            max_requests_in_flight: 1024,
        }
    }
}

impl ClientBuilder {
    /// What this client calls itself, for the server's logs and for hooks. Nothing if left out.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The token that proves to the server who the user is, as `luge-server token add` printed it. None
    /// if left out, which is right for a server without tokens. It gets into no log, and without TLS it
    /// crosses the network as it is.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret::from(token.into()));
        self
    }

    /// Connects by TLS. Without it if left out.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), luge_client::Error> {
    /// use luge_client::{Client, Tls};
    ///
    /// let client = Client::builder()
    ///     .tls(Tls::default().roots("/etc/luge/ca.pem"))
    ///     .token(std::env::var("LUGE_TOKEN").unwrap_or_default())
    ///     .connect("luge.example.org:5843")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long connecting may take, the first exchange included. 5 seconds if left out.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long each request may take, from the call of its method to its reply. 30 seconds if left
    /// out. A request that timed out may have been carried out.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// The longest response that is accepted. 16 MiB if left out, as in the server.
    #[must_use]
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.max_frame_bytes = bytes;
        self
    }

    /// How many requests may be without a response at once; further ones wait. 1,024 if left out, at
    /// least 1.
    #[must_use]
    pub fn max_requests_in_flight(mut self, requests: usize) -> Self {
        self.max_requests_in_flight = requests.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// Connects to `host:port` and says hello.
    ///
    /// # Errors
    /// [`Error::Connect`] where no connection can be made, [`Error::Tls`], [`Error::Timeout`], [`Error::Protocol`]
    /// where something else than a Luge server answers, [`Error::Server`] and [`Error::Ended`] where
    /// it refuses.
    pub async fn connect(&self, address: impl Display) -> Result<Client, Error> {
        let address = address.to_string();
        within(self.connect_timeout, self.connect_and_greet(address)).await
    }

    async fn connect_and_greet(&self, address: String) -> Result<Client, Error> {
        let stream = match TcpStream::connect(&address).await {
            Ok(stream) => stream,
            Err(error) => {
                let source = Arc::new(error);
                return Err(Error::Connect { address, source });
            }
        };
        // A request is written as a whole, so there is nothing for Nagle's algorithm to wait for.
        stream
            .set_nodelay(true)
            .map_err(|error| Error::Io(Arc::new(error)))?;
        let (frame, requests) = (self.max_frame_bytes, self.max_requests_in_flight);
        let connection = match &self.tls {
            None => {
                let (source, sink) = stream.into_split();
                Connection::new(source, sink, frame, requests)
            }
            Some(tls) => {
                let stream = tls.connect(&address, stream).await?;
                let (source, sink) = tokio::io::split(stream);
                Connection::new(source, sink, frame, requests)
            }
        };
        let mut shared = Shared::new(connection);
        shared.hello = self.greet(&shared).await?;
        Ok(Client {
            shared: Arc::new(shared),
            options: Options::default(),
            request_timeout: self.request_timeout,
        })
    }

    async fn greet(&self, shared: &Shared) -> Result<HelloReply, Error> {
        let hello = Command::Hello(Hello {
            versions: vec![PROTOCOL_VERSION],
            client: self.name.as_deref().map(Into::into),
            credentials: self.token.clone(),
        });
        let reply: HelloReply = shared.request(hello, Options::default()).await?;
        if reply.version != PROTOCOL_VERSION {
            return Err(Error::Protocol(format!(
                "it chose version {}, which was not offered",
                reply.version
            )));
        }
        Ok(reply)
    }
}

/// Waits for an outcome for so long.
pub(crate) async fn within<T>(
    timeout: Duration,
    outcome: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(timeout, outcome)
        .await
        .unwrap_or(Err(Error::Timeout(timeout)))
}
