//! One of a generator's connections: what it still has to send, and since when each reply is waited for.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::wire::Wire;

/// Replies that are waited for since one moment.
struct Waiting {
    since: Instant,
    replies: u32,
}

/// What was read.
pub(super) trait Receiver {
    /// So many replies have come to requests of this moment.
    fn received(&mut self, since: Instant, replies: u32);
    /// One of them was an error.
    fn refused(&mut self, reply: &[u8]);
}

/// A connection that never waits.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Requests, of which the first so many bytes are sent.
    pub(super) out: Vec<u8>,
    sent: usize,
    /// The beginning of a reply whose end has not come.
    rest: Vec<u8>,
    waiting: VecDeque<Waiting>,
    /// Replies that are waited for.
    pub(super) outstanding: u32,
    /// When the requests were due that were not sent, since too many are under way.
    pub(super) overdue: VecDeque<Instant>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, depth: usize) -> Result<Self, String> {
        stream
            .set_nonblocking(true)
            .map_err(|error| format!("can't set up a socket: {error}"))?;
        Ok(Self {
            stream,
            out: Vec::with_capacity(depth * 128),
            sent: 0,
            rest: Vec::new(),
            waiting: VecDeque::with_capacity(depth),
            outstanding: 0,
            overdue: VecDeque::new(),
        })
    }

    /// Waits for replies to requests of this moment, which stand in `out`.
    pub(super) fn expect(&mut self, since: Instant, replies: u32) {
        self.outstanding += replies;
        match self.waiting.back_mut() {
            Some(last) if last.since == since => last.replies += replies,
            _ => self.waiting.push_back(Waiting { since, replies }),
        }
    }

    /// Sends what there is; answers whether some is left.
    pub(super) fn flush(&mut self) -> Result<bool, String> {
        while let Some(left) = self.out.get(self.sent..).filter(|it| !it.is_empty()) {
            match self.stream.write(left) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("can't send requests: {error}")),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(false)
    }

    /// Reads once, with the help of a buffer that all connections share.
    pub(super) fn receive(
        &mut self,
        wire: Wire,
        buffer: &mut Vec<u8>,
        receiver: &mut impl Receiver,
    ) -> Result<(), String> {
        let kept = self.rest.len();
        if buffer.len() < kept * 2 {
            buffer.resize(kept * 2, 0);
        }
        if let Some(begin) = buffer.get_mut(..kept) {
            begin.copy_from_slice(&self.rest);
        }
        let read = match self.stream.read(buffer.get_mut(kept..).unwrap_or_default()) {
            Ok(0) => return Err("the server ended a connection".to_owned()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(format!("can't read replies: {error}")),
        };
        let mut bytes = buffer.get(..kept + read).unwrap_or_default();
        let mut replies = 0;
        while !bytes.is_empty() {
            let Some(reply) = wire.delimit(bytes)? else {
                break;
            };
            if reply.is_error {
                receiver.refused(bytes);
            }
            bytes = bytes.get(reply.length..).unwrap_or_default();
            replies += 1;
        }
        self.rest.clear();
        self.rest.extend_from_slice(bytes);
        self.account(replies, receiver)
    }

    fn account(&mut self, replies: u32, receiver: &mut impl Receiver) -> Result<(), String> {
        let mut left = replies;
        while left > 0 {
            let Some(first) = self.waiting.front_mut() else {
                return Err("a reply that nobody asked for".to_owned());
            };
            let of_these = left.min(first.replies);
            receiver.received(first.since, of_these);
            first.replies -= of_these;
            left -= of_these;
            if first.replies == 0 {
                self.waiting.pop_front();
            }
        }
        self.outstanding -= replies;
        Ok(())
    }
}
