//! Clients at a fixed rate, each on a thread and a connection of its own. A latency counts from when its
//! request was due, also where the one before it was late.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use luge_benches::random::Random;
use luge_protocol::{Call, Command, FRAME_HEADER_BYTES, Get, Hello, Options, Request, Value};

/// Clients of each kind.
const CLIENTS: u64 = 4;

/// The mean time between two requests of a client.
const INTERVAL: Duration = Duration::from_millis(2);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Get,
    Call,
}

/// What was measured in rounds: a quantile is the median of those of the rounds, so that one in which the machine was
/// busy with something else does not decide.
#[derive(Default)]
pub(crate) struct Rounds {
    /// The latencies of each, sorted.
    rounds: Vec<Vec<Duration>>,
}

impl Rounds {
    pub(crate) fn add(&mut self, mut latencies: Vec<Duration>) {
        latencies.sort_unstable();
        self.rounds.push(latencies);
    }

    pub(crate) fn count(&self) -> usize {
        self.rounds.iter().map(Vec::len).sum()
    }

    /// A quantile, in microseconds.
    pub(crate) fn micros(&self, permille: usize) -> f64 {
        let of = |round: &Vec<Duration>| quantile(round, permille);
        let mut rounds: Vec<_> = self.rounds.iter().map(of).collect();
        rounds.sort_unstable();
        quantile(&rounds, 500).as_secs_f64() * 1e6
    }
}

fn quantile(sorted: &[Duration], permille: usize) -> Duration {
    let place = sorted.len().saturating_sub(1) * permille / 1000;
    sorted.get(place).copied().unwrap_or_default()
}

/// Asks for a time, on all connections.
pub(crate) fn measure(
    address: SocketAddr,
    kind: Kind,
    time: Duration,
) -> io::Result<Vec<Duration>> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || one(address, kind, time, number)))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            let failed = |_| io::Error::other("a client failed");
            all.extend(client.join().map_err(failed)??);
        }
        Ok(all)
    })
}

fn one(address: SocketAddr, kind: Kind, time: Duration, number: u64) -> io::Result<Vec<Duration>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let hello = Command::Hello(Hello {
        versions: vec![1],
        client: Some("neighbour".into()),
        credentials: None,
    });
    ask(&mut socket, &frame(hello)?)?;
    let request = frame(match kind {
        Kind::Get => Command::Get(Get { key: "key".into() }),
        Kind::Call => Command::Call(Call {
            procedure: "good.touch".into(),
            arguments: Value::from(Vec::new()),
            dry_run: None,
            limits: None,
        }),
    })?;
    let mut random = Random::new(number);
    let (began, mut due) = (Instant::now(), Duration::ZERO);
    let mut latencies = Vec::new();
    while due < time {
        if let Some(early) = due.checked_sub(began.elapsed()) {
            std::thread::sleep(early);
        }
        ask(&mut socket, &request)?;
        latencies.push(began.elapsed().saturating_sub(due));
        // Between none and twice the mean, so that clients do not march in step.
        due += INTERVAL * u32::try_from(random.below(200)).unwrap_or(100) / 100;
    }
    Ok(latencies)
}

fn frame(command: Command<'_>) -> io::Result<Vec<u8>> {
    let request = Request {
        id: 1,
        command,
        options: Options::default(),
    };
    let body = request.encode();
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes()[..], &body].concat())
}

/// Sends a request and waits for its reply, which must be none of the errors.
fn ask(socket: &mut TcpStream, request: &[u8]) -> io::Result<()> {
    socket.write_all(request)?;
    let mut header = [0; FRAME_HEADER_BYTES];
    socket.read_exact(&mut header)?;
    let mut body = vec![0; u32::from_be_bytes(header) as usize];
    socket.read_exact(&mut body)?;
    match body.windows(4).take(8).any(|part| part == b"\xa3err") {
        true => Err(io::Error::other(
            String::from_utf8_lossy(&body).into_owned(),
        )),
        false => Ok(()),
    }
}
