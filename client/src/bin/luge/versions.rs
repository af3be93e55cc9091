//! How versions of modules are shown: what became of one, and the list of all.

use luge_client::{ModuleChange, ModuleDescription, ModuleOutcome, ModuleSummary, VersionSummary};
use serde_json::{Value, json};

use crate::module::plain;
use crate::units::{show_bytes, show_moment};

/// How much of a hash the list shows; `--json` has all of it.
const SHOWN_HASH_DIGITS: usize = 12;

/// Whether a version is in force, and what the command did, in indented lines.
pub(crate) fn state(module: &ModuleDescription) -> Vec<String> {
    let Some(change) = &module.change else {
        return vec![format!("  state      {}", activity(module))];
    };
    let mut lines = Vec::new();
    if change.dry_run {
        lines.push("  dry run    nothing was changed; a push would lead to this".to_owned());
    }
    lines.push(format!("  state      {}", outcome(module, change)));
    if !change.dropped.is_empty() {
        let dropped: Vec<String> = change.dropped.iter().map(ToString::to_string).collect();
        lines.push(format!("  dropped    version {}", dropped.join(", ")));
    }
    lines
}

fn outcome(module: &ModuleDescription, change: &ModuleChange) -> String {
    let before = change
        .active_before
        .filter(|before| module.active && *before != module.version)
        .map_or(String::new(), |before| {
            format!(", in place of version {before}")
        });
    let activity = activity(module);
    match change.outcome {
        ModuleOutcome::Unchanged => format!("unchanged: it was there already, {activity}"),
        ModuleOutcome::Pushed | ModuleOutcome::Activated => format!("{activity}{before}"),
    }
}

fn activity(module: &ModuleDescription) -> String {
    match module.active {
        true => "active".to_owned(),
        false => format!(
            "not active; `luge module activate {} {}` puts it in force",
            plain(&module.name),
            module.version
        ),
    }
}

/// One line a version below a heading, the columns aligned.
pub(crate) fn table(modules: &[ModuleSummary]) -> Vec<String> {
    const HEADING: [&str; 10] = [
        "NAME",
        "VERSION",
        "STATE",
        "PROCEDURES",
        "HOOKS",
        "KEYS",
        "SIZE",
        "PUSHED",
        "SHA256",
        "SETTINGS",
    ];
    let mut rows = vec![HEADING.map(str::to_owned)];
    for module in modules {
        rows.extend(module.versions.iter().map(|version| row(module, version)));
    }
    aligned_rows(&rows)
}

/// Rows with their columns aligned.
pub(crate) fn aligned_rows<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    rows.iter().map(|row| aligned(row, &widths)).collect()
}

fn row(module: &ModuleSummary, version: &VersionSummary) -> [String; 10] {
    [
        plain(&module.name),
        version.version.to_string(),
        place(module, version.version).to_owned(),
        version.procedures.to_string(),
        version.hooks.to_string(),
        keys(version.granted),
        show_bytes(version.size),
        show_moment(version.pushed_ms),
        beginning(&version.sha256),
        version
            .settings
            .as_deref()
            .map_or("-".to_owned(), beginning),
    ]
}

/// As much of a hash as tells it from others.
fn beginning(hash: &str) -> String {
    plain(hash).chars().take(SHOWN_HASH_DIGITS).collect()
}

/// Which keys a version may use, in a word.
fn keys(granted: Option<u64>) -> String {
    match granted {
        None => "all".to_owned(),
        Some(0) => "none".to_owned(),
        Some(1) => "1 prefix".to_owned(),
        Some(count) => format!("{count} prefixes"),
    }
}

/// What a version is to its module.
fn place(module: &ModuleSummary, version: u64) -> &'static str {
    if module.active == Some(version) {
        "active"
    } else if module.rollback == Some(version) {
        "rollback"
    } else {
        "-"
    }
}

fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:<width$}"))
        .collect();
    cells.join("  ").trim_end().to_owned()
}

/// A module with its versions.
pub(crate) fn document(module: &ModuleSummary) -> Value {
    let versions: Vec<Value> = module.versions.iter().map(version_document).collect();
    json!({
        "name": module.name,
        "active": module.active,
        "rollback": module.rollback,
        "stored_bytes": module.stored_bytes,
        "versions": versions,
    })
}

fn version_document(version: &VersionSummary) -> Value {
    json!({
        "version": version.version,
        "sha256": version.sha256,
        "settings": version.settings,
        "size": version.size,
        "pushed_ms": version.pushed_ms,
        "procedures": version.procedures,
        "hooks": version.hooks,
        "granted": version.granted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_a_line_for_each_version_with_its_columns_aligned() {
        let version = |version| VersionSummary {
            version,
            sha256: "ab".repeat(32),
            size: 100,
            pushed_ms: 0,
            procedures: 0,
            hooks: 12,
            granted: version.checked_sub(9),
            settings: (version > 8).then(|| "cd".repeat(32)),
        };
        let module = ModuleSummary {
            name: "a-longer-name".to_owned(),
            active: Some(9),
            rollback: Some(10),
            stored_bytes: 600,
            versions: vec![version(8), version(9), version(10)],
        };
        let expected = [
            "NAME           VERSION  STATE     PROCEDURES  HOOKS  KEYS      SIZE  PUSHED                   SHA256        SETTINGS",
            "a-longer-name  8        -         0           12     all       100B  1970-01-01 00:00:00 UTC  abababababab  -",
            "a-longer-name  9        active    0           12     none      100B  1970-01-01 00:00:00 UTC  abababababab  cdcdcdcdcdcd",
            "a-longer-name  10       rollback  0           12     1 prefix  100B  1970-01-01 00:00:00 UTC  abababababab  cdcdcdcdcdcd",
        ];
        assert_eq!(table(&[module]), expected);
    }
}
