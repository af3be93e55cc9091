use std::collections::BTreeMap;

use luge_protocol::LimitsRequest;

use crate::support::{Push, check, check_with, refused};

/// A module with the imports that most tests need, 1 page of memory with `data` at 1024, and `body`.
fn guest(name: &'static str, data: &str, body: &str) -> Push {
    Push::new(
        name,
        format!(
            r#"(module
        (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
        (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
        (import "luge_v1" "kv_delete" (func $delete (param i32 i32) (result i32)))
        (import "luge_v1" "kv_incr" (func $incr (param i32 i32 i64 i32) (result i32)))
        (import "luge_v1" "kv_scan" (func $scan (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "luge_v1" "kv_scan_next" (func $next (param i32 i32 i32) (result i64)))
        (import "luge_v1" "log" (func $log (param i32 i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 1024) "{data}")
        {body})"#
        ),
    )
}

#[test]
fn a_procedure_reads_its_input_and_writes_its_output() {
    let echo = guest(
        "echo",
        "",
        r#"(func (export "run") (result i32)
        (call $output (i32.const 0) (i32.wrap_i64 (call $input (i32.const 0) (i32.const 0) (i32.const 1024))))
        (i32.const 0))"#,
    );
    check(
        &[echo],
        r#"
        > call echo.run hello
        hello
        > call echo.run
        ""
        > call echo.walk
        not_found: no procedure `echo.walk`; the module has run
        > call other.run
        not_found: no procedure `other.run`: procedures are called as module.procedure, and the modules are echo
    "#,
    );
}

#[test]
fn a_procedure_that_refuses_leaves_no_writes() {
    let mint = guest(
        "mint",
        "coins",
        r#"
        (func (export "make") (result i32)
            (drop (call $incr (i32.const 1024) (i32.const 5) (i64.const 1) (i32.const 0)))
            (i32.const 0))
        (func (export "refuse") (result i32)
            (drop (call $incr (i32.const 1024) (i32.const 5) (i64.const 1) (i32.const 0)))
            (call $output (i32.const 1024) (i32.const 5))
            (i32.const 42))"#,
    );
    check(
        &[mint],
        r"
        > call mint.make
        \x22\x22
        > call mint.refuse
        rejected: mint.refuse refused with the code 42
        > get coins
        1 v2
    "
        .replace(r"\x22", "\"")
        .as_str(),
    );
}

#[test]
fn every_way_to_fail_has_its_code_and_leaves_no_writes() {
    let write =
        "(call $set (i32.const 1024) (i32.const 1) (i32.const 1024) (i32.const 1) (i64.const 0))";
    let body = format!(
        r#"
        (func $deep (result i32) (i32.add (call $deep) (i32.const 1)))
        (func (export "fuel") (result i32) {write} (loop $forever (br $forever)) (i32.const 0))
        (func (export "stack") (result i32) {write} (call $deep))
        (func (export "unreachable") (result i32) {write} unreachable)
        (func (export "memory_bomb") (result i32) {write}
            (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
            unreachable)
        (table 1 funcref)
        (func (export "table_bomb") (result i32) {write}
            (loop $more (br_if $more (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1))))
            unreachable)
        (func (export "grow_in_vain") (result i32)
            (i32.eqz (i32.eq (memory.grow (i32.const 60000)) (i32.const -1))))
        (func (export "output") (result i32) {write}
            (loop $more (call $output (i32.const 0) (i32.const 65536)) (br $more)) (i32.const 0))
        (func (export "divide") (result i32) {write} (i32.div_u (i32.const 1) (i32.const 0)))
        (func (export "far_pointer") (result i32) {write}
            (call $output (i32.const 65530) (i32.const 7)) (i32.const 0))
        (func (export "wrapping_pointer") (result i32) {write}
            (call $output (i32.const -1) (i32.const -1)) (i32.const 0))
        (func (export "no_scan") (result i32) {write}
            (drop (call $next (i32.const 3) (i32.const 0) (i32.const 8))) (i32.const 0))
        (func (export "empty_key") (result i32)
            (drop (call $delete (i32.const 0) (i32.const 0))) (i32.const 0))"#
    );
    check_with(&[guest("bad", "k", &body)], |config| config.call_output_bytes = 100_000, r"
        > call bad.fuel
        fuel_exhausted: bad.fuel: the function used up its fuel of 10000000 (`fuel` of its push or call)
        > call bad.stack
        stack_overflow: bad.stack: the function's stack is full: does it recurse without end? (`stack_bytes` of the server)
        > call bad.unreachable
        trap: bad.unreachable: wasm trap: wasm `unreachable` instruction executed
        > call bad.memory_bomb
        memory_exceeded: bad.memory_bomb: the function failed after its memory met the limit of 16777216 bytes…
        > call bad.table_bomb
        memory_exceeded: bad.table_bomb: the function failed after its table met the limit of 20000 elements…
        > call bad.grow_in_vain
        nothing
        > call bad.output
        output_too_large: bad.output: output_write: output of 131072 bytes exceeds the limit of 100000 (`output_bytes` of its push or call)
        > call bad.divide
        trap: bad.divide: wasm trap: integer divide by zero
        > call bad.far_pointer
        trap: bad.far_pointer: output_write: the range of 7 bytes at 65530 reaches beyond the memory of 65536 bytes
        > call bad.wrapping_pointer
        trap: bad.wrapping_pointer: output_write: the range of 4294967295 bytes at 4294967295 reaches beyond the memory of 65536 bytes
        > call bad.no_scan
        trap: bad.no_scan: kv_scan_next: 3 is no open scan
        > call bad.empty_key
        trap: bad.empty_key: kv_delete: a key has at least 1 byte
        > scan
        nothing
    ".replace("        nothing\n        > call bad.output", "        \"\"\n        > call bad.output").as_str());
}

#[test]
fn an_endless_loop_with_plenty_of_fuel_is_stopped_by_its_cpu_time_or_its_deadline() {
    let spin = |limits| Push {
        limits: Some(limits),
        ..guest(
            "spin",
            "",
            r#"(func (export "run") (result i32) (loop $on (br $on)) (i32.const 0))"#,
        )
    };
    let fuel = Some(5_000_000_000);
    let by_cpu = LimitsRequest {
        fuel,
        cpu_ms: Some(20),
        ..LimitsRequest::default()
    };
    check(
        &[spin(by_cpu)],
        "
        > call spin.run
        cpu_exhausted: spin.run: the function used up its cpu time of 20ms (`cpu_ms` of its push or call)
    ",
    );
    let by_deadline = LimitsRequest {
        fuel,
        cpu_ms: Some(5000),
        deadline_ms: Some(30),
        ..LimitsRequest::default()
    };
    check(
        &[spin(by_deadline)],
        "
        > call spin.run
        deadline_exceeded: spin.run: the deadline passed while the function was running (`deadline_ms` of its push or call)
    ",
    );
}

#[test]
fn a_caller_may_lower_the_fuel_and_not_raise_it() {
    let spin = guest(
        "spin",
        "",
        r#"(func (export "run") (result i32) (loop $on (br $on)) (i32.const 0))"#,
    );
    check(
        &[spin],
        "
        > call spin.run x --fuel 1000
        fuel_exhausted: spin.run: the function used up its fuel of 1000 (`fuel` of its push or call)
        > call spin.run x --fuel 99999999999
        fuel_exhausted: spin.run: the function used up its fuel of 10000000 (`fuel` of its push or call)
    ",
    );
}

#[test]
fn every_call_is_a_fresh_instance() {
    let count = guest(
        "count",
        "",
        r#"
        (global $calls (mut i32) (i32.const 48))
        (func (export "run") (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (global.get $calls)))
            (call $output (i32.const 0) (i32.const 1))
            (i32.const 0))"#,
    );
    check(
        &[count],
        "
        > call count.run
        1
        > call count.run
        1
    ",
    );
}

#[test]
fn initialisation_runs_before_a_call_and_may_not_touch_data() {
    let ready = guest(
        "ready",
        "k",
        r#"
        (global $ready (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $ready (i32.const 49)))
        (func (export "run") (result i32)
            (i32.store8 (i32.const 0) (global.get $ready))
            (call $output (i32.const 0) (i32.const 1))
            (i32.const 0))"#,
    );
    let early = guest(
        "early",
        "k",
        r#"
        (func $begin (drop (call $delete (i32.const 1024) (i32.const 1))))
        (start $begin)
        (func (export "run") (result i32) (i32.const 0))"#,
    );
    check(
        &[ready, early],
        "
        > call ready.run
        1
        > call early.run
        trap: early.run: kv_delete: not while a module is initialised; call it from a function
    ",
    );
}

#[test]
fn a_read_only_procedure_cannot_write() {
    let look = guest(
        "look",
        r#"k{\22procedure\22:\22write\22,\22read_only\22:true}"#,
        r#"
        (func (export "metadata") (result i32) (call $output (i32.const 1025) (i32.const 38)) (i32.const 0))
        (func (export "write") (result i32)
            (call $set (i32.const 1024) (i32.const 1) (i32.const 1024) (i32.const 1) (i64.const 0))
            (i32.const 0))"#,
    );
    check(
        &[look],
        "
        > call look.write
        forbidden: look.write: kv_set: a read-only call may not write
        > scan
        nothing
    ",
    );
}

#[test]
fn a_guest_scans_with_its_own_writes_and_whole_entries() {
    // Writes b, deletes c, then gives out what a scan over everything shows, entry by entry in a
    // buffer of 12 bytes: two keys and values of one byte do not fit into it together.
    let list = guest(
        "list",
        "bcX",
        r#"
        (func (export "run") (result i32)
            (local $handle i32) (local $bytes i32)
            (call $set (i32.const 1024) (i32.const 1) (i32.const 1026) (i32.const 1) (i64.const 0))
            (drop (call $delete (i32.const 1025) (i32.const 1)))
            (local.set $handle (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
            (loop $more
                (local.set $bytes (i32.wrap_i64 (call $next (local.get $handle) (i32.const 0) (i32.const 12))))
                (if (local.get $bytes) (then
                    (call $output (i32.const 8) (i32.sub (local.get $bytes) (i32.const 8)))
                    (br $more))))
            (i32.const 0))
        (func (export "too_small") (result i32)
            (i32.wrap_i64 (call $next
                (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1))
                (i32.const 0) (i32.const 9))))"#,
    );
    check(
        &[list],
        "
        > batch set a 1; set b 2; set c 3; set d 4
        v2, v2, v2, v2
        > call list.run
        a1bXd4
        > call list.too_small
        rejected: list.too_small refused with the code -10
    ",
    );
}

#[test]
fn a_trap_tells_the_guests_functions_by_name() {
    use crate::support::{ManualClock, START_MS, Talk, runtime};
    use luge_server::{config::Config, store::MemoryStore};
    let nested = guest(
        "nested",
        "out of cheese",
        r#"
        (func $inner (call $log (i32.const 4) (i32.const 1024) (i32.const 13)) unreachable)
        (func $outer (call $inner))
        (func $run (export "run") (result i32) (call $outer) (i32.const 0))"#,
    );
    runtime().block_on(async {
        let clock = ManualClock::at(START_MS);
        let store = MemoryStore::new([0; 16], Box::new(clock.clone()));
        let config = Config {
            max_instances: 16,
            ..Config::default()
        };
        let mut talk = Talk::new(store, &config, clock).await;
        talk.push(&nested).await.unwrap();
        let error = talk.request("call nested.run").await.unwrap_err();
        let details = error.details();
        assert_eq!(details.backtrace.unwrap(), ["inner", "outer", "run"]);
        assert_eq!(details.module.as_deref(), Some("nested"));
        assert_eq!(details.function.as_deref(), Some("run"));
        assert!(details.call.is_some());
        assert_eq!(details.log.as_deref(), Some("out of cheese"));
    });
}

#[test]
fn configuration_and_context_reach_the_guest() {
    let wat = r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "luge_v1" "config_get" (func $config (param i32 i32 i32 i32 i32) (result i64)))
        (import "luge_v1" "context" (func $context (param i32 i32 i32 i32) (result i64)))
        (memory (export "memory") 1)
        (data (i32.const 1024) "limit")
        (func (export "config") (result i32)
            (call $output (i32.const 0) (i32.wrap_i64
                (call $config (i32.const 1024) (i32.const 5) (i32.const 0) (i32.const 0) (i32.const 100))))
            (i32.const 0))
        (func (export "peer") (result i32)
            (call $output (i32.const 0) (i32.wrap_i64
                (call $context (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 100))))
            (i32.const 0))
        (func (export "user_is_absent") (result i32)
            (i64.ne (call $context (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0)) (i64.const -1)))
        (func (export "unknown_field_is_absent") (result i32)
            (i64.ne (call $context (i32.const 99) (i32.const 0) (i32.const 0) (i32.const 0)) (i64.const -1))))"#;
    let push = Push {
        config: Some(BTreeMap::from([("limit".to_owned(), "17".to_owned())])),
        ..Push::new("about", wat)
    };
    check(
        &[push],
        "
        > call about.config
        17
        > call about.peer
        127.0.0.1
        > call about.user_is_absent
        \"\"
        > call about.unknown_field_is_absent
        \"\"
    ",
    );
}

#[test]
fn modules_are_listed_replaced_and_removed() {
    let answer = |digit: &str| {
        guest(
            "answer",
            digit,
            r#"(func (export "run") (result i32)
        (call $output (i32.const 1024) (i32.const 1)) (i32.const 0))"#,
        )
    };
    check(
        &[answer("1"), answer("2")],
        "
        > module.list
        answer <1 2*
        > module.show answer
        answer version 2
        > call answer.run
        2
        > module.remove answer
        ok
        > module.remove answer
        not_found: no module `answer`; there are none; `luge module push` (`module.push`) registers one
        > module.list
        nothing
        > info
        modules 0
    ",
    );
}

#[test]
fn a_push_is_refused_in_one_sentence() {
    let cases: &[(&str, &str)] = &[
        (
            "(module (import \"luge_v1\" \"kv_gett\" (func)))",
            "it imports `luge_v1.kv_gett`, which this server does not have; the nearest is `luge_v1.kv_get`",
        ),
        (
            "(module (import \"luge_v2\" \"kv_get\" (func)))",
            "it imports `luge_v2.kv_get`, which this server does not have; the nearest is `luge_v1.kv_get`",
        ),
        (
            "(module (import \"luge_v1\" \"kv_get\" (func (param i64))))",
            "it imports `luge_v1.kv_get` with the type (i64) -> (), and the server has it with (i32, i32, i32, i32, i32) -> i64",
        ),
        (
            "(module (import \"env\" \"memory\" (memory 1)))",
            "it imports the memory `env.memory`; only functions can be imported",
        ),
        (
            "(module (import \"luge_v1\" \"now_ms\" (func (result i64))))",
            "it does not export its memory under the name `memory`",
        ),
        (
            "(module (memory (export \"memory\") 300))",
            "it begins with a memory of 19660800 bytes, which exceeds its limit of 16777216; ask for more memory at the push, or link it with a smaller stack",
        ),
        (
            "(module (table 30000 funcref))",
            "module table does not fit in pooling allocator requirements: table index 0 has a minimum element size of 30000 which exceeds the limit of 20000",
        ),
        (
            "(module (func (export \"_start\")))",
            "it is a program with a `_start`, which would run once and end; build it as a library (a reactor, for Rust a cdylib, for Go -buildmode=c-shared)",
        ),
        (
            "(module (func (export \"on_request\") (result i32) (i32.const 0)))",
            "the export `on_request` looks like a hook, and nothing describes it; add an export `metadata` that writes {\"hook\": \"on_request\", \"phase\": \"request\", \"commands\": [\"set\"]} to the output",
        ),
        (
            "(module (func (export \"metadata\") (result i32) (i32.const 3)))",
            "its describer `metadata` returned 3, and should return 0",
        ),
        (
            "(module (func (export \"metadata\") (result i32) unreachable))",
            "its describer `metadata` failed: wasm trap: wasm `unreachable` instruction executed",
        ),
    ];
    for (wat, reason) in cases {
        let message = refused(&Push::new("m", *wat));
        assert_eq!(
            message,
            format!("invalid_module: the module `m` can't be registered: {reason}")
        );
    }
}

#[test]
fn features_beyond_wasm_2_are_refused() {
    let cases = [
        "(module (memory i64 1))",
        "(module (memory 1) (memory 1))",
        "(module (memory 1 1 shared))",
        "(module (func (return_call 0)))",
        "(module (tag))",
        "(module (type (struct)))",
    ];
    for wat in cases {
        let message = refused(&Push::new("m", wat));
        assert!(
            message.starts_with("invalid_module: the module `m` can't be registered:"),
            "{wat}: {message}"
        );
    }
}

#[test]
fn describers_that_lie_are_refused() {
    let cases: &[(&str, &str)] = &[
        (
            r#"{"procedure": "absent"}"#,
            "the procedure `absent` is described, and not exported",
        ),
        (
            r#"{"procedure": "run", "colour": 1}"#,
            "is wrong: unknown field `colour`",
        ),
        (r#"{"procedure": "run"}{"#, "is wrong: trailing characters"),
        (
            r#"{"hook": "run", "phase": "before", "commands": ["set"]}"#,
            "is wrong: unknown variant `before`",
        ),
        (
            r#"{"hook": "run", "phase": "request", "commands": ["scan"]}"#,
            "unknown command \"scan\"; hooks see get, set, del, expire, call",
        ),
        (
            r#"{"hook": "run", "phase": "request", "commands": []}"#,
            "a hook for no command never fires",
        ),
        (
            r#"{"hook": "run", "phase": "request", "commands": ["call"], "prefix": "a b"}"#,
            "the hook `run` can never fire",
        ),
        (
            r#"{"hook": "run", "phase": "request", "commands": ["set"], "prefix": "a", "prefix_hex": "61"}"#,
            "it has both a prefix and a prefix_hex",
        ),
        (
            r#"{"hook": "run", "phase": "request", "commands": ["set"], "prefix_hex": "6"}"#,
            "is not pairs of hexadecimal digits",
        ),
        (
            r#"{"hook": "with_type", "phase": "request", "commands": ["set"]}"#,
            "the hook `with_type` has the type (i32) -> i32, and should have () -> i32",
        ),
        (
            r#"{"something": 1}"#,
            "it should have a field \"module\", \"procedure\", \"hook\" or \"grant\"",
        ),
        (
            r#"{"procedure": "run"}\0a{"procedure": "run"}"#,
            "the function `run` is described twice",
        ),
    ];
    for (line, reason) in cases {
        let data = line.replace('"', r"\22");
        let length = wat_length(&data);
        let push = guest(
            "m",
            &data,
            &format!(
                r#"
            (func (export "metadata") (result i32) (call $output (i32.const 1024) (i32.const {length})) (i32.const 0))
            (func (export "with_type") (param i32) (result i32) (i32.const 0))
            (func (export "run") (result i32) (i32.const 0))"#
            ),
        );
        let message = refused(&push);
        assert!(
            message.contains(reason),
            "{line}\nexpected: {reason}\nfound: {message}"
        );
    }
}

/// The bytes of a WAT string, where `\xx` is one byte.
fn wat_length(text: &str) -> usize {
    text.len() - 2 * text.matches('\\').count()
}

/// A push with fuel of 0 was accepted, and each of its calls failed.
#[test]
fn limits_with_which_nothing_could_run_are_refused() {
    let none = Some(0);
    for (limits, name) in [
        (
            LimitsRequest {
                fuel: none,
                ..LimitsRequest::default()
            },
            "fuel",
        ),
        (
            LimitsRequest {
                cpu_ms: none,
                ..LimitsRequest::default()
            },
            "cpu_ms",
        ),
        (
            LimitsRequest {
                deadline_ms: none,
                ..LimitsRequest::default()
            },
            "deadline_ms",
        ),
        (
            LimitsRequest {
                running_calls: none,
                ..LimitsRequest::default()
            },
            "running_calls",
        ),
    ] {
        let push = Push {
            limits: Some(limits),
            ..Push::new("m", "(module)")
        };
        assert_eq!(
            refused(&push),
            format!("invalid_module: the limit {name} is 0, and must be at least 1")
        );
    }
}

#[test]
fn limits_above_the_ceiling_are_refused() {
    let push = Push {
        limits: Some(LimitsRequest {
            memory_bytes: Some(1 << 40),
            ..LimitsRequest::default()
        }),
        ..Push::new("m", "(module)")
    };
    assert_eq!(
        refused(&push),
        "invalid_module: the limit memory_bytes of 1099511627776 exceeds this server's ceiling of 67108864 (`max_call_memory_bytes`)"
    );
}

#[test]
fn wasi_builds_load_and_see_a_small_world() {
    let wat = r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 512) "\00\02\00\00\05\00\00\00")
        ;; The wall clock stands at the transaction's time; the monotonic one moves on by waiting.
        (func (export "clock") (result i32)
            (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 0)))
            (i64.ne (i64.load (i32.const 0)) (i64.const 1000000000000)))
        (func (export "wait") (result i32)
            (i64.store (i32.const 124) (i64.const 5000000000))
            (drop (call $poll (i32.const 100) (i32.const 200) (i32.const 1) (i32.const 300)))
            (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 0)))
            (i32.or
                (i64.ne (i64.load (i32.const 0)) (i64.const 1005000000000))
                (i32.ne (i32.load (i32.const 300)) (i32.const 1))))
        (func (export "random") (result i32)
            (drop (call $random (i32.const 0) (i32.const 8)))
            (i64.eqz (i64.load (i32.const 0))))
        (func (export "environ") (result i32) (call $environ (i32.const 0) (i32.const 4)))
        (func (export "print") (result i32) (call $write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 0)))
        (func (export "print_elsewhere") (result i32) (call $write (i32.const 7) (i32.const 512) (i32.const 1) (i32.const 0)))
        (func (export "open") (result i32)
            (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
        (func (export "prestat") (result i32) (call $prestat (i32.const 3) (i32.const 0)))
        (func (export "exit") (result i32) (call $exit (i32.const 3)) (i32.const 0)))"#;
    check(
        &[Push::new("small", wat)],
        r#"
        > call small.clock
        ""
        > call small.wait
        ""
        > call small.random
        ""
        > call small.environ
        ""
        > call small.print
        ""
        > call small.print_elsewhere
        rejected: small.print_elsewhere refused with the code 8
        > call small.open
        rejected: small.open refused with the code 52
        > call small.prestat
        rejected: small.prestat refused with the code 8
        > call small.exit
        trap: small.exit: proc_exit: the guest ended itself with the code 3
    "#,
    );
}

#[test]
fn assemblyscripts_abort_is_a_trap_with_its_message() {
    let wat = r#"(module
        (import "env" "abort" (func $abort (param i32 i32 i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\04\00\00\00n\00o\00")
        (func (export "run") (result i32)
            (call $abort (i32.const 4) (i32.const 4) (i32.const 7) (i32.const 9)) (i32.const 0)))"#;
    check(
        &[Push::new("as", wat)],
        "
        > call as.run
        trap: as.run: abort: no at no:7:9
    ",
    );
}

#[test]
fn a_guest_meets_the_limits_of_keys_values_writes_and_scans() {
    let greedy = guest(
        "greedy",
        "k",
        r#"
        (func (export "long_key") (result i32)
            (drop (call $delete (i32.const 0) (i32.const 1025))) (i32.const 0))
        (func (export "large_value") (result i32)
            (drop (memory.grow (i32.const 32)))
            (call $set (i32.const 1024) (i32.const 1) (i32.const 0) (i32.const 1048577) (i64.const 0))
            (i32.const 0))
        (func (export "many_keys") (result i32) (local $key i32)
            (loop $more
                (i32.store (i32.const 0) (local.get $key))
                (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0) (i64.const 0))
                (local.set $key (i32.add (local.get $key) (i32.const 1)))
                (br $more))
            (i32.const 0))
        (func (export "many_bytes") (result i32) (local $key i32)
            (drop (memory.grow (i32.const 16)))
            (loop $more
                (i32.store (i32.const 0) (local.get $key))
                (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 1048576) (i64.const 0))
                (local.set $key (i32.add (local.get $key) (i32.const 1)))
                (br $more))
            (i32.const 0))
        (func (export "many_scans") (result i32)
            (loop $more
                (drop (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)))
                (br $more))
            (i32.const 0))
        (func (export "unknown_flag") (result i32)
            (drop (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
            (i32.const 0))
        (func (export "odd_ttl") (result i32)
            (call $set (i32.const 1024) (i32.const 1) (i32.const 0) (i32.const 0) (i64.const -2)) (i32.const 0))
        (func (export "loud") (result i32)
            (call $log (i32.const 5) (i32.const 0) (i32.const 0)) (i32.const 0))"#,
    );
    let greedy = Push {
        limits: Some(LimitsRequest {
            cpu_ms: Some(5_000),
            deadline_ms: Some(60_000),
            fuel: Some(100_000_000),
            ..LimitsRequest::default()
        }),
        ..greedy
    };
    check(&[greedy], "
        > call greedy.long_key
        too_large: greedy.long_key: kv_delete: key of 1025 bytes exceeds the limit of 1024 (`max_key_bytes`)
        > call greedy.large_value
        too_large: greedy.large_value: kv_set: value of 1048577 bytes exceeds the limit of 1048576 (`max_value_bytes`)
        > call greedy.many_keys
        too_large: greedy.many_keys: kv_set: the transaction would write 10001 keys, and may write 10000
        > call greedy.many_bytes
        too_large: greedy.many_bytes: kv_set: the transaction would write …
        > call greedy.many_scans
        trap: greedy.many_scans: kv_scan: 16 scans are open already
        > call greedy.unknown_flag
        trap: greedy.unknown_flag: kv_scan: unknown flags 0x4
        > call greedy.odd_ttl
        trap: greedy.odd_ttl: kv_set: -2 is no time to live
        > call greedy.loud
        trap: greedy.loud: log: unknown log level 5
        > scan
        nothing
    ");
}

#[test]
fn a_spinning_guest_gives_way_to_its_neighbours() {
    use crate::support::{ManualClock, START_MS, Talk, ask};
    use luge_server::{config::Config, store::MemoryStore};
    // One thread for both: the neighbour is served first only if the guest gives way.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let spin = Push {
        limits: Some(LimitsRequest {
            fuel: Some(9_000_000_000),
            cpu_ms: Some(200),
            ..LimitsRequest::default()
        }),
        ..guest(
            "spin",
            "",
            r#"(func (export "run") (result i32) (loop $on (br $on)) (i32.const 0))"#,
        )
    };
    runtime.block_on(async {
        let clock = ManualClock::at(START_MS);
        let store = MemoryStore::new([1; 16], Box::new(clock.clone()));
        let config = Config {
            max_instances: 16,
            ..Config::default()
        };
        let mut talk = Talk::new(store, &config, clock).await;
        talk.push(&spin).await.unwrap();
        let (told, order) = std::sync::mpsc::channel();
        let (mut spinner, mut neighbour) = (talk.session(), talk.session());
        let first = told.clone();
        let spinning = tokio::spawn(async move {
            let error = ask(&mut spinner, "call spin.run").await.unwrap_err();
            first.send(error.code().name()).unwrap();
        });
        let serving = tokio::spawn(async move {
            ask(&mut neighbour, "set a 1").await.unwrap();
            told.send("served").unwrap();
        });
        spinning.await.unwrap();
        serving.await.unwrap();
        assert_eq!(
            order.iter().collect::<Vec<_>>(),
            ["served", "cpu_exhausted"]
        );
    });
}

// A describer with a slip in its name described nothing, its hook became a procedure, and nobody was
// told that the check was not there.
#[test]
fn a_module_that_looks_like_hooks_and_describes_none_is_pushed_with_a_warning() {
    use crate::support::{ManualClock, START_MS, Talk, runtime};
    use luge_protocol::Reply;
    use luge_server::{config::Config, store::MemoryStore};
    let misspelt = Push::new(
        "misspelt",
        r#"(module
        (import "luge_v1" "request_command" (func $command (result i32)))
        (memory (export "memory") 1)
        (func (export "metadat") (result i32) (i32.const 0))
        (func (export "check") (result i32) (call $command)))"#,
    );
    runtime().block_on(async {
        let clock = ManualClock::at(START_MS);
        let store = MemoryStore::new([1; 16], Box::new(clock.clone()));
        let config = Config { max_instances: 16, ..Config::default() };
        let mut talk = Talk::new(store, &config, clock).await;
        let Ok(Reply::Module(module)) = talk.push(&misspelt).await else { panic!("it is accepted") };
        assert_eq!(module.warnings, [
            "the module imports what only hooks may use, and describes none, so nothing runs around a command; is its describer called `metadata`?",
        ]);
    });
}

// A module linked as its toolchain does by itself has a stack of 1 MiB, and each of its calls took seven times as long
// as one with a small stack. Nothing said so.
#[test]
fn a_module_whose_fresh_instances_are_slow_to_make_is_pushed_with_a_warning() {
    use crate::support::{ManualClock, START_MS, Talk, runtime};
    use luge_protocol::{Isolation, Reply};
    use luge_server::{config::Config, store::MemoryStore};
    let module = |pages: u32| {
        let text = format!(
            r#"(module (memory (export "memory") {pages}) (func (export "f") (result i32) (i32.const 0)))"#
        );
        Push::new("m", &text)
    };
    runtime().block_on(async {
        let clock = ManualClock::at(START_MS);
        let store = MemoryStore::new([1; 16], Box::new(clock.clone()));
        let config = Config { max_instances: 16, ..Config::default() };
        let mut talk = Talk::new(store, &config, clock).await;
        let mut warnings = async |push: Push| match talk.push(&push).await {
            Ok(Reply::Module(module)) => module.warnings,
            other => panic!("{other:?}"),
        };
        assert_eq!(warnings(module(2)).await, Vec::<String>::new());
        assert_eq!(warnings(module(17)).await, [
            "a fresh instance begins with 1088 KiB of memory; with up to 128 KiB it would be set back behind a call, and so it is made anew for each, which takes a small one many times as long; link it with a smaller stack (`-zstack-size=32768`), or push it with `isolation` `reuse`",
        ]);
        let kept = Push { isolation: Some(Isolation::Reuse), ..module(17) };
        assert_eq!(warnings(kept).await, Vec::<String>::new());
    });
}
