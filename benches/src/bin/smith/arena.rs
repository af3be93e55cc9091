//! The server that modules meet, and what is looked at behind each.

use std::sync::Arc;
use std::time::Instant;

use luge_benches::random::Random;
use luge_benches::{BenchSession, encode};
use luge_protocol::{
    Call, Command, Del, ErrorCode, ErrorReply, Hello, Isolation, LimitsRequest, ModuleName,
    ModulePush, NoArguments, Range, Reply, Scan, ScanEntry, Set,
};
use luge_server::config::Config;
use luge_server::function::Identity;
use luge_server::server::{SystemClock, ceilings, engine_options, settings, surroundings};
use luge_server::session::{Core, Session};
use luge_server::store::MemoryStore;
use luge_server::udf::WasmRuntime;

use crate::sequence::{Expected, Model, Sequence, any, sensible};
use crate::wild::{PROCEDURES, module};
use crate::{Met, random};

/// The name that each module is pushed under.
const NAME: &str = "smith";

/// Few slots: a case that keeps one for itself is found out by those behind it.
const MAX_INSTANCES: u32 = 8;

/// A server in memory, and a connection to it.
pub(crate) struct Arena {
    session: BenchSession<MemoryStore>,
}

impl Arena {
    /// # Errors
    /// The function runtime can't be set up.
    pub(crate) async fn new() -> Result<Self, String> {
        let config = Config {
            max_instances: MAX_INSTANCES,
            ..Config::default()
        };
        let ceilings = ceilings(&config);
        let runtime = WasmRuntime::new(&engine_options(&config, &ceilings));
        let runtime = runtime.map_err(|error| error.to_string())?;
        let store = MemoryStore::new([0; 16], Box::new(SystemClock));
        let core = Core::new(store, runtime, settings(&config, ceilings), surroundings());
        let mut arena = Self {
            session: Session::new(Arc::new(core), Identity::default()),
        };
        let hello = Command::Hello(Hello {
            versions: vec![1],
            client: None,
            credentials: None,
        });
        arena.ask(hello).await.map_err(|error| error.to_string())?;
        Ok(arena)
    }

    /// Makes the module of a seed, pushes and calls it, and looks at what it left.
    ///
    /// # Errors
    /// Something is not as it should be; the sentence tells what.
    pub(crate) async fn meet(&mut self, seed: u64) -> Result<Met, String> {
        let mut random = random(seed);
        self.clear(&mut random).await?;
        let met = match random.below(3) {
            0 => self.meet_wild(&mut random).await,
            1 => {
                let before = self.model().await?;
                self.meet_sequence(&mut random, |random| sensible(random, &before))
                    .await
            }
            _ => self.meet_sequence(&mut random, any).await,
        }?;
        let name = NAME.into();
        let removed = self.ask(Command::ModuleRemove(ModuleName { name })).await;
        allow(&removed)?;
        match self.ask(Command::CallsList(NoArguments {})).await {
            Ok(Reply::Calls(calls)) if calls.is_empty() => Ok(met),
            other => Err(format!("the list of running calls is {other:?}")),
        }
    }

    async fn meet_wild(&mut self, random: &mut Random) -> Result<Met, String> {
        let Some(wasm) = module(random)? else {
            return Ok(Met::default());
        };
        let pushed = self.push(random, &wasm).await;
        allow(&pushed)?;
        let mut met = Met {
            was_pushed: pushed.is_ok(),
            ..Met::default()
        };
        if met.was_pushed {
            for procedure in PROCEDURES {
                self.call(procedure, None, None, &mut met).await?;
            }
        }
        Ok(met)
    }

    async fn meet_sequence(
        &mut self,
        random: &mut Random,
        make: impl FnOnce(&mut Random) -> Sequence,
    ) -> Result<Met, String> {
        let Sequence { wat, expected } = make(random);
        let wasm = wat::parse_str(&wat).map_err(|error| error.to_string())?;
        let pushed = self.push(random, &wasm).await;
        pushed.map_err(|error| format!("a sequence is refused: {error}"))?;
        let mut met = Met {
            was_pushed: true,
            ..Met::default()
        };
        let fuel = random.percent(15).then(|| random.below(20_000));
        self.call("run", fuel, expected.as_ref(), &mut met).await?;
        Ok(met)
    }

    /// Calls a procedure: a failure leaves the store as it was, and a success as is expected.
    async fn call(
        &mut self,
        procedure: &str,
        fuel: Option<u64>,
        expected: Option<&Expected>,
        met: &mut Met,
    ) -> Result<(), String> {
        let before = self.stored().await?;
        let limits = fuel.map(|fuel| {
            Box::new(LimitsRequest {
                fuel: Some(fuel),
                ..LimitsRequest::default()
            })
        });
        let call = Command::Call(Call {
            procedure: format!("{NAME}.{procedure}").into(),
            arguments: b"arguments"[..].into(),
            dry_run: None,
            limits,
        });
        let outcome = self.ask(call).await;
        allow(&outcome)?;
        met.calls += 1;
        met.done += u64::from(outcome.is_ok());
        let after = self.stored().await?;
        if outcome.is_err() && after != before {
            return Err(format!(
                "{outcome:?} left writes: {before:?} became {after:?}"
            ));
        }
        match (&outcome, expected) {
            (Ok(_), Some(expected)) => check_success(expected, &after),
            (Err(error), Some(expected)) if expected.succeeds && fuel.is_none() => {
                Err(format!("a sequence with sense ended with {error}"))
            }
            _ => Ok(()),
        }
    }

    async fn push(&mut self, random: &mut Random, wasm: &[u8]) -> Result<Reply, ErrorReply> {
        let limits = LimitsRequest {
            fuel: Some(1_000_000),
            cpu_ms: Some(1_000),
            deadline_ms: Some(20_000),
            ..LimitsRequest::default()
        };
        let isolation = random.percent(20).then_some(Isolation::Reuse);
        self.ask(Command::ModulePush(Box::new(ModulePush {
            name: NAME.into(),
            wasm: wasm.into(),
            config: None,
            limits: Some(limits),
            overrides: None,
            inactive: None,
            dry_run: None,
            grant: None,
            isolation,
        })))
        .await
    }

    /// Takes away what earlier cases wrote, and puts a few keys in its place.
    async fn clear(&mut self, random: &mut Random) -> Result<(), String> {
        loop {
            let everything = Command::Del(Del {
                keys: None,
                range: Some(Range {
                    start: b""[..].into(),
                    end: b""[..].into(),
                }),
                limit: Some(1_000),
            });
            self.ask(everything)
                .await
                .map_err(|error| error.to_string())?;
            if self.stored().await?.is_empty() {
                break;
            }
        }
        for key in ["k0", "k1", "k2"] {
            let value = random.below(1_000).to_string();
            let set = Command::Set(Set {
                key: key.into(),
                value: value.into(),
                ttl_ms: None,
                keep_ttl: None,
                condition: None,
                return_old: None,
            });
            self.ask(set).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn model(&mut self) -> Result<Model, String> {
        Ok(model(&self.stored().await?))
    }

    /// The first thousand keys, which is more than any case writes with sense.
    async fn stored(&mut self) -> Result<Vec<ScanEntry>, String> {
        let scan = Command::Scan(Scan {
            prefix: None,
            range: None,
            limit: Some(1_000),
            reverse: None,
            keys_only: None,
            cursor: None,
        });
        match self.ask(scan).await {
            Ok(Reply::Scan(page)) => Ok(page.0),
            other => Err(format!("a scan answers {other:?}")),
        }
    }

    async fn ask(&mut self, command: Command<'_>) -> Result<Reply, ErrorReply> {
        let answer = self.session.handle(&encode(command), Instant::now()).await;
        answer.response.outcome
    }
}

fn check_success(expected: &Expected, after: &[ScanEntry]) -> Result<(), String> {
    if !expected.succeeds {
        return Err("a sequence that fails succeeded".to_owned());
    }
    let found = model(after);
    match found == expected.after {
        true => Ok(()),
        false => Err(format!(
            "the store holds {found:?} in place of {:?}",
            expected.after
        )),
    }
}

fn model(stored: &[ScanEntry]) -> Model {
    let bytes = |entry: &ScanEntry| {
        let value = entry
            .1
            .as_ref()
            .map_or_else(Vec::new, |value| value.to_vec());
        (entry.0.to_vec(), value)
    };
    stored.iter().map(bytes).collect()
}

/// Refuses the codes that stand for faults of the server.
fn allow(outcome: &Result<Reply, ErrorReply>) -> Result<(), String> {
    use ErrorCode::{BadRequest, Internal, Overloaded, Storage, Unavailable, UnknownOutcome};
    const FAULTS: [ErrorCode; 6] = [
        BadRequest,
        Internal,
        Overloaded,
        Storage,
        Unavailable,
        UnknownOutcome,
    ];
    match outcome {
        Err(error) if FAULTS.contains(&error.code()) => Err(format!("it ended with {error}")),
        _ => Ok(()),
    }
}
