//! The functions of the ABI's page: their names, and what each parameter is.

const PAGE: &str = include_str!("../../../udfs/ABI.md");

/// A function that modules may import.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) from: &'static str,
    pub(crate) name: &'static str,
    /// Name and type of each parameter; functions of WASI have no names there.
    pub(crate) parameters: Vec<(&'static str, &'static str)>,
    pub(crate) result: Option<&'static str>,
}

impl Import {
    /// The import, as the function `$name`.
    pub(crate) fn wat(&self) -> String {
        let Self { from, name, .. } = self;
        let types: Vec<&str> = self.parameters.iter().map(|(_, typed)| *typed).collect();
        let result = self
            .result
            .map_or_else(String::new, |typed| format!("(result {typed})"));
        format!(
            r#"(import "{from}" "{name}" (func ${name} (param {}) {result}))"#,
            types.join(" ")
        )
    }

    /// A call with these arguments, whose result is dropped.
    pub(crate) fn call(&self, arguments: &[i64]) -> String {
        let given: Vec<String> = self
            .parameters
            .iter()
            .zip(arguments)
            .map(|((_, typed), argument)| format!("({typed}.const {argument})"))
            .collect();
        let call = format!("(call ${} {})", self.name, given.join(" "));
        match self.result {
            Some(_) => format!("(drop {call})"),
            None => call,
        }
    }

    /// Whether only hooks may call it.
    pub(crate) fn is_for_hooks(&self) -> bool {
        self.name.starts_with("request_") || self.name.starts_with("response_")
    }
}

/// The functions of `luge_v1`.
pub(crate) fn host() -> Vec<Import> {
    let fences = between("\n## Host functions\n", "\n## Procedures\n")
        .split("```text\n")
        .skip(1);
    let lines = fences.flat_map(|fence| fence.split("```").next().unwrap_or_default().lines());
    let functions = lines.filter_map(|line| {
        let (name, rest) = line.split_once('(').filter(|(name, _)| is_name(name))?;
        let (parameters, result) = rest.split_once(')')?;
        let parameters = parameters.split(", ").filter(|it| !it.is_empty());
        Some(Import {
            from: "luge_v1",
            name,
            parameters: parameters
                .map(|it| it.split_once(": ").unwrap_or((it, "i32")))
                .collect(),
            result: result.strip_prefix(" -> "),
        })
    });
    let functions: Vec<Import> = functions.collect();
    assert!(
        functions.len() >= 26,
        "the page tells of {} functions",
        functions.len()
    );
    functions
}

/// The functions of WASI.
pub(crate) fn wasi() -> Vec<Import> {
    let rows = between("\n## WASI preview 1\n", "\n## AssemblyScript's abort\n").lines();
    let functions = rows.filter_map(|row| {
        let (name, rest) = row.strip_prefix("| `")?.split_once('(')?;
        let types = rest
            .split_once(')')?
            .0
            .split(", ")
            .filter(|it| !it.is_empty());
        Some(Import {
            from: "wasi_snapshot_preview1",
            name,
            parameters: types.map(|typed| ("", typed)).collect(),
            result: (name != "proc_exit").then_some("i32"),
        })
    });
    let functions: Vec<Import> = functions.collect();
    assert!(
        functions.len() >= 40,
        "the page tells of {} functions",
        functions.len()
    );
    functions
}

fn between(start: &str, end: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
}
