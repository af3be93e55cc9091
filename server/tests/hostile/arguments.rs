//! Every function of the ABI, with every range that it takes outside of memory, and with what else it does
//! not know: handles, flags, levels, times to live.

use crate::corpus::{Act, Case, End, Step};
use crate::page::{Import, host, wasi};

const MEMORY_BYTES: i64 = 65_536;
const MAX: i64 = u32::MAX as i64;

/// Ranges that do not lie in a memory of one page.
const RANGES: [(i64, i64); 6] = [
    (MEMORY_BYTES, 1),
    (MEMORY_BYTES - 1, 2),
    (MAX, 1),
    (0, MAX),
    (MAX, MAX),
    (0, MEMORY_BYTES + 1),
];

/// Where eight bytes do not lie in it.
const PLACES: [i64; 3] = [MEMORY_BYTES - 7, MEMORY_BYTES, MAX];

/// Numbers that a parameter does not take, with what is said of them.
const UNKNOWN: [(&str, &str, &[i64], &str); 6] = [
    ("kv_scan", "flags", &[4, 8, MAX], "unknown flags"),
    ("kv_scan_next", "handle", &[0, 16, MAX], "is no open scan"),
    ("kv_scan_close", "handle", &[0, 16, MAX], "is no open scan"),
    ("log", "level", &[5, MAX], "unknown log level"),
    ("kv_set", "ttl_ms", &[-2, i64::MIN], "is no time to live"),
    (
        "request_set_ttl",
        "ms",
        &[-2, i64::MIN],
        "is no time to live",
    ),
];

/// A module for each function of `luge_v1`, with an export for each wrong argument.
pub(crate) fn cases() -> Vec<Case> {
    let functions = host();
    let cases: Vec<Case> = functions.iter().filter_map(case).collect();
    assert!(
        cases.len() >= 20,
        "{} functions have arguments to get wrong",
        cases.len()
    );
    cases
}

fn case(import: &Import) -> Option<Case> {
    let wrong = wrong_arguments(import);
    let name = format!("arguments of {}", import.name);
    if wrong.is_empty() {
        return None;
    }
    let calls: Vec<String> = wrong
        .iter()
        .map(|(arguments, _)| import.call(arguments))
        .collect();
    let mut case = Case::pushed(name, &module(import, &calls));
    for (at, (_, says)) in wrong.into_iter().enumerate() {
        case = match import.is_for_hooks() {
            false => case.and(
                Act::Call(format!("f{at}")),
                "trap",
                format!("{}: …{says}", import.name),
            ),
            true if import.name.starts_with("request_") => case.and(
                Act::Set(format!("f{at}:")),
                "blocked",
                format!("{}: …{says}", import.name),
            ),
            true => case.and(
                Act::Get(format!("f{at}:")),
                "blocked",
                format!("{}: …{says}", import.name),
            ),
        };
    }
    Some(case)
}

/// Each list has one argument that is wrong, and what is said of it.
fn wrong_arguments(import: &Import) -> Vec<(Vec<i64>, &'static str)> {
    const BEYOND: &str = "the range of ";
    let parameters = &import.parameters;
    let good: Vec<i64> = parameters.iter().map(|(name, _)| sensible(name)).collect();
    let mut wrong = Vec::new();
    for (at, (name, _)) in parameters.iter().enumerate() {
        let with = |changes: &[(usize, i64)]| {
            let mut arguments = good.clone();
            for (at, number) in changes {
                arguments[*at] = *number;
            }
            arguments
        };
        let next = parameters.get(at + 1).map_or("", |(name, _)| name);
        if *name == "out" {
            wrong.extend(PLACES.map(|place| (with(&[(at, place)]), BEYOND)));
        } else if is_length(next) {
            wrong.extend(RANGES.map(|(start, len)| (with(&[(at, start), (at + 1, len)]), BEYOND)));
        }
        for (function, parameter, numbers, says) in UNKNOWN {
            if function == import.name && parameter == *name {
                wrong.extend(numbers.iter().map(|number| (with(&[(at, *number)]), says)));
            }
        }
    }
    wrong
}

fn is_length(parameter: &str) -> bool {
    parameter == "cap" || parameter == "len" || parameter.ends_with("_len")
}

/// What a parameter is given where another one is wrong.
fn sensible(parameter: &str) -> i64 {
    i64::from(is_length(parameter) || parameter == "field")
}

/// A module in which each call is a procedure of its own, `f0` and so on, or a hook for the keys that begin
/// with its name.
fn module(import: &Import, calls: &[String]) -> String {
    let mut functions = String::new();
    let mut lines = String::new();
    let (phase, command) = match import.name.starts_with("request_") {
        true => ("request", "set"),
        false => ("response", "get"),
    };
    for (at, call) in calls.iter().enumerate() {
        functions += &format!("(func (export \"f{at}\") (result i32) {call} (i32.const 0))\n");
        lines += &format!(
            r"{{\22hook\22:\22f{at}\22,\22phase\22:\22{phase}\22,\22commands\22:[\22{command}\22],\22prefix\22:\22f{at}:\22}}\0a"
        );
    }
    let length = lines.len() - 2 * lines.matches('\\').count();
    let describer = format!(
        r#"(data (i32.const 1024) "{lines}")
        (func (export "metadata") (result i32)
            (call $output_write (i32.const 1024) (i32.const {length})) (i32.const 0))"#
    );
    let (output, describer) = match import.is_for_hooks() {
        true => (
            r#"(import "luge_v1" "output_write" (func $output_write (param i32 i32)))"#,
            describer,
        ),
        false => ("", String::new()),
    };
    format!(
        r#"(module {output} {} (memory (export "memory") 1) (data (i32.const 0) "key")
        {describer} {functions})"#,
        import.wat()
    )
}

/// A module for each function of WASI, with each argument in turn at the edges: nothing but an errno, a
/// trap or success comes of it.
pub(crate) fn wasi_cases() -> Vec<Case> {
    const EDGES: [i64; 6] = [
        0,
        MEMORY_BYTES - 3,
        MEMORY_BYTES,
        i32::MAX as i64,
        MAX,
        1024,
    ];
    let case = |import: &Import| {
        let count = import.parameters.len();
        let mut calls = vec![import.call(&vec![MAX; count])];
        for base in [0, 1] {
            for at in 0..count {
                for edge in EDGES {
                    let mut arguments = vec![base; count];
                    arguments[at] = edge;
                    calls.push(import.call(&arguments));
                }
            }
        }
        let mut case = Case::pushed(
            format!("arguments of {}", import.name),
            &module(import, &calls),
        );
        case.steps.extend((0..calls.len()).map(|at| Step {
            act: Act::Call(format!("f{at}")),
            end: End::OneOf(&["ok", "trap"]),
        }));
        case
    };
    let mut cases: Vec<Case> = wasi().iter().map(case).collect();
    cases.extend(wasi_ranges());
    cases
}

/// Those functions of WASI that use memory, with a range outside of it: a trap.
fn wasi_ranges() -> Vec<Case> {
    let beyond = MEMORY_BYTES - 1;
    let wrong: [(&str, &[&[i64]]); 10] = [
        ("args_sizes_get", &[&[beyond, 0], &[0, beyond], &[MAX, MAX]]),
        (
            "environ_sizes_get",
            &[&[beyond, 0], &[0, beyond], &[MAX, MAX]],
        ),
        ("clock_res_get", &[&[0, beyond], &[3, MAX]]),
        ("clock_time_get", &[&[0, 1, beyond], &[1, 1, MAX]]),
        ("random_get", &[&[beyond, 2], &[0, MAX], &[MAX, MAX]]),
        ("fd_read", &[&[0, 0, 0, beyond], &[0, 0, 0, MAX]]),
        ("fd_fdstat_get", &[&[0, beyond], &[2, MAX]]),
        (
            "fd_write",
            &[
                &[1, beyond, 1, 0],
                &[1, MAX, 1024, 0],
                &[2, 0, 0, beyond],
                &[1, 16, 1, 0],
            ],
        ),
        (
            "poll_oneoff",
            &[
                &[beyond, 0, 1, 0],
                &[0, beyond, 1, 0],
                &[0, 0, 1, MAX],
                &[0, 0, 1024, beyond],
            ],
        ),
        ("proc_exit", &[&[0], &[-1]]),
    ];
    let functions = wasi();
    let case = |(name, wrong): &(&str, &[&[i64]])| {
        let import = functions.iter().find(|it| it.name == *name).unwrap();
        let calls: Vec<String> = wrong
            .iter()
            .map(|arguments| import.call(arguments))
            .collect();
        // At 16 lies a buffer that begins in memory and ends behind it.
        let module = module(import, &calls).replace(
            r#""key")"#,
            r#""key") (data (i32.const 16) "\f0\ff\00\00\ff\ff\ff\ff")"#,
        );
        let case = Case::pushed(format!("ranges of {name}"), &module);
        (0..calls.len()).fold(case, |case, at| {
            case.and(Act::Call(format!("f{at}")), "trap", format!("{name}: "))
        })
    };
    wrong.iter().map(case).collect()
}
