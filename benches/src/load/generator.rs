//! The generator's loop.
//!
//! A *closed loop* sends a connection's next requests, as many as the pipeline is deep, once all replies to the last
//! ones are there. At a *fixed rate* each request has a moment at which it is due, on one connection after the other,
//! and its latency counts from that moment: what a server does not take in time is waited for, too, and not
//! left out (Gil Tene's "coordinated omission").

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::{ClockId, clock_gettime};

use super::client::Dialect;
use super::connection::Connection;
use super::keys::Keys;
use super::schedule::Schedule;
use super::template::Template;
use super::window::Window;
use crate::random::Random;

/// What is read at once, at the most.
const READ_BYTES: usize = 256 << 10;

/// How long replies are waited for behind the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often each connection is answered within what is measured, at the least. A server may answer all that it has
/// read at once, so a time without regard to that would have one such burst more or less.
const MIN_TURNS: u64 = 5;

/// How much longer than asked for it is measured for that, at the most.
const MAX_LONGER: Duration = Duration::from_secs(10);

/// The order in which the requests of a mix follow one another repeats after so many.
const MIX_LENGTH: usize = 4096;

/// What is sent, and how.
pub struct Load<'a> {
    /// The server.
    pub address: SocketAddr,
    /// Its protocol.
    pub dialect: &'a Dialect,
    /// Requests, each with its share in percent.
    pub mix: &'a [(u32, Template)],
    /// Connections.
    pub connections: usize,
    /// Requests under way on each, at the most.
    pub depth: usize,
    /// Requests a second, of all connections; a closed loop without.
    pub rate: Option<f64>,
    /// What comes before the measurement.
    pub warm_up: Duration,
    /// How long is measured.
    pub length: Duration,
}

/// What was measured.
pub struct Measured {
    /// Replies within the time.
    pub replies: u64,
    /// Errors among all replies.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// The time.
    pub length: Duration,
    /// Nanoseconds from when a request was sent, or due, to its reply.
    pub latency: Histogram<u64>,
    /// Processor time of the generator in that time.
    pub own_cpu: Duration,
    /// What the probe told over that time.
    pub server_cpu: Duration,
}

struct Generator<'a> {
    load: &'a Load<'a>,
    keys: &'a mut Keys,
    poll: OwnedFd,
    connections: Vec<Connection>,
    /// Which of the mix comes next.
    order: Vec<u8>,
    at: usize,
    window: Window,
    schedule: Option<Schedule>,
    buffer: Vec<u8>,
}

/// Sends the load; `server_cpu` is asked at the beginning and at the end of what is measured.
///
/// # Errors
/// A connection is lost, or a reply can't be read. Errors of the server's are counted.
pub fn run(
    load: &Load<'_>,
    keys: &mut Keys,
    server_cpu: &mut dyn FnMut() -> Result<Duration, String>,
) -> Result<Measured, String> {
    let mut generator = Generator::new(load, keys)?;
    generator.begin()?;
    let now = generator.window.now;
    generator.until(now + load.warm_up, generator.turns(1))?;
    let (own, server) = (own_cpu(), server_cpu()?);
    generator.window.open(Instant::now());
    let from = generator.window.from;
    generator.until(from + load.length, generator.turns(MIN_TURNS))?;
    generator.window.until = generator.window.now;
    let length = generator.window.now - from;
    let (own, server) = (
        own_cpu().saturating_sub(own),
        server_cpu()?.saturating_sub(server),
    );
    generator.drain()?;
    let window = generator.window;
    Ok(Measured {
        replies: window.replies,
        errors: window.errors,
        first_error: window.first_error,
        length,
        latency: window.latency,
        own_cpu: own,
        server_cpu: server,
    })
}

impl<'a> Generator<'a> {
    fn new(load: &'a Load<'a>, keys: &'a mut Keys) -> Result<Self, String> {
        let cannot = |error| format!("can't set up epoll: {error}");
        let poll = epoll::create(CreateFlags::CLOEXEC).map_err(cannot)?;
        let mut connections = Vec::with_capacity(load.connections);
        for number in 0..load.connections {
            let stream = load.dialect.connect(load.address)?;
            let connection = Connection::new(stream, load.depth)?;
            let data = EventData::new_u64(number as u64);
            epoll::add(&poll, &connection.stream, data, EventFlags::IN).map_err(cannot)?;
            connections.push(connection);
        }
        let now = Instant::now();
        Ok(Self {
            load,
            keys,
            poll,
            connections,
            order: order(load.mix),
            at: 0,
            window: Window::new(now)?,
            schedule: load.rate.map(|rate| Schedule::new(now, rate)),
            buffer: vec![0; READ_BYTES],
        })
    }

    fn begin(&mut self) -> Result<(), String> {
        if self.schedule.is_none() {
            for number in 0..self.connections.len() {
                self.fill(number)?;
            }
        }
        Ok(())
    }

    /// How many replies there are when each connection was answered so often; a schedule has its own length.
    fn turns(&self, count: u64) -> u64 {
        match self.schedule {
            Some(_) => 0,
            None => count * (self.load.connections * self.load.depth) as u64,
        }
    }

    /// Goes on until this moment, and until there are so many replies.
    fn until(&mut self, end: Instant, replies: u64) -> Result<(), String> {
        let last = end + MAX_LONGER;
        while self.window.now < end || (self.window.replies < replies && self.window.now < last) {
            let end = if self.window.now < end { end } else { last };
            let due = self.schedule.as_ref().map_or(end, |it| it.due().min(end));
            self.wait(due)?;
            self.send_due()?;
        }
        Ok(())
    }

    /// Waits for what was asked.
    fn drain(&mut self) -> Result<(), String> {
        self.schedule = None;
        let end = self.window.now + PATIENCE;
        while self
            .connections
            .iter()
            .any(|it| it.outstanding > 0 || !it.overdue.is_empty())
        {
            if self.window.now >= end {
                return Err(format!("replies did not come within {PATIENCE:?}"));
            }
            self.wait(end)?;
        }
        Ok(())
    }

    /// Waits for replies, no longer than to this moment, and takes them.
    fn wait(&mut self, until: Instant) -> Result<(), String> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut events = [Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; 256];
        let count = match epoll::wait(&self.poll, &mut events[..], Some(&timeout)) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(format!("can't wait for replies: {error}")),
        };
        self.window.now = Instant::now();
        for event in events.iter().take(count) {
            let (flags, data) = (event.flags, event.data);
            self.happened(usize::try_from(data.u64()).unwrap_or(usize::MAX), flags)?;
        }
        Ok(())
    }

    fn happened(&mut self, number: usize, flags: EventFlags) -> Result<(), String> {
        if flags.contains(EventFlags::OUT) {
            self.flush(number, true)?;
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(number) else {
            return Ok(());
        };
        connection.receive(self.load.dialect.wire, &mut self.buffer, &mut self.window)?;
        if self.load.rate.is_some() {
            self.send_overdue(number)
        } else if connection.outstanding == 0 && self.window.now < self.window.until {
            self.fill(number)
        } else {
            Ok(())
        }
    }

    /// Sends as many requests as the pipeline is deep.
    fn fill(&mut self, number: usize) -> Result<(), String> {
        for _ in 0..self.load.depth {
            self.push(number, self.window.now);
        }
        self.flush(number, false)
    }

    /// Sends what is due, on one connection after the other.
    fn send_due(&mut self) -> Result<(), String> {
        let count = self.connections.len() as u64;
        let mut due = 0;
        while let Some((number, since)) = self
            .schedule
            .as_mut()
            .and_then(|it| it.take(self.window.now))
        {
            let connection = usize::try_from(number % count).unwrap_or(0);
            if let Some(connection) = self.connections.get_mut(connection) {
                connection.overdue.push_back(since);
            }
            due += 1;
        }
        let first = self.schedule.as_ref().map_or(0, |it| it.next - due);
        for number in first..first + due.min(count) {
            self.send_overdue(usize::try_from(number % count).unwrap_or(0))?;
        }
        Ok(())
    }

    fn send_overdue(&mut self, number: usize) -> Result<(), String> {
        let mut has_more = false;
        while let Some(connection) = self.connections.get_mut(number) {
            if connection.outstanding as usize >= self.load.depth {
                break;
            }
            let Some(since) = connection.overdue.pop_front() else {
                break;
            };
            self.push(number, since);
            has_more = true;
        }
        if has_more {
            self.flush(number, false)
        } else {
            Ok(())
        }
    }

    /// Writes the next request of the mix to a connection's buffer.
    fn push(&mut self, number: usize, since: Instant) {
        let next = self.order.get(self.at).map_or(0, |it| usize::from(*it));
        self.at = (self.at + 1) % MIX_LENGTH;
        let (Some((_, template)), Some(connection)) =
            (self.load.mix.get(next), self.connections.get_mut(number))
        else {
            return;
        };
        template.write(self.keys, &mut connection.out);
        connection.expect(since, template.replies);
    }

    /// Sends what a connection has to send. Where the socket takes no more, epoll tells when it does.
    fn flush(&mut self, number: usize, was_full: bool) -> Result<(), String> {
        let Some(connection) = self.connections.get_mut(number) else {
            return Ok(());
        };
        let is_full = connection.flush()?;
        if is_full != was_full {
            let flags = match is_full {
                true => EventFlags::IN | EventFlags::OUT,
                false => EventFlags::IN,
            };
            let data = EventData::new_u64(number as u64);
            epoll::modify(&self.poll, &connection.stream, data, flags)
                .map_err(|error| format!("can't change what epoll tells: {error}"))?;
        }
        Ok(())
    }
}

/// The order of a mix: each request as often as its share says, well shuffled, and the same in each run.
fn order(mix: &[(u32, Template)]) -> Vec<u8> {
    let total: u64 = mix.iter().map(|(share, _)| u64::from(*share)).sum();
    let mut random = Random::new(42);
    let mut pick = |_| {
        let mut left = random.below(total);
        let chosen = mix.iter().position(|(share, _)| {
            let is_it = left < u64::from(*share);
            left = left.saturating_sub(u64::from(*share));
            is_it
        });
        chosen.and_then(|it| u8::try_from(it).ok()).unwrap_or(0)
    };
    (0..MIX_LENGTH).map(&mut pick).collect()
}

/// The processor time of this thread.
fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::super::keys::Distribution;
    use super::super::wire::Wire;
    use super::*;

    /// A server that answers `+\r\n` to each byte, but stalls once for so long.
    fn stalling(stall: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let begin = Instant::now();
            let mut has_stalled = false;
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                if !has_stalled && begin.elapsed() > Duration::from_millis(100) {
                    has_stalled = true;
                    std::thread::sleep(stall);
                }
                if stream.write_all(&b"+\r\n".repeat(read)).is_err() {
                    break;
                }
            }
        });
        address
    }

    fn measure(rate: Option<f64>) -> Measured {
        let dialect = Dialect {
            wire: Wire::Resp,
            banner: 0,
            hello: Vec::new(),
        };
        let mut template = Template::default();
        template.raw(b"x");
        template.replies = 1;
        let load = Load {
            address: stalling(Duration::from_millis(200)),
            dialect: &dialect,
            mix: &[(100, template)],
            connections: 1,
            depth: 1,
            rate,
            warm_up: Duration::from_millis(20),
            length: Duration::from_millis(500),
        };
        let mut keys = Keys::new(2, Distribution::Uniform, 1);
        run(&load, &mut keys, &mut || Ok(Duration::ZERO)).unwrap()
    }

    #[test]
    fn what_was_due_during_a_stall_is_late() {
        let measured = measure(Some(1_000.0));
        // All of the window's 500 requests are told of, those behind the stall, too.
        let due = measured.length.as_millis();
        assert!(
            measured.latency.len().abs_diff(u64::try_from(due).unwrap()) <= 2,
            "{due}"
        );
        // 200 of 500 were due while it stalled: so the 90th percentile was late by half of it.
        assert!(measured.latency.value_at_quantile(0.9) > 50_000_000);
        assert!(measured.latency.max() > 150_000_000);
        assert_eq!(measured.errors, 0);
    }

    #[test]
    fn a_closed_loop_sees_one_late_reply() {
        let measured = measure(None);
        assert!(measured.latency.max() > 150_000_000);
        assert!(measured.latency.value_at_quantile(0.9) < 50_000_000);
        assert!(measured.replies > 100);
    }

    #[test]
    fn a_mix_has_its_shares() {
        let template = Template::default();
        let order = order(&[(95, template.clone()), (5, template)]);
        let seconds = order.iter().filter(|it| **it == 1).count();
        assert!((150..260).contains(&seconds), "{seconds}");
    }
}
