//! Names and versions that there are not: what is missing, what there is, and what to do.

use luge_protocol::{ErrorCode, ErrorReply};

use super::super::refusal::named;
use super::candidate::MAX_NAME_BYTES;
use crate::function::{NoRoom, Registry, Versions};

/// The most names or numbers that a message lists.
const MAX_LISTED: usize = 20;

/// No module has this name.
pub(super) fn no_module<M>(registry: &Registry<M>, name: &str) -> ErrorReply {
    let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
    let names: Vec<&String> = registry.modules().keys().collect();
    let known = match names.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are {}", list(&names)),
    };
    not_found(format!(
        "no module `{}`; {known}; {push} registers one",
        shown.escape_default(),
        push = named("module.push"),
    ))
}

/// The module has no version of this number, or no longer.
pub(super) fn no_version(name: &str, number: u64, versions: &Versions) -> ErrorReply {
    let known = known(versions);
    not_found(match (1..=versions.newest()).contains(&number) {
        true => format!(
            "version {number} of the module `{name}` is no longer kept; there are {known}; push it again, and `max_module_versions` tells how many are kept"
        ),
        false => format!(
            "the module `{name}` has no version {number}; there are {known}; {list} shows them",
            list = named("module.list"),
        ),
    })
}

/// There is no version to go back to.
pub(super) fn no_rollback(name: &str, versions: &Versions) -> ErrorReply {
    let why = match versions.active() {
        Some(active) => {
            let others = match versions.kept().len() {
                1 => "",
                _ => ", but for those that were rolled back from",
            };
            format!(
                "there is no version to go back to: none that is kept was active before version {active} of the module `{name}`{others}"
            )
        }
        None => format!("no version of the module `{name}` is active, nor was one"),
    };
    let known = known(versions);
    not_found(format!(
        "{why}; there are {known}; {activate} puts any of them in force",
        activate = named("module.activate"),
    ))
}

/// What must be kept is too much.
pub(super) fn no_room(name: &str, error: &NoRoom) -> ErrorReply {
    let message = format!(
        "the module `{name}` can't be registered: {error}; raise `max_module_stored_bytes`, or remove the module first"
    );
    ErrorReply::new(ErrorCode::TooLarge, message)
}

fn not_found(message: String) -> ErrorReply {
    ErrorReply::new(ErrorCode::NotFound, message)
}

/// The versions, the newest first.
fn known(versions: &Versions) -> String {
    let shown = |number: &u64| match versions.active() == Some(*number) {
        true => format!("{number} (active)"),
        false => number.to_string(),
    };
    let numbers: Vec<String> = versions.kept().keys().rev().map(shown).collect();
    list(&numbers)
}

fn list(names: &[impl AsRef<str>]) -> String {
    let mut shown: Vec<String> = names
        .iter()
        .take(MAX_LISTED)
        .map(|name| name.as_ref().to_owned())
        .collect();
    if let Some(more) = names.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}
