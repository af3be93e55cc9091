//! The points of a sweep, one after the other.

use std::time::Instant;

use luge_client::Client as Operator;

use super::growth::{Growth, Spot};
use super::guest;
use super::stage::{Plan, Shape, Stage};
use super::sweep::Sweep;
use crate::compare::request::{Argument, Ask, Place, drawn};
use crate::load::template::{Key, Template};

/// Connections, where they are not what is swept.
const CONNECTIONS: usize = 50;

/// Keys, where they are not what is swept.
const KEYS: u64 = 100_000;

/// Requests under way on a connection where a pipeline keeps the generator from being what is measured.
const DEPTH: usize = 16;

/// Bytes of all values together where their size is swept: below what is kept in memory.
const VALUES_BYTES: u64 = 64 << 20;

const VALUE_BYTES: usize = 64;

/// The account that contended calls change, apart from those that are drawn.
const HOT_ACCOUNT: u64 = 99_999_999;

/// Measures the points of a sweep, as far as the server goes along.
#[must_use]
pub fn run(plan: &Plan, sweep: Sweep) -> Growth {
    let mut growth = Growth::new(sweep);
    let outcome = match sweep {
        Sweep::Connections => connections(plan, &mut growth),
        Sweep::Pipeline => pipeline(plan, &mut growth),
        Sweep::ValueSize => value_size(plan, &mut growth),
        Sweep::Keys => keys(plan, &mut growth),
        Sweep::Modules => modules(plan, &mut growth),
        Sweep::Hooks => hooks(plan, &mut growth),
        Sweep::ReadSet => set_size(plan, &mut growth, "read"),
        Sweep::WriteSet => set_size(plan, &mut growth, "write"),
        Sweep::Contention => contention(plan, &mut growth),
    };
    if let Err(error) = outcome {
        eprintln!("{}: {error}", sweep.name());
        growth.ended = Some(error);
    }
    growth
}

fn connections(plan: &Plan, growth: &mut Growth) -> Result<(), String> {
    let get = plan.luge.encode(&[Ask::Get(drawn("key:"))]);
    for at in growth.sweep.points(plan.is_quick) {
        let stage = Stage::open(plan, &["max_connections=10100"])?;
        stage.load(drawn("key:"), &value(VALUE_BYTES), 0..KEYS)?;
        let shape = Shape {
            connections: usize::try_from(*at).unwrap_or(usize::MAX),
            ..shape(get.clone(), 1)
        };
        add(growth, "get", stage.measure(*at, &shape)?);
    }
    Ok(())
}

fn pipeline(plan: &Plan, growth: &mut Growth) -> Result<(), String> {
    let stage = Stage::open(plan, &[])?;
    stage.load(drawn("key:"), &value(VALUE_BYTES), 0..KEYS)?;
    let get = plan.luge.encode(&[Ask::Get(drawn("key:"))]);
    for at in growth.sweep.points(plan.is_quick) {
        let depth = usize::try_from(*at).unwrap_or(usize::MAX);
        let spot = stage.measure(*at, &shape(get.clone(), depth))?;
        add(growth, "get", spot);
    }
    Ok(())
}

fn value_size(plan: &Plan, growth: &mut Growth) -> Result<(), String> {
    for at in growth.sweep.points(plan.is_quick) {
        let stage = Stage::open(plan, &[])?;
        let value = value(usize::try_from(*at).unwrap_or(usize::MAX));
        let domain = (VALUES_BYTES / at).min(KEYS);
        stage.load(drawn("key:"), &value, 0..domain)?;
        let asks = [
            ("get", Ask::Get(drawn("key:"))),
            ("set", Ask::Set(drawn("key:"), value)),
        ];
        for (name, ask) in asks {
            let shape = Shape {
                domain,
                ..shape(plan.luge.encode(&[ask]), 1)
            };
            let mut spot = stage.measure(*at, &shape)?;
            let mebibytes = spot.sample.rate * float(*at) / float(1 << 20);
            spot.more.push(("MiB of values a second", mebibytes));
            add(growth, name, spot);
        }
    }
    Ok(())
}

/// One server, to which the keys are added that are missing.
fn keys(plan: &Plan, growth: &mut Growth) -> Result<(), String> {
    let stage = Stage::open(plan, &[])?;
    let get = plan.luge.encode(&[Ask::Get(drawn("key:"))]);
    let mut loaded = 0;
    for at in growth.sweep.points(plan.is_quick) {
        let took = stage.load(drawn("key:"), &value(VALUE_BYTES), loaded..*at)?;
        let each = took.as_secs_f64() * 1e6 / float(at - loaded);
        loaded = *at;
        let shape = Shape {
            domain: *at,
            ..shape(get.clone(), DEPTH)
        };
        // What was cached while they were written is not what reads would have cached.
        stage.measure(*at, &shape)?;
        let mut spot = stage.measure(*at, &shape)?;
        spot.more.push(("µs to load a key", each));
        add(growth, "get", spot);
    }
    Ok(())
}

/// One server, to which the modules are pushed that are missing, and which is started anew at each point.
fn modules(plan: &Plan, growth: &mut Growth) -> Result<(), String> {
    let mut stage = Stage::open(plan, &["max_modules=10100"])?;
    let mut pushed = 0;
    for at in growth.sweep.points(plan.is_quick) {
        let began = Instant::now();
        let mut client = stage.client()?;
        for number in pushed..*at {
            let wasm = guest::binary(&guest::noop(number))?;
            stage.push(&mut client, &format!("m{number:012}"), &wasm)?;
        }
        drop(client);
        let push_ms = began.elapsed().as_secs_f64() * 1e3 / float(at - pushed);
        pushed = *at;
        let (restarted, ready) = stage.restart()?;
        stage = restarted;
        let call = match at {
            1 => plan.luge.call("m000000000000.noop", &[]),
            _ => plan.luge.call_drawn("m", "noop"),
        };
        let shape = Shape {
            domain: *at,
            ..shape(call, DEPTH)
        };
        let mut spot = stage.measure(*at, &shape)?;
        spot.more = vec![
            ("ms for a push", push_ms),
            ("ms until ready", ready.as_secs_f64() * 1e3),
            ("mappings", float(stage.server().mappings()? as u64)),
        ];
        add(growth, "call", spot);
    }
    Ok(())
}

fn hooks(plan: &Plan, growth: &mut Growth) -> Result<(), String> {
    let set = plan
        .luge
        .encode(&[Ask::Set(drawn(guest::HOOKED), value(VALUE_BYTES))]);
    let curves = [
        ("match, all of one module", guest::HOOKED, true),
        ("match, a module for each", guest::HOOKED, false),
        ("of other keys, a module for each", guest::ELSEWHERE, false),
    ];
    for (name, prefix, is_one_module) in curves {
        for at in growth.sweep.points(plan.is_quick) {
            let stage = Stage::open(plan, &[])?;
            stage.load(drawn(guest::HOOKED), &value(VALUE_BYTES), 0..KEYS)?;
            let mut client = stage.client()?;
            let (modules, hooks) = match is_one_module {
                true => (1, *at),
                false => (*at, 1),
            };
            for number in 0..modules {
                let wasm = guest::binary(&guest::hooks(hooks, prefix, number))?;
                stage.push(&mut client, &format!("hooks{number}"), &wasm)?;
            }
            add(
                growth,
                name,
                stage.measure(*at, &shape(set.clone(), DEPTH))?,
            );
        }
    }
    Ok(())
}

/// A procedure that reads or writes groups of keys.
fn set_size(plan: &Plan, growth: &mut Growth, procedure: &'static str) -> Result<(), String> {
    let group = [Argument::Key(drawn("rw:"))];
    for at in growth.sweep.points(plan.is_quick) {
        let stage = Stage::open(plan, &[])?;
        let mut client = stage.client()?;
        let wasm = guest::binary(&guest::sets(*at))?;
        // Those that load are a module of their own, since one that runs long is put behind others for a while.
        for name in ["load", "sets"] {
            stage.push(&mut client, name, &wasm)?;
        }
        let domain = (KEYS / at).max(100);
        client.each(&plan.luge.call("load.write", &group), 0..domain)?;
        let call = plan.luge.call(&format!("sets.{procedure}"), &group);
        let shape = Shape {
            domain,
            ..shape(call, 1)
        };
        let mut spot = stage.measure(*at, &shape)?;
        spot.more = vec![
            ("keys a second", spot.sample.rate * float(*at)),
            ("CPU µs for a key", spot.sample.cpu_us / float(*at)),
        ];
        add(growth, procedure, spot);
    }
    Ok(())
}

/// Transfers between two accounts, a share of them to one and the same.
fn contention(plan: &Plan, growth: &mut Growth) -> Result<(), String> {
    let another = Argument::Key(Place {
        prefix: "acct:",
        key: Key::Another,
    });
    let hot = Argument::Text(format!("acct:{HOT_ACCOUNT:012}"));
    let transfer = |to| {
        let arguments = vec![Argument::Key(drawn("acct:")), to, Argument::Number(1)];
        plan.luge.encode(&[Ask::Call("transfer", arguments)])
    };
    for at in growth.sweep.points(plan.is_quick) {
        let stage = Stage::open(plan, &[])?;
        let mut client = stage.client()?;
        plan.luge.register(&mut client)?;
        stage.load(drawn("acct:"), "1000000", HOT_ACCOUNT..HOT_ACCOUNT + 1)?;
        stage.load(drawn("acct:"), "1000000", 0..KEYS)?;
        let share = u32::try_from(*at).unwrap_or(100);
        let shape = Shape {
            mix: vec![
                (100 - share, transfer(another.clone())),
                (share, transfer(hot.clone())),
            ],
            ..shape(Template::default(), 1)
        };
        let mut spot = stage.measure(*at, &shape)?;
        spot.more = conflicts(&stage)?;
        add(growth, "transfer", spot);
    }
    Ok(())
}

/// Conflicts and attempts behind the first one, for each transfer since the server's start.
fn conflicts(stage: &Stage<'_>) -> Result<Vec<(&'static str, f64)>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("can't start the runtime: {error}"))?;
    let address = stage.server().address;
    let told = runtime.block_on(async {
        let operator = Operator::connect(address).await?;
        operator.module_stats(None).await
    });
    let told = told.map_err(|error| format!("no counts of the calls: {error}"))?;
    let found = told.functions.iter().find(|it| it.function == "transfer");
    let counted = found.ok_or("no transfer was counted")?;
    let requests = float(counted.calls.saturating_sub(counted.retries).max(1));
    Ok(vec![
        ("conflicts for a call", float(counted.conflicts) / requests),
        (
            "attempts behind the first",
            float(counted.retries) / requests,
        ),
    ])
}

/// A load of one request on as many connections and keys as always.
fn shape(request: Template, depth: usize) -> Shape {
    Shape {
        mix: vec![(100, request)],
        connections: CONNECTIONS,
        depth,
        domain: KEYS,
    }
}

fn value(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run lie far below 2^53"
)]
const fn float(count: u64) -> f64 {
    count as f64
}

fn add(growth: &mut Growth, curve: &'static str, spot: Spot) {
    eprintln!(
        "{} {}, {curve}: {:.0}/s, {:.2} µs of the server's cpu, {:.0} ns of the generator's, p99 {:.0} µs, {} MiB{}",
        growth.sweep.name(),
        growth.sweep.label(spot.at),
        spot.sample.rate,
        spot.sample.cpu_us,
        spot.sample.own_ns,
        spot.sample.p99_us,
        spot.resident_bytes >> 20,
        spot.more
            .iter()
            .map(|(name, value)| format!(", {value:.2} {name}"))
            .collect::<String>(),
    );
    growth.add(curve, spot);
}
