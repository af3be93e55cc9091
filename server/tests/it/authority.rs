use std::collections::BTreeMap;

use luge_protocol::{
    Call, CallsKill, Command, ErrorCode, Logs, ModuleActivate, ModuleName, ModulePush, ModuleShow,
    ModuleStats, Options, Stop,
};
use luge_server::config::Config;
use luge_server::session::Role;

use crate::support::{
    ManualClock, Push, START_MS, Talk, check, open_memory, parsed, rendered, runtime,
};
use crate::wire::{Peer, server};

/// Every command as somebody would ask it, and whether it is allowed to the roles data, deploy and
/// admin. An entry for each command of the protocol: the test below fails where one is missing.
const MATRIX: &[(&str, [bool; 3])] = &[
    ("hello", [true, true, true]),
    ("ping", [true, true, true]),
    ("info", [true, true, true]),
    ("get", [true, true, true]),
    ("set", [true, true, true]),
    ("del", [true, true, true]),
    ("exists", [true, true, true]),
    ("expire", [true, true, true]),
    ("ttl", [true, true, true]),
    ("persist", [true, true, true]),
    ("incr", [true, true, true]),
    ("mget", [true, true, true]),
    ("scan", [true, true, true]),
    ("batch", [true, true, true]),
    ("call", [true, true, true]),
    ("module.push", [false, true, true]),
    ("module.list", [false, true, true]),
    ("module.show", [false, true, true]),
    ("module.activate", [false, true, true]),
    ("module.rollback", [false, true, true]),
    ("module.remove", [false, true, true]),
    ("module.stats", [false, true, true]),
    ("calls.list", [false, false, true]),
    ("calls.kill", [false, false, true]),
    ("logs", [false, false, true]),
    ("watch", [true, true, true]),
    ("flush", [true, true, true]),
    ("backup", [false, false, true]),
    ("stop", [true, true, true]),
];

/// An example of each command, with the token of this user where it is a `hello`.
fn example(name: &str, user: &str) -> Command<'static> {
    let module = || ModuleName { name: "m".into() };
    match name {
        "hello" => parsed(&format!("hello --token token-of-{user}")),
        "get" | "ttl" | "persist" | "incr" | "exists" | "mget" | "del" => {
            parsed(&format!("{name} k"))
        }
        "set" => parsed("set k 1"),
        "expire" => parsed("expire k 1000"),
        "batch" => parsed("batch get k; set k 1"),
        "watch" => parsed("watch k"),
        "ping" | "info" | "scan" | "flush" | "backup" | "module.list" => parsed(name),
        "call" => Command::Call(Call {
            procedure: "m.p".into(),
            arguments: (&[]).into(),
            dry_run: None,
            limits: None,
        }),
        "module.push" => Command::ModulePush(Box::new(ModulePush {
            name: "m".into(),
            wasm: (&[]).into(),
            config: None,
            limits: None,
            overrides: None,
            inactive: None,
            dry_run: None,
            grant: None,
            isolation: None,
        })),
        "module.show" => Command::ModuleShow(ModuleShow {
            name: "m".into(),
            version: None,
        }),
        "module.activate" => Command::ModuleActivate(ModuleActivate {
            name: "m".into(),
            version: 1,
        }),
        "module.rollback" => Command::ModuleRollback(module()),
        "module.remove" => Command::ModuleRemove(module()),
        "module.stats" => Command::ModuleStats(ModuleStats::default()),
        "calls.list" => Command::CallsList(luge_protocol::NoArguments {}),
        "calls.kill" => Command::CallsKill(CallsKill { call: 1 }),
        "logs" => Command::Logs(Logs::default()),
        "stop" => Command::Stop(Stop { id: 7 }),
        other => panic!("no example of {other}"),
    }
}

/// The code of a refusal, empty where there is none.
async fn code(
    talk: &mut Talk<luge_server::store::MemoryStore>,
    who: &str,
    name: &str,
    user: &str,
) -> String {
    let outcome = talk.ask(who, example(name, user), Options::default()).await;
    outcome.err().map_or(String::new(), |error| error.0)
}

#[test]
fn every_command_is_allowed_to_the_roles_of_the_table_and_to_no_other() {
    let named: Vec<&str> = MATRIX.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, Command::NAMES, "an entry for each command");
    runtime().block_on(async {
        let clock = ManualClock::at(START_MS);
        let config = Config {
            max_instances: 16,
            ..Config::default()
        };
        let mut talk = Talk::new(open_memory(&clock), &config, clock).await;
        talk.set_tokens("data=data deploy=deploy admin=admin");
        for (name, allowed) in MATRIX {
            for (role, allowed) in Role::ALL.into_iter().zip(allowed) {
                // A session each, so that no watch is in another's way.
                let who = format!("{role} {name}");
                let user = role.name();
                assert_eq!(code(&mut talk, &who, "hello", user).await, "");
                let code = code(&mut talk, &who, name, user).await;
                let is_forbidden = code == ErrorCode::Forbidden.name();
                assert_eq!(is_forbidden, !allowed, "{name} as {role}: {code:?}");
                assert_ne!(code, ErrorCode::Unauthenticated.name(), "{name} as {role}");
            }
            let who = format!("nobody {name}");
            assert_eq!(
                code(&mut talk, &who, "hello", "nobody").await,
                "unauthenticated"
            );
            let expected = if *name == "hello" {
                "unauthenticated"
            } else {
                "bad_request"
            };
            assert_eq!(
                code(&mut talk, &who, name, "nobody").await,
                expected,
                "{name}"
            );
        }
    });
}

#[test]
fn a_refusal_names_the_command_the_role_that_it_needs_and_the_one_that_there_is() {
    check(
        &[],
        "
        ! anna=data dora=deploy root=admin
        anna> set k 1
        v1
        anna> module.list
        forbidden: `luge module list` (`module.list`) needs the role deploy, and this token has data
        dora> module.list
        nothing
        dora> backup
        forbidden: `backup` needs the role admin, and this token has deploy
        root> backup
        piece of 0
        anna> get k
        1 v1
        ",
    );
}

#[test]
fn a_wrong_token_and_the_name_of_a_user_are_refused_in_the_same_words() {
    check(
        &[],
        "
        ! anna=data
        eve> hello --token anna
        unauthenticated: the credentials of `hello` are no token of this server's
        bob> hello --token nobody
        unauthenticated: the credentials of `hello` are no token of this server's
        joe> hello --token \"\"
        unauthenticated: the credentials of `hello` are no token of this server's
        ann> hello
        unauthenticated: this server wants a token as the credentials of `hello`, and there were none
        ann> get k
        bad_request: the first request of a connection is `hello`, and this is `get`
        ann> hello --token token-of-anna
        luge …
        ann> get k
        nil
        ",
    );
}

#[test]
fn after_three_greetings_that_were_refused_a_connection_is_over() {
    check(
        &[],
        "
        ! anna=data
        eve> hello
        unauthenticated: this server wants a token …
        eve> hello --token a
        unauthenticated: the credentials of `hello` are no token of this server's
        eve> hello --token b
        unauthenticated: the credentials of `hello` are no token of this server's
        eve> hello --token token-of-anna
        unauthenticated: 3 greetings of this connection were refused; connect again
        eve> get k
        unauthenticated: 3 greetings of this connection were refused; connect again
        ",
    );
}

#[test]
fn a_server_without_tokens_takes_none() {
    check(
        &[],
        "
        anna> hello --token token-of-anna
        unsupported: this server has no tokens; leave the credentials out
        anna> hello
        luge …
        anna> module.list
        nothing
        ",
    );
}

#[test]
fn another_hello_is_another_user_and_one_that_is_refused_changes_nothing() {
    check(
        &[],
        "
        ! anna=data root=admin
        s> hello --token token-of-anna
        luge …
        s> hello --token wrong
        unauthenticated: …
        s> get k
        nil
        s> backup
        forbidden: `backup` needs the role admin, and this token has data
        s> hello --token token-of-root
        luge …
        s> module.list
        nothing
        ",
    );
}

#[test]
fn a_token_that_is_taken_away_ends_its_sessions_before_their_next_request() {
    const OVER: &str = "unauthenticated: the token of this connection is not in force any more, or allows less; connect again with one that is";
    let transcript = "
        ! anna=data ben=data
        anna> set k 1
        v1
        ben> get k
        1 v1
        ! ben=data carl=admin
        anna> set k 2
        OVER
        anna> hello --token token-of-anna
        OVER
        ben> get k
        1 v1
        carl> module.list
        nothing
        ";
    check(&[], &transcript.replace("OVER", OVER));
}

#[test]
fn a_token_that_allows_more_does_so_at_once_and_one_that_allows_less_ends_its_sessions() {
    check(
        &[],
        "
        ! anna=data root=admin
        anna> module.list
        forbidden: …
        root> module.list
        nothing
        ! anna=deploy root=deploy
        anna> module.list
        nothing
        root> get k
        unauthenticated: the token of this connection is not in force any more, or allows less; connect again with one that is
        ",
    );
}

#[test]
fn sessions_of_an_open_server_end_when_it_gets_tokens() {
    check(
        &[],
        "
        early> set k 1
        v1
        ! anna=data
        early> get k
        unauthenticated: the token of this connection is not in force any more, …
        anna> get k
        1 v1
        ",
    );
}

/// Writes field 4 of the context, or `nobody`; and traps with a back-trace and a line in the log.
const WHO: &str = r#"(module
    (import "luge_v1" "output_write" (func $write (param i32 i32)))
    (import "luge_v1" "log" (func $log (param i32 i32 i32)))
    (import "luge_v1" "context" (func $context (param i32 i32 i32 i32) (result i64)))
    (memory (export "memory") 1)
    (data (i32.const 0) "nobody")
    (func (export "user") (result i32)
      (local $length i64)
      (local.set $length
        (call $context (i32.const 4) (i32.const 0) (i32.const 64) (i32.const 64)))
      (if (i64.lt_s (local.get $length) (i64.const 0))
        (then (call $write (i32.const 0) (i32.const 6)))
        (else (call $write (i32.const 64) (i32.wrap_i64 (local.get $length)))))
      (i32.const 0))
    (func $inner
      (call $log (i32.const 4) (i32.const 0) (i32.const 6))
      unreachable)
    (func (export "trap") (result i32) (call $inner) (i32.const 0)))"#;

#[test]
fn a_function_sees_the_name_of_the_user_whose_token_it_was() {
    check(
        &[Push::new("who", WHO)],
        "
        open> call who.user
        nobody
        ! anna=data ben=admin
        anna> call who.user
        anna
        ben> call who.user
        ben
        anna> hello --token token-of-ben
        luge …
        anna> call who.user
        ben
        ",
    );
}

#[test]
fn only_those_who_may_deploy_see_how_a_module_looks_inside() {
    runtime().block_on(async {
        let clock = ManualClock::at(START_MS);
        let config = Config {
            max_instances: 16,
            ..Config::default()
        };
        let mut talk = Talk::new(open_memory(&clock), &config, clock).await;
        talk.push(&Push::new("who", WHO)).await.unwrap();
        talk.set_tokens("anna=data dora=deploy");
        let mut details = BTreeMap::new();
        for who in ["anna", "dora"] {
            let command = parsed("call who.trap");
            let error = talk
                .ask(who, command, Options::default())
                .await
                .unwrap_err();
            assert_eq!(error.code(), ErrorCode::Trap, "{}", rendered(Err(error)));
            details.insert(who, error.details());
        }
        let (anna, dora) = (&details["anna"], &details["dora"]);
        assert_eq!((&anna.backtrace, &anna.log), (&None, &None));
        assert_eq!(anna.function.as_deref(), Some("trap"));
        assert!(anna.call.is_some());
        assert!(dora.backtrace.is_some(), "{dora:?}");
        assert_eq!(dora.log.as_deref(), Some("nobody"));
    });
}

#[test]
fn a_connection_that_says_no_hello_is_closed_and_gives_its_place_back() {
    let server = server(|config| {
        config.greeting_timeout_ms = 200;
        config.max_connections = 1;
    });
    let mut silent = Peer::connect(server.address());
    let (id, error) = silent.error();
    let expected =
        "deadline_exceeded: no `hello` was accepted within 200ms; the connection is closed";
    assert_eq!((id, error.as_str()), (0, expected));
    assert!(silent.is_closed());
    drop(silent);
    // As soon as the server has seen the end.
    loop {
        let mut user = Peer::connect(server.address());
        user.send(&parsed("hello"));
        let body = user.frame();
        if body.is_some_and(|body| luge_protocol::response_id(&body) == Ok(5)) {
            break;
        }
    }
}

#[test]
fn before_a_hello_a_frame_is_short() {
    let server = server(|_| {});
    let mut stranger = Peer::connect(server.address());
    stranger.send_body(&vec![0xc0; (16 << 10) + 1]);
    let (id, error) = stranger.error();
    assert_eq!(id, 0);
    assert_eq!(
        error,
        "too_large: frame of 16385 bytes exceeds the limit of 16384"
    );
    // From the hello on, the server's own limit holds.
    let mut user = Peer::greeted(server.address());
    user.send_body(&vec![0xc0; (16 << 10) + 1]);
    assert!(user.error().1.starts_with("bad_request: "));
}

#[test]
fn the_table_of_roles_in_the_specification_is_this_one() {
    const PAGE: &str = include_str!("../../../protocol/PROTOCOL.md");
    let (_, table) = PAGE.split_once("| role | commands |\n|---|---|\n").unwrap();
    let mut told = Vec::new();
    for (row, role) in table.lines().zip(Role::ALL) {
        let (name, commands) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        assert_eq!(name, format!("`{role}`"));
        let marked = commands.split('`').skip(1).step_by(2);
        told.extend(
            marked
                .filter(|word| Role::ALL.iter().all(|role| role.name() != *word))
                .map(|command| (command, role)),
        );
        let mut allowed: Vec<&str> = told.iter().map(|(command, _)| *command).collect();
        allowed.sort_unstable();
        let at = Role::ALL.iter().position(|each| *each == role).unwrap();
        let rows = MATRIX.iter().filter(|(_, allowed)| allowed[at]);
        let mut expected: Vec<&str> = rows.map(|(name, _)| *name).collect();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{role}");
    }
    assert_eq!(told.len(), Command::NAMES.len());
}

/// A dry run told a user of the role data what hooks of `get` kept back, and ran past what a hook of
/// `call` counts.
#[test]
fn dry_runs_are_for_those_who_may_deploy() {
    check(
        &[],
        "
        !anna=data dora=deploy
        anna> call m.p --dry-run
        forbidden: a dry run of a `call` needs the role deploy, and this token has data
        dora> call m.p --dry-run
        not_found: no procedure `m.p`: procedures are called as module.procedure, and the modules are none
        anna> call m.p
        not_found: no procedure `m.p`: procedures are called as module.procedure, and the modules are none
    ",
    );
}
