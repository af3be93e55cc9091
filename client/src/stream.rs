//! Streams: requests that are answered with many responses, until they end or are stopped.

use std::sync::Arc;

use bytes::Bytes;
use luge_protocol::{Command, RequestId, Response, Stop};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::client::Client;
use crate::error::Error;

/// What may have arrived of one stream without being taken, in bytes.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// What a response counts for at the least.
const MIN_RESPONSE_BYTES: usize = 256;

/// What happens when responses of a stream are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// The connection waits, and so does the server.
    Wait,
    /// The stream ends, so that nothing else on the connection waits for it.
    End,
}

/// A stream's end on the side of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    bodies: mpsc::UnboundedSender<Result<Body, Error>>,
    /// One permit a byte; closed once nobody takes responses any more.
    room: Arc<Semaphore>,
    excess: Excess,
}

/// A response that waits to be taken.
#[derive(Debug)]
struct Body {
    body: Bytes,
    #[expect(dead_code, reason = "held for its drop")]
    held: OwnedSemaphorePermit,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Responses {
    bodies: mpsc::UnboundedReceiver<Result<Body, Error>>,
    room: Arc<Semaphore>,
}

/// Makes both ends.
pub(crate) fn channel(excess: Excess) -> (Sink, Responses) {
    let (send, receive) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(MAX_WAITING_BYTES));
    let sink = Sink {
        bodies: send,
        room: Arc::clone(&room),
        excess,
    };
    let bodies = receive;
    (sink, Responses { bodies, room })
}

impl Sink {
    /// Hands a response over; answers whether the stream goes on.
    pub(crate) async fn send(&self, body: Bytes) -> bool {
        let weight = body.len().clamp(MIN_RESPONSE_BYTES, MAX_WAITING_BYTES);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        let held = match self.excess {
            Excess::Wait => room.acquire_many_owned(weight).await.ok(),
            Excess::End => room.try_acquire_many_owned(weight).ok(),
        };
        held.is_some_and(|held| self.bodies.send(Ok(Body { body, held })).is_ok())
    }

    /// Tells why there will be no more.
    pub(crate) fn fail(&self, error: Error) {
        let _ = self.bodies.send(Err(error));
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        // Else the connection would wait for room that nobody makes.
        self.room.close();
    }
}

/// A stream of this client's. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Stream {
    client: Client,
    id: RequestId,
    responses: Responses,
    has_ended: bool,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next<E> {
    Event(E),
    End,
    /// Responses were not taken in time, and those behind are lost.
    Lost,
}

impl Stream {
    /// Sends the request.
    pub(crate) async fn open(
        client: &Client,
        command: Command<'_>,
        excess: Excess,
    ) -> Result<Self, Error> {
        let (sink, responses) = channel(excess);
        let options = client.options.clone();
        let id = client.shared.begin(command, options, sink).await?;
        Ok(Self {
            client: client.clone(),
            id,
            responses,
            has_ended: false,
        })
    }

    /// The next event. May be dropped before it is ready, and loses nothing.
    pub(crate) async fn next<E: DeserializeOwned>(&mut self) -> Result<Next<E>, Error> {
        if self.has_ended {
            return Ok(Next::End);
        }
        let Some(body) = self.responses.bodies.recv().await else {
            return Ok(Next::Lost);
        };
        let event = body.and_then(|body| {
            let response = Response::<Option<E>>::decode(&body.body);
            let response = response.map_err(|error| Error::Protocol(error.message))?;
            response.outcome.map_err(Error::Server)
        });
        self.has_ended = !matches!(event, Ok(Some(_)) | Err(Error::Protocol(_)));
        event.map(|event| event.map_or(Next::End, Next::Event))
    }

    /// Ends it, and waits until the server knows.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        if self.has_ended {
            return Ok(());
        }
        self.has_ended = true;
        self.client.shared.forget(self.id);
        let stop = Stop { id: self.id };
        self.client.request(Command::Stop(stop)).await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.has_ended {
            self.client.shared.abandon(self.id);
        }
    }
}
