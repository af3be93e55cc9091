//! A client that sends a batch of requests as bytes, and reads until all of them are answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use luge_benches::encode;
use luge_benches::load::wire::Wire;
use luge_protocol::{Command, Hello};

/// More than the replies to a batch take.
const BUFFER_BYTES: usize = 1 << 20;

/// Only a server that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the server.
pub(crate) struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// Requests that are sent together.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    requests: usize,
}

impl Batch {
    /// These requests, one behind the other.
    pub(crate) fn of<'a>(commands: impl IntoIterator<Item = Command<'a>>) -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            requests: 0,
        };
        for command in commands {
            let body = encode(command);
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
            batch.bytes.extend_from_slice(&length.to_be_bytes());
            batch.bytes.extend_from_slice(&body);
            batch.requests += 1;
        }
        batch
    }
}

impl Client {
    /// A connection that was greeted.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self, String> {
        let socket = TcpStream::connect(address)
            .and_then(|socket| {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Ok(socket)
            })
            .map_err(|error| format!("can't connect: {error}"))?;
        let mut client = Self {
            socket,
            buffer: vec![0; BUFFER_BYTES],
        };
        client.ask(&Batch::of([Command::Hello(Hello {
            versions: vec![1],
            client: None,
            credentials: None,
        })]))?;
        Ok(client)
    }

    /// Sends them, and waits until each is answered.
    ///
    /// # Errors
    /// One was refused, or the connection is lost.
    pub(crate) fn ask(&mut self, batch: &Batch) -> Result<(), String> {
        let sent = self.socket.write_all(&batch.bytes);
        sent.map_err(|error| format!("can't send: {error}"))?;
        let (mut filled, mut looked_at, mut answered) = (0, 0, 0);
        while answered < batch.requests {
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            filled += match self.socket.read(room) {
                Ok(0) => return Err("the server has closed the connection".to_owned()),
                Ok(bytes) => bytes,
                Err(error) => return Err(format!("can't receive: {error}")),
            };
            let received = self.buffer.get(..filled).unwrap_or_default();
            while let Some(rest) = received.get(looked_at..)
                && let Some(reply) = Wire::Luge.delimit(rest)?
            {
                if reply.is_error {
                    let text = String::from_utf8_lossy(rest.get(..reply.length).unwrap_or(rest));
                    return Err(format!("a request was refused: {text}"));
                }
                looked_at += reply.length;
                answered += 1;
            }
        }
        Ok(())
    }
}
