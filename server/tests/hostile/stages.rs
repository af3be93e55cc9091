//! Every function of the ABI in each stage where it may not be called.

use crate::corpus::{Act, Case};
use crate::page::{Import, host};

/// Where a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    Initialize,
    Describer,
    Procedure,
    RequestHook,
    ResponseHook,
}

const PLACES: [Place; 6] = [
    Place::Start,
    Place::Initialize,
    Place::Describer,
    Place::Procedure,
    Place::RequestHook,
    Place::ResponseHook,
];

/// A module for each function and each place where it is refused.
pub(crate) fn cases() -> Vec<Case> {
    let functions = host();
    let mut cases = Vec::new();
    for import in &functions {
        let refused = PLACES.iter().filter(|place| is_refused(import, **place));
        cases.extend(refused.map(|place| case(import, *place)));
    }
    assert!(cases.len() >= 75, "{} places", cases.len());
    cases
}

/// The table of the ABI's page.
fn is_refused(import: &Import, place: Place) -> bool {
    let name = import.name;
    let is_anywhere =
        ["output_write", "now_ms", "random_fill", "log", "config_get"].contains(&name);
    let is_setter = ["request_set_value", "request_set_ttl"].contains(&name);
    match place {
        Place::Start | Place::Initialize | Place::Describer => !is_anywhere,
        Place::Procedure => import.is_for_hooks(),
        Place::RequestHook => name.starts_with("response_"),
        Place::ResponseHook => is_setter,
    }
}

fn case(import: &Import, place: Place) -> Case {
    let length = |name: &str| name == "cap" || name.ends_with("len") || name == "field";
    let arguments: Vec<i64> = import
        .parameters
        .iter()
        .map(|(name, _)| i64::from(length(name)))
        .collect();
    let case = Case::pushed(
        format!("{} in the place {place:?}", import.name),
        &module(import, place, &import.call(&arguments)),
    );
    let says = format!("{}: ", import.name);
    match place {
        Place::Start | Place::Initialize | Place::Procedure => {
            case.and(Act::Call("run".to_owned()), "trap", says)
        }
        Place::RequestHook => case.and(Act::Set("k".to_owned()), "blocked", says),
        Place::ResponseHook => case.and(Act::Set("k".to_owned()), "blocked", says),
        Place::Describer => {
            let wasm = case.wasm;
            Case::binary(case.name, wasm, "invalid_module", &says)
        }
    }
}

fn module(import: &Import, place: Place, call: &str) -> String {
    let hook = |phase: &str| {
        let line =
            format!(r#"{{"hook": "run", "phase": "{phase}", "commands": ["set"], "prefix": "k"}}"#);
        let length = line.len();
        let line = line.replace('"', r"\22");
        format!(
            r#"(data (i32.const 1024) "{line}")
            (func (export "metadata") (result i32)
                (call $say (i32.const 1024) (i32.const {length})) (i32.const 0))
            (func (export "run") (result i32) {call} (i32.const 0))"#
        )
    };
    let idle = r#"(func (export "run") (result i32) (i32.const 0))"#;
    let body = match place {
        Place::Start => format!("(func $begin {call}) (start $begin) {idle}"),
        Place::Initialize => format!(r#"(func (export "_initialize") {call}) {idle}"#),
        Place::Describer => {
            format!(r#"(func (export "metadata") (result i32) {call} (i32.const 0)) {idle}"#)
        }
        Place::Procedure => format!(r#"(func (export "run") (result i32) {call} (i32.const 0))"#),
        Place::RequestHook => hook("request"),
        Place::ResponseHook => hook("response"),
    };
    format!(
        r#"(module {} (import "luge_v1" "output_write" (func $say (param i32 i32)))
        (memory (export "memory") 1) (data (i32.const 0) "key") {body})"#,
        import.wat()
    )
}
