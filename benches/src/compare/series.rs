//! A series of measurements: servers started, filled, compared by their answers, and measured in turns.

use std::path::PathBuf;
use std::time::Duration;

use super::figures::{Cell, Figures, Memory, Point, Sample};
use super::request::{Argument, Ask};
use super::server::Server;
use super::system::{Level, System};
use super::workload::{Data, Workload};
use crate::load::client::Client;
use crate::load::generator::{self, Load, Measured};
use crate::load::keys::Keys;
use crate::load::template::Template;

/// How long everybody rests between loading and measuring.
const REST: Duration = Duration::from_millis(1_500);

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections.
    pub connections: usize,
    /// Requests under way on each: one point each.
    pub depths: Vec<usize>,
    /// Turns of each server at each point.
    pub rounds: usize,
    /// How long each is.
    pub length: Duration,
    /// What comes before it.
    pub warm_up: Duration,
    /// Requests a second, for latencies at a rate that is the same for all.
    pub rate: Option<f64>,
    /// Keys, as many as were asked for.
    pub keys: u64,
    /// Levels that are measured.
    pub levels: Vec<Level>,
    /// Where the servers' folders are made.
    pub folder: Option<PathBuf>,
}

/// A key that checks use; it has data in every workload.
const CHECKED_KEY: u64 = 7;

/// Measures these workloads on these servers.
///
/// # Errors
/// A server does not start, gives another answer than the others, or is lost.
pub fn run(plan: &Plan, systems: &[System], workloads: &[Workload]) -> Result<Figures, String> {
    let mut figures = Figures::default();
    for level in &plan.levels {
        let here: Vec<&Workload> = workloads
            .iter()
            .filter(|it| it.levels.contains(level))
            .collect();
        if here.is_empty() {
            continue;
        }
        let stage = Stage::open(plan, systems, *level)?;
        for workload in here {
            stage.prepare(workload)?;
            for depth in &plan.depths {
                let point = Point {
                    workload: workload.name,
                    durability: *level,
                    depth: *depth,
                };
                figures.cells.extend(stage.measure(workload, point)?);
            }
        }
        for server in &stage.servers {
            let peak_bytes = server.peak_memory()?;
            figures.memory.push(Memory {
                process: server.process,
                durability: *level,
                peak_bytes,
            });
        }
    }
    match figures.cells.is_empty() {
        true => Err("nothing of that is measured at these levels by these servers".to_owned()),
        false => Ok(figures),
    }
}

/// The servers of one level, all of them running.
struct Stage<'a> {
    plan: &'a Plan,
    systems: &'a [System],
    // Ended before their folders go.
    servers: Vec<Server>,
    _folders: Vec<tempfile::TempDir>,
}

impl<'a> Stage<'a> {
    fn open(plan: &'a Plan, systems: &'a [System], level: Level) -> Result<Self, String> {
        let mut stage = Self {
            plan,
            systems,
            servers: Vec::new(),
            _folders: Vec::new(),
        };
        for system in systems {
            if stage.servers.iter().any(|it| it.process == system.process) {
                continue;
            }
            let mut name = tempfile::Builder::new();
            name.prefix("luge-bench-");
            let folder = match &plan.folder {
                Some(parent) => name.tempdir_in(parent),
                None => name.tempdir(),
            };
            let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
            stage.servers.push(system.start(level, folder.path())?);
            stage._folders.push(folder);
        }
        Ok(stage)
    }

    fn server(&self, system: &System) -> Result<&Server, String> {
        let found = self.servers.iter().find(|it| it.process == system.process);
        found.ok_or_else(|| format!("{} is not running", system.process))
    }

    /// Who takes part: Luge with kept instances only where there are functions.
    fn taking_part(&self, workload: &Workload) -> impl Iterator<Item = &'a System> {
        let has_functions = workload.has_functions;
        self.systems
            .iter()
            .filter(move |it| has_functions || !it.is_for_functions())
    }

    /// Registers functions, loads data, and compares the answers.
    fn prepare(&self, workload: &Workload) -> Result<(), String> {
        eprintln!("{}: loading", workload.name);
        let mut expected: Option<(&str, Vec<Vec<String>>)> = None;
        for system in self.taking_part(workload) {
            let server = self.server(system)?;
            let mut client = Client::connect(&system.dialect(), server.address)?;
            if workload.has_functions || matches!(workload.data, Data::EachKey(Ask::Insert(..))) {
                system.register(&mut client)?;
            }
            let failed = |error| format!("{}, {}: {error}", workload.name, system.name);
            self.load(workload, system, &mut client).map_err(failed)?;
            let answers = answers(workload, system, &mut client).map_err(failed)?;
            match &expected {
                None => expected = Some((system.name, answers)),
                Some((first, others)) if *others != answers => {
                    return Err(format!(
                        "{}: {} answers {answers:?}, but {first} answers {others:?}",
                        workload.name, system.name
                    ));
                }
                Some(_) => {}
            }
        }
        // Some servers put work on what was loaded off until nobody writes for a while.
        std::thread::sleep(REST);
        self.taking_part(workload)
            .try_for_each(|system| self.server(system)?.settle())
    }

    fn load(
        &self,
        workload: &Workload,
        system: &System,
        client: &mut Client,
    ) -> Result<(), String> {
        match &workload.data {
            Data::None => Ok(()),
            Data::EachKey(ask) => {
                client.each(&system.encode(std::slice::from_ref(ask)), 0..self.plan.keys)
            }
            Data::Groups(ask, count) => {
                client.each(&system.encode(std::slice::from_ref(ask)), 0..*count)
            }
            Data::Thousands(function) => {
                for first in (0..u32::try_from(self.plan.keys).unwrap_or(u32::MAX)).step_by(1000) {
                    let arguments = vec![Argument::Number(first), Argument::Number(1000)];
                    let request = system.encode(&[Ask::Call(function, arguments)]);
                    client.each(&request, std::iter::once(0))?;
                }
                Ok(())
            }
        }
    }

    /// All turns at one point: each server once in a round, and every other round in the opposite order.
    fn measure(&self, workload: &Workload, point: Point) -> Result<Vec<Cell>, String> {
        let mut cells = Vec::new();
        let mut mixes: Vec<(&System, Vec<(u32, Template)>)> = Vec::new();
        for system in self.taking_part(workload) {
            cells.push(Cell {
                point,
                system: system.name,
                samples: Vec::new(),
            });
            let encode = |(share, asks): &(u32, Vec<Ask>)| (*share, system.encode(asks));
            mixes.push((system, workload.mix.iter().map(encode).collect()));
        }
        // Keys go on over the rounds, so that no two servers insert different ones.
        let mut keys: Vec<Keys> = Vec::new();
        for _ in &cells {
            keys.push(Keys::new(workload.domain, workload.distribution, 1));
        }
        for round in 0..self.plan.rounds {
            let mut order: Vec<usize> = (0..cells.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for turn in order {
                let (Some(cell), Some((system, mix)), Some(keys)) =
                    (cells.get_mut(turn), mixes.get(turn), keys.get_mut(turn))
                else {
                    continue;
                };
                let sample = self.turn(point, system, mix, keys)?;
                cell.samples.push(sample);
            }
        }
        Ok(cells)
    }

    fn turn(
        &self,
        point: Point,
        system: &System,
        mix: &[(u32, Template)],
        keys: &mut Keys,
    ) -> Result<Sample, String> {
        let server = self.server(system)?;
        let load = Load {
            address: server.address,
            dialect: &system.dialect(),
            mix,
            connections: self.plan.connections,
            depth: point.depth,
            rate: self.plan.rate,
            warm_up: self.plan.warm_up,
            length: self.plan.length,
        };
        let measured = generator::run(&load, keys, &mut || server.cpu());
        let measured =
            measured.map_err(|error| format!("{}, {}: {error}", point.workload, system.name))?;
        if let Some(error) = &measured.first_error {
            eprintln!(
                "{}, {}: {} errors: {error}",
                point.workload, system.name, measured.errors
            );
        }
        let sample = sample(&measured);
        eprintln!(
            "{} {} pipeline {}, {}: {:.0}/s, {:.2} µs of the server's cpu, {:.0} ns of the generator's, p99 {:.0} µs",
            point.workload,
            point.durability.name(),
            point.depth,
            system.name,
            sample.rate,
            sample.cpu_us,
            sample.own_ns,
            sample.p99_us,
        );
        server.settle()?;
        Ok(sample)
    }
}

/// What the requests of a workload are answered for one key, and what is there behind them.
fn answers(
    workload: &Workload,
    system: &System,
    client: &mut Client,
) -> Result<Vec<Vec<String>>, String> {
    let mut found = Vec::new();
    let mixed = workload.mix.iter().flat_map(|(_, asks)| asks);
    for ask in mixed.chain(&workload.check) {
        let request = system.encode(std::slice::from_ref(ask));
        for reply in client.ask(&request, CHECKED_KEY)? {
            found.push(system.answer(ask, &reply)?);
        }
    }
    Ok(found)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run lie far below 2^53"
)]
pub(crate) fn sample(measured: &Measured) -> Sample {
    let replies = measured.replies.max(1) as f64;
    let percentile = |of: f64| measured.latency.value_at_quantile(of) as f64 / 1e3;
    Sample {
        rate: measured.replies as f64 / measured.length.as_secs_f64(),
        cpu_us: measured.server_cpu.as_secs_f64() * 1e6 / replies,
        own_ns: measured.own_cpu.as_secs_f64() * 1e9 / replies,
        p50_us: percentile(0.5),
        p99_us: percentile(0.99),
        p999_us: percentile(0.999),
        errors: measured.errors,
    }
}
