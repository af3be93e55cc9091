//! One connection that waits for its replies: for what comes before a measurement.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::template::Template;
use super::wire::Wire;

/// Nothing before a measurement takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that are sent before their replies are read.
const WINDOW: usize = 500;

/// How a connection to a server begins.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// How its replies are delimited.
    pub wire: Wire,
    /// What the server says before it is asked, in bytes.
    pub banner: usize,
    /// What is said first; it has one reply. Empty where nothing is.
    pub hello: Vec<u8>,
}

impl Dialect {
    /// Connects, and is greeted.
    ///
    /// # Errors
    /// There is no server, or it refuses.
    pub fn connect(&self, address: SocketAddr) -> Result<TcpStream, String> {
        let cannot = |error| format!("can't connect to {address}: {error}");
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(cannot)?;
        stream.set_nodelay(true).map_err(cannot)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(cannot)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(cannot)?;
        stream
            .read_exact(&mut vec![0; self.banner])
            .map_err(cannot)?;
        if self.hello.is_empty() {
            return Ok(stream);
        }
        stream.write_all(&self.hello).map_err(cannot)?;
        let mut client = Client {
            stream,
            wire: self.wire,
            input: Vec::new(),
        };
        client.reply()?;
        Ok(client.stream)
    }
}

/// A connection for requests one at a time, or in bulk.
pub struct Client {
    stream: TcpStream,
    wire: Wire,
    input: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// As [`Dialect::connect`].
    pub fn connect(dialect: &Dialect, address: SocketAddr) -> Result<Self, String> {
        let stream = dialect.connect(address)?;
        Ok(Self {
            stream,
            wire: dialect.wire,
            input: Vec::new(),
        })
    }

    /// Sends a request for the key with this number; answers all its replies.
    ///
    /// # Errors
    /// The connection is lost. An error of the server's is a reply.
    pub fn ask(&mut self, request: &Template, number: u64) -> Result<Vec<Vec<u8>>, String> {
        let mut out = Vec::new();
        request.write_at(number, &mut out);
        self.send(&out)?;
        (0..request.replies).map(|_| self.reply()).collect()
    }

    /// Sends a request for each of the keys with these numbers.
    ///
    /// # Errors
    /// One of them was refused, or the connection is lost.
    pub fn each(
        &mut self,
        request: &Template,
        numbers: impl Iterator<Item = u64>,
    ) -> Result<(), String> {
        let mut numbers = numbers.peekable();
        let mut out = Vec::new();
        while numbers.peek().is_some() {
            out.clear();
            let mut expected = 0;
            // Below what the buffers of both sides hold, so that nobody waits for the other.
            while out.len() < 100_000 && expected < WINDOW {
                let Some(number) = numbers.next() else { break };
                request.write_at(number, &mut out);
                expected += request.replies as usize;
            }
            self.send(&out)?;
            for _ in 0..expected {
                let reply = self.reply()?;
                if self.wire.delimit(&reply)?.is_some_and(|it| it.is_error) {
                    return Err(super::answer::printable(&reply));
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream
            .write_all(bytes)
            .map_err(|error| format!("can't send a request: {error}"))
    }

    fn reply(&mut self) -> Result<Vec<u8>, String> {
        let mut more = [0; 16 << 10];
        loop {
            if let Some(reply) = self.wire.delimit(&self.input)? {
                return Ok(self.input.drain(..reply.length).collect());
            }
            let read = self
                .stream
                .read(&mut more)
                .map_err(|error| format!("can't read a reply: {error}"))?;
            if read == 0 {
                return Err("the server ended the connection".to_owned());
            }
            self.input
                .extend_from_slice(more.get(..read).unwrap_or_default());
        }
    }
}
