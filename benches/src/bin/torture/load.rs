//! Connections that write until the server is gone, each with a ledger.

use std::time::Duration;

use luge_benches::pipeline::{Ask, in_order};
use luge_benches::random::Random;
use luge_benches::torture::{Ledger, State, Write};
use luge_client::{Batch, Client, Condition, Error, ErrorCode, Expiry, PushOptions, SetOptions};
use serde::Serialize;

/// The accounts between which all connections move amounts.
pub(crate) const SHARED: [&str; 4] = ["shared-0", "shared-1", "shared-2", "shared-3"];

/// What is in each account at the beginning.
pub(crate) const DEPOSIT: i64 = 1_000_000_000;

/// A key of no store, which stands for the module `extra` in a ledger.
pub(crate) const EXTRA: &str = "the module extra";

/// A module whose one procedure answers with the byte 42.
const EXTRA_MODULE: &[u8] = br#"(module
  (import "luge_v1" "output_write" (func $write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\2a")
  (func (export "answer") (result i32)
    (call $write (i32.const 0) (i32.const 1))
    (i32.const 0)))"#;

const KEYS: u64 = 20;
const COUNTERS: u64 = 3;
const LONG: Duration = Duration::from_secs(3_600);

/// One connection's work.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) ledger: Ledger,
    random: Random,
    next_value: u64,
}

/// A request as it is sent.
enum Request {
    Set(String, Vec<u8>, Expiry),
    Delete(String),
    Incr(String),
    Batch(Batch),
    Transfer(String, String),
    Push,
    Remove,
}

#[derive(Serialize)]
struct Transfer<'a> {
    from: &'a str,
    to: &'a str,
    amount: i64,
}

impl Worker {
    pub(crate) fn new(number: usize, random: Random) -> Self {
        Self {
            number,
            ledger: Ledger::default(),
            random,
            next_value: 1,
        }
    }

    /// Where this connection's accounts lie.
    pub(crate) fn accounts(&self) -> [String; 2] {
        let number = self.number;
        [format!("own-{number}"), format!("savings-{number}")]
    }

    /// Writes until the connection is lost.
    pub(crate) async fn work(&mut self, client: Client) -> Result<(), String> {
        loop {
            let count = match self.random.percent(40) {
                true => 1,
                false => 1 + self.random.below(12),
            };
            let mut requests = Vec::new();
            for _ in 0..count {
                let (request, write) = self.choose();
                let is_own = write.is_some();
                if let Some(write) = write {
                    self.ledger.send(write);
                }
                requests.push((request, is_own));
            }
            let is_own: Vec<bool> = requests.iter().map(|(_, is_own)| *is_own).collect();
            let asks = requests.into_iter().map(|(request, _)| {
                let client = client.clone();
                let ask: Ask<'_, _> = Box::pin(async move { send(&client, request).await });
                ask
            });
            let answers = in_order(asks.collect()).await;
            for (answer, is_own) in answers.into_iter().zip(is_own) {
                match answer {
                    Ok(version) if is_own => self.ledger.acknowledge(version),
                    Ok(_) => {}
                    Err(Error::Server(reply)) if reply.code() == ErrorCode::Conflict && !is_own => {
                    }
                    Err(error) if error.code() == Some(ErrorCode::PreconditionFailed) => {
                        self.ledger.refuse();
                    }
                    Err(Error::Io(_) | Error::Closed) => return Ok(()),
                    // A server that stops says so.
                    Err(error) if error.code() == Some(ErrorCode::Unavailable) => return Ok(()),
                    Err(error) => return Err(format!("a request was refused: {error}")),
                }
            }
        }
    }

    /// A request, and what it changes; nothing for what others change, too.
    fn choose(&mut self) -> (Request, Option<Write>) {
        match self.random.below(100) {
            0..40 => self.set(),
            40..52 => self.delete(),
            52..54 => self.refused_batch(),
            54..64 => {
                let key = self.counter();
                let number = self.add(&key, 1);
                let write = write(format!("incr {key}"), vec![(key.clone(), number)]);
                (Request::Incr(key), Some(write))
            }
            64..76 => self.batch(),
            76..88 => self.save(),
            88..99 => {
                let from = self.random.pick(&SHARED).copied().unwrap_or_default();
                let to = self.random.pick(&SHARED).copied().unwrap_or_default();
                match from == to {
                    true => self.set(),
                    false => (Request::Transfer(from.to_owned(), to.to_owned()), None),
                }
            }
            _ if self.number == 0 => self.push_or_remove(),
            _ => self.set(),
        }
    }

    fn set(&mut self) -> (Request, Option<Write>) {
        let key = self.key();
        let (state, value) = self.fill();
        let expiry = match self.random.percent(15) {
            true => Expiry::After(LONG),
            false => Expiry::Never,
        };
        let write = write(format!("set {key} to {state}"), vec![(key.clone(), state)]);
        (Request::Set(key, value, expiry), Some(write))
    }

    fn delete(&mut self) -> (Request, Option<Write>) {
        let key = self.key();
        let write = write(format!("del {key}"), vec![(key.clone(), State::Absent)]);
        (Request::Delete(key), Some(write))
    }

    fn batch(&mut self) -> (Request, Option<Write>) {
        let mut batch = Batch::new();
        let mut changes: Vec<(String, State)> = Vec::new();
        for _ in 0..=self.random.below(4) {
            let key = self.key();
            if changes.iter().any(|(changed, _)| *changed == key) {
                continue;
            }
            if self.random.percent(30) {
                batch = batch.del(&[&key]);
                changes.push((key, State::Absent));
            } else {
                let (state, value) = self.fill();
                batch = batch.set(&key, value);
                changes.push((key, state));
            }
        }
        let key = self.counter();
        batch = batch.incr(&key, 1);
        let number = self.add(&key, 1);
        changes.push((key, number));
        let write = write(format!("a batch of {} writes", changes.len()), changes);
        (Request::Batch(batch), Some(write))
    }

    /// A batch that ends with a condition that can't hold, and so changes nothing.
    fn refused_batch(&mut self) -> (Request, Option<Write>) {
        let (key, never) = (self.key(), Condition::Version(u64::MAX));
        let (_, value) = self.fill();
        let batch = Batch::new().set(&key, value).incr(self.counter(), 1);
        let batch = batch.check(&key, never);
        let write = write(format!("a refused batch on {key}"), Vec::new());
        (Request::Batch(batch), Some(write))
    }

    /// A procedure that moves an amount from this connection's account to its savings.
    fn save(&mut self) -> (Request, Option<Write>) {
        let [own, savings] = self.accounts();
        let changes = [(&own, -1), (&savings, 1)].map(|(account, amount)| {
            let key = format!("bank:{account}");
            let state = self.add(&key, amount);
            (key, state)
        });
        let write = write(format!("a transfer to {savings}"), changes.into());
        (Request::Transfer(own, savings), Some(write))
    }

    fn push_or_remove(&mut self) -> (Request, Option<Write>) {
        let (request, state) = match self.ledger.expected(EXTRA) {
            State::Absent => (Request::Push, State::Number(1)),
            _ => (Request::Remove, State::Absent),
        };
        let write = write(format!("{EXTRA}: {state}"), vec![(EXTRA.to_owned(), state)]);
        (request, Some(write))
    }

    fn key(&mut self) -> String {
        format!("k:{}:{}", self.number, self.random.below(KEYS))
    }

    fn counter(&mut self) -> String {
        format!("c:{}:{}", self.number, self.random.below(COUNTERS))
    }

    fn add(&self, key: &str, delta: i64) -> State {
        match self.ledger.expected(key) {
            State::Number(number) => State::Number(number + delta),
            _ => State::Number(delta),
        }
    }

    fn fill(&mut self) -> (State, Vec<u8>) {
        let bytes = match self.random.below(100) {
            0..5 => 0,
            5..65 => self.random.below(100),
            65..95 => self.random.below(4_000),
            _ => self.random.below(100_000),
        };
        self.next_value += 1;
        let number = self.next_value << 8 | self.number as u64;
        let state = State::Filled(number, usize::try_from(bytes).unwrap_or(0));
        (state, state.encode().unwrap_or_default())
    }
}

fn write(text: String, changes: Vec<(String, State)>) -> Write {
    Write { text, changes }
}

async fn send(client: &Client, request: Request) -> Result<Option<u64>, Error> {
    match request {
        Request::Set(key, value, expiry) => {
            let options = SetOptions {
                expiry,
                ..SetOptions::default()
            };
            let outcome = client.set_with(key, value, options).await?;
            Ok(Some(outcome.version))
        }
        Request::Delete(key) => client.del(&[key]).await.map(|_| None),
        Request::Incr(key) => {
            let sum = client.incr(key, 1).await?;
            Ok(Some(sum.version))
        }
        Request::Batch(batch) => client.batch(batch).await.map(|_| None),
        Request::Transfer(from, to) => {
            let transfer = Transfer {
                from: &from,
                to: &to,
                amount: 1,
            };
            let arguments = rmp_serde::to_vec_named(&transfer)
                .map_err(|error| Error::Arguments(error.to_string()))?;
            client.call_raw("bank.transfer", arguments).await?;
            Ok(None)
        }
        Request::Push => {
            let options = PushOptions::default();
            client.module_push("extra", EXTRA_MODULE, options).await?;
            Ok(None)
        }
        Request::Remove => client.module_remove("extra").await.map(|()| None),
    }
}
