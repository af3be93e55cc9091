//! How what was counted of functions is shown: a table of functions, and one of commands with hooks.

use luge_client::{FunctionReport, HookTime, StatsReply, Summary};
use serde_json::{Value, json};

use crate::module::plain;
use crate::units::show_bytes;
use crate::versions::aligned_rows;

/// Both tables, each where it has something to show, and what was counted elsewhere.
pub(crate) fn lines(told: &StatsReply) -> Vec<String> {
    let mut lines = Vec::new();
    if !told.functions.is_empty() {
        let heading = [
            "FUNCTION",
            "VERSION",
            "CALLS",
            "ERRORS",
            "CONFLICTS",
            "RETRIES",
            "P50",
            "P99",
            "MAX",
            "FUEL",
            "MEMORY",
        ];
        let rows = told.functions.iter().map(function_row);
        let rows: Vec<_> = [heading.map(str::to_owned)]
            .into_iter()
            .chain(rows)
            .collect();
        lines.extend(aligned_rows(&rows));
    }
    if !told.hooks.is_empty() {
        let heading = [
            "COMMAND",
            "WITH HOOKS OF ANY MODULE",
            "ADDED P50",
            "P99",
            "MAX",
        ];
        let rows = told.hooks.iter().map(hook_row);
        let rows: Vec<_> = [heading.map(str::to_owned)]
            .into_iter()
            .chain(rows)
            .collect();
        lines.extend(aligned_rows(&rows));
    }
    if told.uncounted_calls > 0 {
        lines.push(format!(
            "and {} calls of functions beyond those that the server counts",
            told.uncounted_calls
        ));
    }
    lines
}

fn function_row(it: &FunctionReport) -> [String; 11] {
    let errors: Vec<String> = it
        .errors
        .iter()
        .map(|(code, count)| format!("{} {count}", plain(code)))
        .collect();
    let version = match it.active {
        true => format!("{} active", it.version),
        false => it.version.to_string(),
    };
    [
        format!("{}.{}", plain(&it.module), plain(&it.function)),
        version,
        it.calls.to_string(),
        match errors.is_empty() {
            true => "-".to_owned(),
            false => errors.join(", "),
        },
        it.conflicts.to_string(),
        it.retries.to_string(),
        show_nanoseconds(it.cpu_ns.p50),
        show_nanoseconds(it.cpu_ns.p99),
        show_nanoseconds(it.cpu_ns.max),
        it.fuel.p50.to_string(),
        show_bytes(it.memory_bytes),
    ]
}

fn hook_row(it: &HookTime) -> [String; 5] {
    [
        plain(&it.command),
        it.requests.to_string(),
        show_nanoseconds(it.added_ns.p50),
        show_nanoseconds(it.added_ns.p99),
        show_nanoseconds(it.added_ns.max),
    ]
}

/// Three digits, in the largest unit that has one before the point.
fn show_nanoseconds(nanoseconds: u64) -> String {
    let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000)];
    let Some((unit, size)) = units.into_iter().find(|(_, size)| nanoseconds >= *size) else {
        return format!("{nanoseconds}ns");
    };
    let (whole, rest) = (nanoseconds / size, nanoseconds % size * 100 / size);
    match whole {
        0..10 => format!("{whole}.{rest:02}{unit}"),
        10..100 => format!("{whole}.{}{unit}", rest / 10),
        _ => format!("{whole}{unit}"),
    }
}

/// All of it, for programs.
pub(crate) fn document(told: &StatsReply) -> Value {
    json!({
        "counted_ms": told.counted_ms,
        "functions": told.functions.iter().map(function_document).collect::<Vec<_>>(),
        "hooks": told.hooks.iter().map(hook_document).collect::<Vec<_>>(),
        "uncounted_calls": told.uncounted_calls,
    })
}

fn function_document(it: &FunctionReport) -> Value {
    json!({
        "module": it.module,
        "version": it.version,
        "active": it.active,
        "function": it.function,
        "kind": it.kind.name(),
        "calls": it.calls,
        "errors": it.errors,
        "conflicts": it.conflicts,
        "retries": it.retries,
        "fuel": summary_document(&it.fuel),
        "cpu_ns": summary_document(&it.cpu_ns),
        "memory_bytes": it.memory_bytes,
    })
}

fn hook_document(it: &HookTime) -> Value {
    json!({
        "command": it.command,
        "requests": it.requests,
        "added_ns": summary_document(&it.added_ns),
    })
}

fn summary_document(it: &Summary) -> Value {
    json!({ "total": it.total, "p50": it.p50, "p99": it.p99, "max": it.max })
}

#[cfg(test)]
mod tests {
    use luge_client::FunctionKind;

    use super::*;

    fn told() -> StatsReply {
        let summary = |p50| Summary {
            total: 10 * p50,
            p50,
            p99: 2 * p50,
            max: 12_345_678,
        };
        StatsReply {
            counted_ms: 60_000,
            functions: vec![FunctionReport {
                module: "bank".to_owned(),
                version: 2,
                active: true,
                function: "transfer".to_owned(),
                kind: FunctionKind::Procedure,
                calls: 10,
                errors: [("rejected".to_owned(), 1), ("trap".to_owned(), 2)].into(),
                conflicts: 3,
                retries: 3,
                fuel: summary(4_100),
                cpu_ns: summary(2_340),
                memory_bytes: 1 << 20,
            }],
            hooks: vec![HookTime {
                command: "set".to_owned(),
                requests: 7,
                added_ns: summary(640),
            }],
            uncounted_calls: 0,
        }
    }

    #[test]
    fn functions_are_one_a_line_and_so_are_commands_with_hooks() {
        let expected = [
            "FUNCTION       VERSION   CALLS  ERRORS              CONFLICTS  RETRIES  P50     P99     MAX     FUEL  MEMORY",
            "bank.transfer  2 active  10     rejected 1, trap 2  3          3        2.34µs  4.68µs  12.3ms  4100  1MiB",
            "COMMAND  WITH HOOKS OF ANY MODULE  ADDED P50  P99     MAX",
            "set      7                         640ns      1.28µs  12.3ms",
        ];
        assert_eq!(lines(&told()), expected);
    }

    #[test]
    fn the_document_has_every_number() {
        let document = document(&told());
        assert_eq!(document["functions"][0]["errors"]["trap"], 2);
        assert_eq!(document["functions"][0]["cpu_ns"]["p99"], 4_680);
        assert_eq!(document["hooks"][0]["added_ns"]["max"], 12_345_678);
    }
}
