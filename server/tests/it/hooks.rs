use luge_protocol::{HookOverride, LimitsRequest, OnFailure};

use crate::support::{Push, check, check_with};

/// A module of hooks: each is described by its line, and has its body. At 8192 lies `data`; `$put`
/// appends the byte of its argument to the key `log`, so that tests can see who ran, and in which
/// order.
fn hooks(name: &'static str, described: &[&str], data: &str, functions: &str) -> Push {
    let lines = described
        .join("\n")
        .replace('"', r"\22")
        .replace('\n', r"\0a");
    let length = lines.len() - 2 * lines.matches('\\').count();
    Push::new(
        name,
        format!(
            r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
        (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
        (import "luge_v1" "request_command" (func $command (result i32)))
        (import "luge_v1" "request_key" (func $key (param i32 i32 i32) (result i64)))
        (import "luge_v1" "request_value" (func $value (param i32 i32 i32) (result i64)))
        (import "luge_v1" "request_previous" (func $previous (param i32 i32 i32) (result i64)))
        (import "luge_v1" "request_arg" (func $arg (param i32 i32) (result i32)))
        (import "luge_v1" "request_set_value" (func $set_value (param i32 i32)))
        (import "luge_v1" "request_set_ttl" (func $set_ttl (param i64)))
        (import "luge_v1" "response_status" (func $status (result i32)))
        (import "luge_v1" "response_value" (func $response (param i32 i32 i32) (result i64)))
        (import "luge_v1" "response_set_value" (func $set_response (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 4096) "{lines}")
        (data (i32.const 8192) "{data}")
        (data (i32.const 9000) "log")
        (func $put (param $byte i32) (local $length i32)
            (local.set $length (i32.wrap_i64 (call $get (i32.const 9000) (i32.const 3) (i32.const 0) (i32.const 10000) (i32.const 1000))))
            (if (i32.lt_s (local.get $length) (i32.const 0)) (then (local.set $length (i32.const 0))))
            (i32.store8 (i32.add (i32.const 10000) (local.get $length)) (local.get $byte))
            (call $set (i32.const 9000) (i32.const 3) (i32.const 10000) (i32.add (local.get $length) (i32.const 1)) (i64.const 0)))
        (func (export "metadata") (result i32) (call $output (i32.const 4096) (i32.const {length})) (i32.const 0))
        {functions})"#
        ),
    )
}

/// A hook that logs one letter and returns `number`.
fn letter(export: &str, letter: char, number: i32) -> String {
    let code = letter as u32;
    format!(
        r#"(func (export "{export}") (result i32) (call $put (i32.const {code})) (i32.const {number}))"#
    )
}

#[test]
fn request_hooks_run_in_ascending_order_and_response_hooks_in_descending() {
    let many = hooks(
        "many",
        &[
            r#"{"hook": "a", "phase": "request", "commands": ["set"], "order": 2}"#,
            r#"{"hook": "b", "phase": "request", "commands": ["set"], "order": -1}"#,
            r#"{"hook": "c", "phase": "request", "commands": ["set"], "order": 2}"#,
            r#"{"hook": "x", "phase": "response", "commands": ["set"], "order": 2}"#,
            r#"{"hook": "y", "phase": "response", "commands": ["set"], "order": -1}"#,
            r#"{"hook": "z", "phase": "response", "commands": ["set"], "order": 2}"#,
        ],
        "",
        &["abcxyz"
            .chars()
            .map(|it| letter(&it.to_string(), it, 0))
            .collect::<String>()]
        .concat(),
    );
    check(
        &[many],
        "
        > set k v
        v2
        > get log
        baczxy v2
    ",
    );
}

#[test]
fn a_block_ends_the_request_phase_and_its_writes_stand() {
    let guard = hooks(
        "guard",
        &[
            r#"{"hook": "first", "phase": "request", "commands": ["set"], "prefix": "secret:", "order": 1}"#,
            r#"{"hook": "second", "phase": "request", "commands": ["set"], "prefix": "secret:", "order": 2}"#,
            r#"{"hook": "after", "phase": "response", "commands": ["set"], "prefix": "secret:"}"#,
        ],
        "not yours",
        &format!(
            r#"
        (func (export "first") (result i32)
            (call $put (i32.const 49)) (call $output (i32.const 8192) (i32.const 9)) (i32.const 1))
        {}
        (func (export "after") (result i32) (call $put (i32.add (call $status) (i32.const 48))) (i32.const 0))
    "#,
            letter("second", '2', 0)
        ),
    );
    check(
        &[guard],
        "
        > set secret:a 1
        blocked: not yours
        > get secret:a
        nil
        > get log
        13 v2
        > set other 1
        v3
        > batch set free 1; set secret:b 2
        blocked: not yours
        > mget free secret:b
        nil, nil
        > get log
        1313 v4
    ",
    );
}

#[test]
fn a_hook_rewrites_what_is_stored_and_how_long() {
    let upper = hooks(
        "upper",
        &[
            r#"{"hook": "rewrite", "phase": "request", "commands": ["set", "expire"], "prefix": "x"}"#,
        ],
        "NEW",
        r#"
        (func (export "rewrite") (result i32)
            (if (i32.eq (call $command) (i32.const 2))
                (then (call $set_value (i32.const 8192) (i32.const 3))))
            (call $set_ttl (i64.const 500))
            (i32.const 0))"#,
    );
    check(
        &[upper],
        "
        > set x old
        v2
        > get x
        NEW v2
        > ttl x
        500ms
        > expire x 9999
        true
        > ttl x
        500ms
        > set y old
        v4
        > get y
        old v4
        > batch set x 1 --ttl 5; get x
        v5, NEW v5
    ",
    );
}

#[test]
fn a_hook_answers_by_itself_or_as_if_the_key_were_absent() {
    let virtual_keys = hooks(
        "virtual",
        &[
            r#"{"hook": "answer", "phase": "request", "commands": ["get"], "prefix": "virtual:"}"#,
            r#"{"hook": "hide", "phase": "request", "commands": ["get"], "prefix": "hidden:"}"#,
            r#"{"hook": "status", "phase": "response", "commands": ["get"], "prefix": "virtual:"}"#,
        ],
        "made up",
        r#"
        (func (export "answer") (result i32) (call $output (i32.const 8192) (i32.const 7)) (i32.const 2))
        (func (export "hide") (result i32) (i32.const 3))
        (func (export "status") (result i32) (call $put (i32.add (call $status) (i32.const 48))) (i32.const 0))"#,
    );
    check(
        &[virtual_keys],
        "
        > batch set hidden:a 1; set plain 2
        v2, v2
        > get virtual:x
        made up v0
        > get hidden:a
        nil
        > mget plain hidden:a virtual:y
        2 v2, nil, made up v0
        > exists plain hidden:a
        1
        > ttl hidden:a
        nil
        > get log
        44 v4
        > scan hidden
        nothing
        > scan --keys
        log plain
    ",
    );
}

#[test]
fn a_response_hook_masks_what_leaves_the_server() {
    let mask = hooks(
        "mask",
        &[r#"{"hook": "mask", "phase": "response", "commands": ["get"], "prefix": "card:"}"#],
        "****",
        r#"
        (func (export "mask") (result i32)
            (if (i32.eqz (call $status)) (then (call $set_response (i32.const 8192) (i32.const 4))))
            (i32.const 0))"#,
    );
    check(
        &[mask],
        "
        > set card:1 4111
        v2
        > get card:1
        **** v2
        > mget card:1 card:2
        **** v2, nil
        > scan card
        card:1=****
        > set card:1 4222 --old
        v3 was ****
        > set card:n 5
        v4
        > incr card:n
        - v5
        > batch get card:1; set card:1 1 --old; incr card:n
        **** v3, v6 was ****, - v6
        > incr other
        1 v7
    ",
    );
}

#[test]
fn a_response_hook_that_blocks_undoes_the_commands_and_all_response_hooks() {
    let late = hooks(
        "late",
        &[
            r#"{"hook": "before", "phase": "request", "commands": ["set", "call"]}"#,
            r#"{"hook": "audit", "phase": "response", "commands": ["set", "call"], "order": 9}"#,
            r#"{"hook": "veto", "phase": "response", "commands": ["set", "call"], "order": 1}"#,
        ],
        "no",
        &format!(
            r#"{}{}
        (func (export "veto") (result i32) (call $output (i32.const 8192) (i32.const 2)) (i32.const 1))"#,
            letter("before", 'b', 0),
            letter("audit", 'a', 0)
        ),
    );
    check(
        &[late],
        "
        > set k v
        blocked: no
        > get k
        nil
        > get log
        b v2
    ",
    );
}

#[test]
fn an_audit_of_what_failed_is_kept() {
    let audit = hooks(
        "audit",
        &[r#"{"hook": "audit", "phase": "response", "commands": ["set"]}"#],
        "",
        r#"
        (func (export "audit") (result i32)
            (call $put (i32.add (call $status) (i32.const 48)))
            (drop (call $response (i32.const 0) (i32.const 0) (i32.const 100)))
            (call $put (i32.load8_u (i32.const 0)))
            (i32.const 0))"#,
    );
    check(
        &[audit],
        "
        > set k v --if present
        precondition_failed: the key is absent, and should be present
        > get log
        2p v2
    ",
    );
}

#[test]
fn a_failing_hook_blocks_unless_it_is_told_to_be_passed_over() {
    let line = |more: &str| {
        format!(r#"{{"hook": "bad", "phase": "request", "commands": ["set", "get"]{more}}}"#)
    };
    let body = r#"(func (export "bad") (result i32) (call $put (i32.const 120)) unreachable)"#;
    check(
        &[hooks("closed", &[&line("")], "", body)],
        "
        > set k v
        blocked: the hook closed.bad failed: wasm trap: wasm `unreachable` instruction executed
        > scan
        nothing
    ",
    );
    check(
        &[hooks(
            "open",
            &[&line(r#", "on_failure": "continue""#)],
            "",
            body,
        )],
        "
        > set k v
        v2
        > scan
        k=v
    ",
    );
    // What a push says wins.
    let overridden = Push {
        overrides: Some(vec![HookOverride {
            on_failure: Some(OnFailure::Continue),
            ..HookOverride::default()
        }]),
        ..hooks("open", &[&line("")], "", body)
    };
    check(
        &[overridden],
        "
        > set k v
        v2
    ",
    );
}

#[test]
fn a_hooks_unknown_answer_is_a_failure() {
    let odd = hooks(
        "odd",
        &[r#"{"hook": "odd", "phase": "request", "commands": ["set"]}"#],
        "",
        r#"(func (export "odd") (result i32) (i32.const 2))"#,
    );
    check(&[odd], "
        > set k v
        blocked: the hook odd.odd failed: the hook returned 2, which means nothing for a set in this phase
    ");
}

#[test]
fn a_push_moves_a_hook_to_another_prefix_and_order() {
    let anywhere = hooks(
        "anywhere",
        &[
            r#"{"hook": "mark", "phase": "request", "commands": ["set"], "prefix": "a:", "order": 1}"#,
        ],
        "",
        &letter("mark", 'm', 0),
    );
    let moved = Push {
        overrides: Some(vec![HookOverride {
            prefix: Some("b:".into()),
            order: Some(-5),
            ..HookOverride::default()
        }]),
        ..anywhere
    };
    check(
        &[moved],
        "
        > set a:1 x
        v2
        > get log
        nil
        > set b:1 x
        v3
        > get log
        m v3
    ",
    );
}

#[test]
fn one_instance_serves_all_hooks_of_a_module_in_a_request_and_no_other() {
    let count = hooks(
        "count",
        &[
            r#"{"hook": "one", "phase": "request", "commands": ["set"], "order": 1}"#,
            r#"{"hook": "two", "phase": "request", "commands": ["set"], "order": 2}"#,
            r#"{"hook": "three", "phase": "response", "commands": ["set"]}"#,
        ],
        "",
        r#"
        (global $calls (mut i32) (i32.const 48))
        (func $count (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (call $put (global.get $calls)) (i32.const 0))
        (func (export "one") (result i32) (call $count))
        (func (export "two") (result i32) (call $count))
        (func (export "three") (result i32) (call $count))"#,
    );
    check(
        &[count],
        "
        > set k v
        v2
        > get log
        123 v2
        > set k v
        v3
        > get log
        123123 v3
    ",
    );
}

#[test]
fn every_command_is_reduced_to_five() {
    // Logs the number of the command it stands around.
    let all = hooks(
        "all",
        &[
            r#"{"hook": "note", "phase": "request", "commands": ["get", "set", "del", "expire", "call"], "prefix": "k"}"#,
        ],
        "",
        r#"
        (func (export "note") (result i32) (call $put (i32.add (call $command) (i32.const 48))) (i32.const 0))"#,
    );
    let steps = [
        ("set k 1", "v…", "2"),
        ("get k", "1…", "1"),
        ("mget k k2 other", "1…", "11"),
        ("exists k", "1", "1"),
        ("ttl k", "none", "1"),
        ("expire k 1000", "true", "4"),
        ("persist k", "true", "4"),
        ("incr k", "2…", "21"),
        ("set k 5 --old", "v…", "21"),
        ("scan k", "k=5", "1"),
        (
            "batch get k; set k 6; incr k; expire k 5; persist k; del k; check k --if absent",
            "5…",
            "12214431",
        ),
        ("call k.none", "not_found…", "5"),
        ("set k 1", "v…", "2"),
        ("del k k2", "deleted 1", "33"),
        ("set k 1", "v…", "2"),
        ("del --range k l", "deleted 1", "3"),
    ];
    // The order of the notes in the batch: in the request phase, part by part, with the disclosure of
    // the incremented number behind its part.
    let mut transcript = String::new();
    for (request, reply, note) in steps {
        transcript += &format!("> {request}\n{reply}\n");
        let expected = if request.starts_with("batch") {
            "12214431"
        } else {
            note
        };
        transcript += &format!("> get log\n{expected}…\n> del log\ndeleted 1\n");
    }
    check(&[all], &transcript);
}

#[test]
fn hooks_see_what_a_request_carries() {
    let see = hooks(
        "see",
        &[r#"{"hook": "see", "phase": "request", "commands": ["set", "expire"], "prefix": "k"}"#],
        "",
        r#"
        (func $digit (param $field i32)
            (if (call $arg (local.get $field) (i32.const 0))
                (then (call $put (i32.add (i32.wrap_i64 (i64.load (i32.const 0))) (i32.const 48))))
                (else (call $put (i32.const 46)))))
        (func (export "see") (result i32)
            (call $digit (i32.const 1)) (call $digit (i32.const 2))
            (call $digit (i32.const 3)) (call $digit (i32.const 4))
            (drop (call $previous (i32.const 0) (i32.const 100) (i32.const 1)))
            (call $put (i32.load8_u (i32.const 100)))
            (i32.const 0))"#,
    );
    check(
        &[see],
        "
        > set k a --ttl 7
        v2
        > get log
        70..\\x00 v2
        > del log
        deleted 1
        > set k b --keep-ttl --if 2
        v4
        > get log
        /32.a v4
        > del log
        deleted 1
        > set k 5 --if present
        v6
        > get log
        .2..b v6
        > del log
        deleted 1
        > incr k 3
        8 v8
        > get log
        /0.35 v8
        > del log
        deleted 1
        > expire k 9
        true
        > get log
        9...8 v10
    ",
    );
}

#[test]
fn an_incr_shows_its_hook_what_it_will_store() {
    let copy = hooks(
        "copy",
        &[r#"{"hook": "copy", "phase": "request", "commands": ["set"], "prefix": "n"}"#],
        "copy",
        r#"
        (func (export "copy") (result i32) (local $length i32)
            (local.set $length (i32.wrap_i64 (call $value (i32.const 0) (i32.const 0) (i32.const 100))))
            (if (i32.lt_s (local.get $length) (i32.const 0)) (then (call $put (i32.const 45)) (return (i32.const 0))))
            (call $set (i32.const 8192) (i32.const 4) (i32.const 0) (local.get $length) (i64.const 0))
            (i32.const 0))"#,
    );
    check(
        &[copy],
        "
        > incr n 5
        5 v2
        > get copy
        5 v2
        > batch set n 40; incr n 2
        v3, 42 v3
        > get copy
        42 v3
        > set n word
        v4
        > incr n
        bad_request: the value \"word\" is not a decimal number of 64 bits
        > get log
        - v5
    ",
    );
}

#[test]
fn a_call_passes_its_hooks_with_its_name_and_arguments() {
    let both = hooks(
        "both",
        &[
            r#"{"procedure": "echo"}"#,
            r#"{"hook": "args", "phase": "request", "commands": ["call"], "prefix": "both.echo"}"#,
            r#"{"hook": "answer", "phase": "response", "commands": ["call"], "prefix": "both."}"#,
        ],
        "<>",
        r#"
        (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
        (func (export "args") (result i32) (local $length i32)
            (local.set $length (i32.wrap_i64 (call $value (i32.const 0) (i32.const 1) (i32.const 100))))
            (i32.store8 (i32.const 0) (i32.const 60))
            (call $set_value (i32.const 0) (i32.add (local.get $length) (i32.const 1)))
            (i32.const 0))
        (func (export "answer") (result i32) (local $length i32)
            (local.set $length (i32.wrap_i64 (call $response (i32.const 0) (i32.const 0) (i32.const 100))))
            (i32.store8 (local.get $length) (i32.const 62))
            (call $set_response (i32.const 0) (i32.add (local.get $length) (i32.const 1)))
            (i32.const 0))
        (func (export "echo") (result i32)
            (call $output (i32.const 0) (i32.wrap_i64 (call $input (i32.const 0) (i32.const 0) (i32.const 100))))
            (i32.const 0))"#,
    );
    // An import must stand before the functions of the module.
    let wat = both.wat.replace(
        r#"(import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))"#,
        "",
    );
    let wat = wat.replacen(
        "(module",
        r#"(module (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))"#,
        1,
    );
    check(
        &[Push { wat, ..both }],
        "
        > call both.echo hi
        <hi>
    ",
    );
}

#[test]
fn the_hooks_of_a_phase_share_a_bound_of_time() {
    let slow = hooks(
        "slow",
        &[r#"{"hook": "spin", "phase": "request", "commands": ["set"], "on_failure": "continue"}"#],
        "",
        r#"(func (export "spin") (result i32) (loop $on (br $on)) (i32.const 0))"#,
    );
    let slow = Push {
        limits: Some(LimitsRequest {
            fuel: Some(9_000_000_000),
            ..LimitsRequest::default()
        }),
        ..slow
    };
    // Each of the three would be passed over after 50 ms; together they have 60.
    check_with(&[slow], |config| config.phase_cpu_ms = 60, "
        > batch set a 1; set b 2; set c 3
        blocked: the hook slow.spin failed: the hooks of this phase used up their 60ms of cpu time together
        > scan
        nothing
    ");
}

#[test]
fn a_request_hook_cannot_look_at_the_response_nor_a_response_hook_change_the_request() {
    let wrong = hooks(
        "wrong",
        &[
            r#"{"hook": "early", "phase": "request", "commands": ["set"], "prefix": "a"}"#,
            r#"{"hook": "late", "phase": "response", "commands": ["set"], "prefix": "b"}"#,
            r#"{"hook": "no_value", "phase": "request", "commands": ["del"]}"#,
        ],
        "",
        r#"
        (func (export "early") (result i32) (call $status))
        (func (export "late") (result i32) (call $set_value (i32.const 0) (i32.const 0)) (i32.const 0))
        (func (export "no_value") (result i32) (call $set_value (i32.const 0) (i32.const 0)) (i32.const 0))"#,
    );
    check(&[wrong], "
        > set a 1
        blocked: the hook wrong.early failed: response_status: only a response hook has a response
        > set b 1
        blocked: the hook wrong.late failed: request_set_value: only a request hook can change the request
        > del c
        blocked: the hook wrong.no_value failed: request_set_value: a del has no value to set
        > scan
        nothing
    ");
}

#[test]
fn a_blocked_entry_of_a_scan_is_left_out_and_a_failed_hook_refuses_all_of_it() {
    let pick = hooks(
        "pick",
        &[
            r#"{"hook": "hide", "phase": "request", "commands": ["get"], "prefix": "b"}"#,
            r#"{"hook": "hide_late", "phase": "response", "commands": ["get"], "prefix": "c"}"#,
            r#"{"hook": "fail", "phase": "request", "commands": ["get"], "prefix": "z"}"#,
        ],
        "",
        r#"
        (func (export "hide") (result i32) (i32.const 1))
        (func (export "hide_late") (result i32) (i32.const 1))
        (func (export "fail") (result i32) unreachable)"#,
    );
    check(
        &[pick],
        "
        > batch set a 1; set b 2; set c 3; set d 4
        v2, v2, v2, v2
        > scan
        a=1 d=4
        > mget a b
        blocked: the hook pick.hide refused
        > mget a c
        blocked: the hook pick.hide_late refused
        > set z 1
        v3
        > scan
        blocked: the hook pick.fail failed…
        > scan a
        a=1
    ",
    );
}

#[test]
fn what_hooks_put_in_the_place_of_values_is_bounded_as_a_whole() {
    // Each answer has 60,000 bytes, far below an output's limit; nobody asked how many keys there are.
    let inflate = hooks(
        "inflate",
        &[
            r#"{"hook": "answer", "phase": "request", "commands": ["get"], "prefix": "a", "on_failure": "continue"}"#,
            r#"{"hook": "swell", "phase": "response", "commands": ["get"], "prefix": "b"}"#,
        ],
        "",
        r#"
        (func (export "answer") (result i32) (call $output (i32.const 0) (i32.const 60000)) (i32.const 2))
        (func (export "swell") (result i32) (call $set_response (i32.const 0) (i32.const 60000)) (i32.const 0))"#,
    );
    let small = |config: &mut luge_server::config::Config| {
        config.max_frame_bytes = 100_000;
        config.max_value_bytes = 60_000;
        config.phase_cpu_ms = 10_000;
    };
    check_with(
        &[inflate],
        small,
        "
        > exists a1
        0
        > mget a1 a2
        too_large: what hooks put into the place of values exceeds the limit of 100000 bytes
        > mget b1 b2
        too_large: what hooks put into the place of values exceeds the limit of 100000 bytes
    ",
    );
}

/// The sum was taken from what the batch asked for, and not from what a hook made of it.
#[test]
fn an_incr_adds_to_what_a_hook_made_of_an_earlier_part() {
    let lines = r#"{\"hook\": \"nine\", \"phase\": \"request\", \"commands\": [\"set\"]}"#;
    let nine = Push::new(
        "nine",
        format!(
            r#"(module
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "luge_v1" "request_value" (func $value (param i32 i32 i32) (result i64)))
        (import "luge_v1" "request_set_value" (func $set_value (param i32 i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{lines}")
        (data (i32.const 512) "9")
        (func (export "metadata") (result i32) (call $output (i32.const 0) (i32.const 57)) (i32.const 0))
        (func (export "nine") (result i32)
            (drop (call $value (i32.const 0) (i32.const 600) (i32.const 1)))
            (if (i32.eq (i32.load8_u (i32.const 600)) (i32.const 49)) (then
                (call $set_value (i32.const 512) (i32.const 1))))
            (i32.const 0)))"#
        ),
    );
    check(
        &[nine],
        "
        > batch set k 1; incr k 11; get k
        v2, 20 v2, 20 v2
    ",
    );
}
