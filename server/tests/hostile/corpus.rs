//! The modules that are written down, and what each says of its end.
//!
//! A file begins with comments of this form, one for each request behind the push, in order:
//!
//! ```text
//!   ;; push: invalid_module: what the message contains
//!   ;; call NAME: fuel_exhausted
//!   ;; set KEY: blocked
//!   ;; get KEY: ok
//!   ;; limits: fuel 100 cpu_ms 20
//! ```

use std::fs;
use std::path::Path;

use luge_protocol::LimitsRequest;

/// A module, and what becomes of it.
#[derive(Debug, Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) wasm: Vec<u8>,
    pub(crate) limits: LimitsRequest,
    pub(crate) steps: Vec<Step>,
}

/// A request, and how it ends.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) act: Act,
    pub(crate) end: End,
}

#[derive(Debug)]
pub(crate) enum Act {
    Push,
    Call(String),
    Set(String),
    Get(String),
}

#[derive(Debug)]
pub(crate) enum End {
    /// With this code, and a message that contains this, where `…` stands for anything; the code `ok` stands
    /// for none.
    As(String, String),
    /// With one of these codes.
    OneOf(&'static [&'static str]),
}

impl Case {
    /// A case whose module is pushed.
    pub(crate) fn pushed(name: impl Into<String>, wat: &str) -> Self {
        let name = name.into();
        let wasm = wat::parse_str(wat).unwrap_or_else(|error| panic!("{name}: {error}\n{wat}"));
        Self {
            wasm,
            ..Self::binary(name, Vec::new(), "ok", "")
        }
    }

    /// A binary whose push ends so.
    pub(crate) fn binary(name: impl Into<String>, wasm: Vec<u8>, code: &str, says: &str) -> Self {
        let end = End::As(code.to_owned(), says.to_owned());
        let act = Act::Push;
        Self {
            name: name.into(),
            wasm,
            steps: vec![Step { act, end }],
            ..Self::default()
        }
    }

    pub(crate) fn and(mut self, act: Act, code: &str, says: impl Into<String>) -> Self {
        let end = End::As(code.to_owned(), says.into());
        self.steps.push(Step { act, end });
        self
    }
}

/// Every module in `modules`, by kind and name.
pub(crate) fn read() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/modules");
    let mut cases = Vec::new();
    for kind in fs::read_dir(&root).unwrap() {
        for file in fs::read_dir(kind.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let text = fs::read_to_string(&path).unwrap();
            cases.push(parse(name.to_str().unwrap(), &text));
        }
    }
    cases.sort_by(|left, right| left.name.cmp(&right.name));
    cases
}

fn parse(name: &str, text: &str) -> Case {
    let mut case = Case::pushed(name, text);
    let mut said = text.lines().map_while(|line| line.strip_prefix(";; "));
    let first = said.next().unwrap_or_default();
    assert!(
        parse_line(&mut case, first),
        "{name} does not begin with what becomes of it"
    );
    for line in said {
        parse_line(&mut case, line);
    }
    case
}

/// Reads a line, and answers whether it is one of these; other comments are prose.
fn parse_line(case: &mut Case, line: &str) -> bool {
    let Some((what, end)) = line.split_once(": ") else {
        return false;
    };
    let (code, says) = end.split_once(": ").unwrap_or((end, ""));
    let end = End::As(code.to_owned(), says.to_owned());
    match what.split_once(' ') {
        None if what == "push" => case.steps[0].end = end,
        None if what == "limits" => case.limits = limits(code),
        Some(("call", name)) => case.steps.push(Step {
            act: Act::Call(name.to_owned()),
            end,
        }),
        Some(("set", key)) => case.steps.push(Step {
            act: Act::Set(key.to_owned()),
            end,
        }),
        Some(("get", key)) => case.steps.push(Step {
            act: Act::Get(key.to_owned()),
            end,
        }),
        _ => return false,
    }
    true
}

fn limits(text: &str) -> LimitsRequest {
    let words: Vec<&str> = text.split(' ').collect();
    let mut limits = LimitsRequest::default();
    for pair in words.chunks(2) {
        let number = Some(pair[1].parse().unwrap());
        match pair[0] {
            "fuel" => limits.fuel = number,
            "cpu_ms" => limits.cpu_ms = number,
            "deadline_ms" => limits.deadline_ms = number,
            "memory_bytes" => limits.memory_bytes = number,
            other => panic!("no limit {other}"),
        }
    }
    limits
}
