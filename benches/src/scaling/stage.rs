//! A server that is measured at one point of a sweep.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::growth::Spot;
use crate::compare::request::{Ask, Place};
use crate::compare::series::sample;
use crate::compare::server::Server;
use crate::compare::system::{Level, System};
use crate::load::client::Client;
use crate::load::generator::{self, Load};
use crate::load::keys::{Distribution, Keys};
use crate::load::template::Template;

/// How long a server may go on with what it put off.
const MAX_SETTLE: Duration = Duration::from_secs(20);

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub luge: System,
    /// Its durability.
    pub level: Level,
    /// How long a point is measured.
    pub length: Duration,
    /// What comes before it.
    pub warm_up: Duration,
    /// How often; the turn of the median throughput is what is told.
    pub rounds: usize,
    /// Whether there are fewer points.
    pub is_quick: bool,
    /// Where the servers' folders are made.
    pub folder: Option<PathBuf>,
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Requests, each with its share in percent.
    pub mix: Vec<(u32, Template)>,
    /// Connections.
    pub connections: usize,
    /// Requests under way on each.
    pub depth: usize,
    /// The numbers of keys that are drawn lie below this.
    pub domain: u64,
}

/// A server in a folder of its own.
pub struct Stage<'a> {
    plan: &'a Plan,
    settings: &'a [&'a str],
    // Ended before its folder goes.
    server: Server,
    folder: tempfile::TempDir,
}

impl<'a> Stage<'a> {
    /// Starts a server with these settings on an empty folder.
    ///
    /// # Errors
    /// It does not start.
    pub fn open(plan: &'a Plan, settings: &'a [&'a str]) -> Result<Self, String> {
        let mut name = tempfile::Builder::new();
        name.prefix("luge-scaling-");
        let folder = match &plan.folder {
            Some(parent) => name.tempdir_in(parent),
            None => name.tempdir(),
        };
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        let server = plan.luge.start_set(plan.level, folder.path(), settings)?;
        Ok(Self {
            plan,
            settings,
            server,
            folder,
        })
    }

    /// Stops it and starts it again on its folder; answers how long the start took.
    ///
    /// # Errors
    /// It does not stop in order, or does not start.
    pub fn restart(self) -> Result<(Self, Duration), String> {
        self.server.stop()?;
        let began = Instant::now();
        let (level, folder) = (self.plan.level, self.folder.path());
        let server = self.plan.luge.start_set(level, folder, self.settings)?;
        let took = began.elapsed();
        Ok((Self { server, ..self }, took))
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// A connection for what comes before a measurement.
    ///
    /// # Errors
    /// The server is gone.
    pub fn client(&self) -> Result<Client, String> {
        Client::connect(&self.plan.luge.dialect(), self.server.address)
    }

    /// Registers a module.
    ///
    /// # Errors
    /// It is refused.
    pub fn push(&self, client: &mut Client, name: &str, wasm: &[u8]) -> Result<(), String> {
        client
            .each(&self.plan.luge.push(name, wasm), std::iter::once(0))
            .map_err(|error| format!("{name}: {error}"))
    }

    /// Writes a value to each of the keys with these numbers, waits until the server has nothing left to do, and answers
    /// how long it was written to.
    ///
    /// # Errors
    /// One is refused.
    pub fn load(
        &self,
        place: Place,
        value: &str,
        numbers: std::ops::Range<u64>,
    ) -> Result<Duration, String> {
        let set = self.plan.luge.encode(&[Ask::Set(place, value.to_owned())]);
        let mut client = self.client()?;
        let began = Instant::now();
        client.each(&set, numbers)?;
        let took = began.elapsed();
        self.server.settle_within(MAX_SETTLE)?;
        Ok(took)
    }

    /// Measures a point.
    ///
    /// # Errors
    /// The server is lost. Errors that it answers are counted.
    pub fn measure(&self, at: u64, shape: &Shape) -> Result<Spot, String> {
        let load = Load {
            address: self.server.address,
            dialect: &self.plan.luge.dialect(),
            mix: &shape.mix,
            connections: shape.connections,
            depth: shape.depth,
            rate: None,
            warm_up: self.plan.warm_up,
            length: self.plan.length,
        };
        let mut keys = Keys::new(shape.domain, Distribution::Uniform, 1);
        let mut spots = Vec::new();
        for _ in 0..self.plan.rounds.max(1) {
            let mut resident_bytes = 0;
            let measured = generator::run(&load, &mut keys, &mut || {
                resident_bytes = self.server.memory()?;
                self.server.cpu()
            })?;
            if let Some(error) = &measured.first_error {
                eprintln!("{} errors: {error}", measured.errors);
            }
            self.server.settle_within(MAX_SETTLE)?;
            spots.push(Spot {
                at,
                sample: sample(&measured),
                resident_bytes,
                more: Vec::new(),
            });
        }
        middle(spots).ok_or_else(|| "nothing was measured".to_owned())
    }
}

/// The one of the median throughput.
fn middle(mut spots: Vec<Spot>) -> Option<Spot> {
    spots.sort_by(|one, other| one.sample.rate.total_cmp(&other.sample.rate));
    let middle = spots.len() / 2;
    spots.into_iter().nth(middle)
}

/// Lets this process, and the servers that it starts, open as many files as they may.
///
/// # Errors
/// The kernel refuses.
pub fn raise_file_limit() -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| format!("can't raise the limit on open files: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::growth::spot;
    use super::*;

    #[test]
    fn a_point_is_told_by_the_turn_of_the_median_throughput() {
        let spots = [300.0, 100.0, 200.0].map(|rate| spot(1, rate, rate));
        let told = middle(spots.to_vec()).unwrap();
        assert!((told.sample.p99_us - 200.0).abs() < 1e-9);
        assert!(middle(Vec::new()).is_none());
    }
}
