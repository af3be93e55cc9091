//! Where modules meet a server: one after the other, each with its requests, and with a look at what it left.

use luge_protocol::{
    Call, Command, ErrorReply, Get, ModuleName, ModulePush, NoArguments, Response, Scan, ScanEntry,
    ScanReply, Set,
};
use serde::de::IgnoredAny;

use crate::corpus::{Act, Case, End, Step};
use crate::talk::Talk;

/// The name that every case is pushed under.
const HOSTILE: &str = "hostile";

/// What is served between any two cases.
const GOOD: &str = r#"(module
    (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
    (memory (export "memory") 1)
    (data (i32.const 0) "seed:1")
    (func (export "run") (result i32)
        (i64.ne (call $get (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 8) (i32.const 8)) (i64.const 5))))"#;

/// Keys that are there before.
const SEEDS: usize = 40;

/// A server with a few keys and a good module.
pub(crate) struct Arena {
    talk: Talk,
    /// What a scan over everything finds, and so after each case.
    stored: Vec<ScanEntry>,
    /// What the list of running calls answers when there are none.
    idle: Vec<u8>,
}

impl Arena {
    pub(crate) fn new(mut talk: Talk) -> Self {
        for seed in 0..SEEDS {
            talk.ask(set(&format!("seed:{seed}")));
        }
        let wasm = wat::parse_str(GOOD).unwrap();
        let told = talk.ask(push("good", &wasm, &Case::default()));
        assert_eq!(code_of(&told), "ok");
        let stored = stored(&mut talk);
        let idle = talk.ask(Command::CallsList(NoArguments {}));
        Self { talk, stored, idle }
    }

    /// Runs a case, and answers what is not as it should be.
    pub(crate) fn run(&mut self, case: &Case) -> Vec<String> {
        let mut wrong = Vec::new();
        for step in &case.steps {
            wrong.extend(self.step(case, step));
        }
        self.talk.ask(Command::ModuleRemove(ModuleName {
            name: HOSTILE.into(),
        }));
        if stored(&mut self.talk) != self.stored {
            wrong.push(format!("{}: the store has changed", case.name));
        }
        if self.talk.ask(Command::CallsList(NoArguments {})) != self.idle {
            wrong.push(format!("{}: a call is still running", case.name));
        }
        let good = self.talk.ask(call("good.run"));
        if code_of(&good) != "ok" {
            wrong.push(format!(
                "{}: the good module is not served: {}",
                case.name,
                code_of(&good)
            ));
        }
        wrong
    }

    fn step(&mut self, case: &Case, step: &Step) -> Option<String> {
        let told = self.talk.ask(match &step.act {
            Act::Push => push(HOSTILE, &case.wasm, case),
            Act::Call(procedure) => call(&format!("{HOSTILE}.{procedure}")),
            Act::Set(key) => set(key),
            Act::Get(key) => Command::Get(Get {
                key: key.as_bytes().into(),
            }),
        });
        let error = error_of(&told);
        let code = error.as_ref().map_or("ok", |error| &error.0);
        let message = error.as_ref().map_or("", |error| &error.1);
        let is_expected = match &step.end {
            End::As(expected, says) => {
                code == expected && says.split('…').all(|it| message.contains(it))
            }
            End::OneOf(codes) => codes.contains(&code),
        };
        let Case { name, .. } = case;
        let shown: String = message.chars().take(300).collect();
        (!is_expected).then(|| {
            format!(
                "{name}: {:?} ended with {code}: {shown}; expected {:?}",
                step.act, step.end
            )
        })
    }
}

/// What the store holds: keys, values and versions.
fn stored(talk: &mut Talk) -> Vec<ScanEntry> {
    let told = talk.ask(scan());
    let reply: Response<ScanReply> = Response::decode(&told).unwrap();
    reply.outcome.unwrap().0
}

fn error_of(told: &[u8]) -> Option<ErrorReply> {
    Response::<IgnoredAny>::decode(told).unwrap().outcome.err()
}

fn code_of(told: &[u8]) -> String {
    error_of(told).map_or_else(|| "ok".to_owned(), |error| error.0)
}

fn push<'a>(name: &'a str, wasm: &'a [u8], case: &Case) -> Command<'a> {
    Command::ModulePush(Box::new(ModulePush {
        name: name.into(),
        wasm: wasm.into(),
        config: None,
        limits: Some(case.limits.clone()),
        overrides: None,
        inactive: None,
        dry_run: None,
        grant: None,
        isolation: None,
    }))
}

fn call(procedure: &str) -> Command<'static> {
    Command::Call(Call {
        procedure: procedure.to_owned().into(),
        arguments: b"arguments"[..].into(),
        dry_run: None,
        limits: None,
    })
}

fn set(key: &str) -> Command<'_> {
    Command::Set(Set {
        key: key.as_bytes().into(),
        value: b"value"[..].into(),
        ttl_ms: None,
        keep_ttl: None,
        condition: None,
        return_old: None,
    })
}

fn scan() -> Command<'static> {
    Command::Scan(Scan {
        prefix: None,
        range: None,
        limit: Some(1_000),
        reverse: None,
        keys_only: None,
        cursor: None,
    })
}
