//! What modules may import, as text.

/// The functions of `luge_v1`, each under its own name.
pub(crate) const IMPORTS: &str = include_str!("imports.wat");

/// A function that modules may import.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    pub(crate) name: &'static str,
    pub(crate) parameters: Vec<&'static str>,
    pub(crate) has_result: bool,
}

/// All of them.
pub(crate) fn functions() -> Vec<Import> {
    IMPORTS.lines().filter_map(function).collect()
}

fn function(line: &'static str) -> Option<Import> {
    let name = line.split('"').nth(3)?;
    let parameters = line
        .split_once("(param ")
        .and_then(|(_, rest)| rest.split_once(')'));
    Some(Import {
        name,
        parameters: parameters.map_or_else(Vec::new, |(types, _)| types.split(' ').collect()),
        has_result: line.contains("(result "),
    })
}

impl Import {
    /// A call whose result is dropped.
    pub(crate) fn call(&self, arguments: &[i64]) -> String {
        let given = self.parameters.iter().zip(arguments);
        let given: Vec<String> = given
            .map(|(typed, number)| match *typed {
                // As 32 bits, whatever the sign.
                "i32" => format!("(i32.const {})", number & 0xffff_ffff),
                _ => format!("({typed}.const {number})"),
            })
            .collect();
        let call = format!("(call ${} {})", self.name, given.join(" "));
        match self.has_result {
            true => format!("(drop {call})"),
            false => call,
        }
    }
}
