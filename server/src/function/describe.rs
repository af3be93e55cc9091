//! Describers: what a module says of itself, read and checked.

use bytes::Bytes;
use luge_protocol::{
    Grant, HookCommand, HookDescription, HookOverride, Isolation, OnFailure, Phase,
    ProcedureDescription,
};
use serde::Deserialize;

use super::grant;
use super::{Exports, LargeMemory};

/// The most functions that a module may offer. Each request looks through the hooks of its command.
const MAX_FUNCTIONS: usize = 256;

/// What is wrong with what a module says of itself, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DescribeError(pub String);

/// What a module offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The release that its author names.
    pub release: String,
    /// What its author says of it.
    pub description: String,
    /// Its procedures.
    pub procedures: Vec<ProcedureDescription>,
    /// Its hooks.
    pub hooks: Vec<HookDescription>,
    /// The keys that its functions may use; `None` is every key.
    pub grant: Option<Grant>,
    /// Whether its instances are kept between requests.
    pub isolation: Isolation,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// What the describers of a module wrote.
#[derive(Clone, Copy, Debug)]
pub enum Described<'a> {
    /// It has none.
    Nothing,
    /// JSON lines.
    Lines(&'a [u8]),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModuleLine {
    module: ModuleFields,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModuleFields {
    #[serde(default)]
    release: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    isolation: Isolation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProcedureLine {
    procedure: String,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookLine {
    hook: String,
    phase: Phase,
    commands: Vec<String>,
    prefix: Option<String>,
    prefix_hex: Option<String>,
    #[serde(default)]
    order: i32,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantLine {
    grant: GrantFields,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GrantFields {
    read: Vec<String>,
    read_hex: Vec<String>,
    write: Vec<String>,
    write_hex: Vec<String>,
}

/// What a push says of what a module says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes<'a> {
    /// What stands in place of what is described of hooks.
    pub overrides: &'a [HookOverride<'a>],
    /// What is granted; `None` is all that is asked for.
    pub grant: Option<&'a Grant>,
    /// What stands in place of what is described of instances.
    pub isolation: Option<Isolation>,
}

/// Reads what a module says of itself, checks it against what it exports, and applies what the push
/// overrides.
///
/// # Errors
/// Names the line or function and what is wrong with it.
pub fn describe(
    described: Described<'_>,
    exports: &Exports,
    changes: Changes<'_>,
    max_key_bytes: usize,
) -> Result<Description, DescribeError> {
    let mut description = match described {
        Described::Nothing => undescribed(exports)?,
        Described::Lines(lines) => read_lines(lines)?,
    };
    let count = description.procedures.len() + description.hooks.len();
    if count > MAX_FUNCTIONS {
        return Err(DescribeError(format!(
            "it has {count} procedures and hooks, which exceeds the limit of {MAX_FUNCTIONS}"
        )));
    }
    description.warnings.truncate(MAX_FUNCTIONS);
    check_exports(&description, exports)?;
    for change in changes.overrides {
        apply_override(&mut description.hooks, change)?;
    }
    for hook in &description.hooks {
        check_filter(hook, max_key_bytes)?;
    }
    description.isolation = changes.isolation.unwrap_or(description.isolation);
    let asked = description.grant.take();
    if let Some(granted) = changes.grant {
        description
            .warnings
            .extend(grant::lacking(asked.as_ref(), granted));
    }
    description.grant = grant::settle(asked, changes.grant, max_key_bytes)?;
    warn(&mut description, exports);
    description
        .procedures
        .sort_by(|left, right| left.procedure.cmp(&right.procedure));
    description
        .hooks
        .sort_by(|left, right| left.hook.cmp(&right.hook));
    Ok(description)
}

/// Without a describer every callable export is a procedure, but for those that toolchains add.
fn undescribed(exports: &Exports) -> Result<Description, DescribeError> {
    let mut description = Description::default();
    for name in &exports.callable {
        if name == "on_request" || name == "on_response" {
            let phase = if name == "on_request" {
                "request"
            } else {
                "response"
            };
            return Err(DescribeError(format!(
                "the export `{name}` looks like a hook, and nothing describes it; add an export `metadata` that writes {{\"hook\": \"{name}\", \"phase\": \"{phase}\", \"commands\": [\"set\"]}} to the output"
            )));
        }
        if !name.starts_with('_') && !name.starts_with("luge_") {
            description.procedures.push(ProcedureDescription {
                procedure: name.clone(),
                read_only: false,
                description: String::new(),
            });
        }
    }
    if exports.has_hook_imports {
        description.warnings.push(
            "the module imports what only hooks may use, and describes none, so nothing runs around a command; is its describer called `metadata`?"
                .to_owned(),
        );
    }
    for (name, found) in &exports.others {
        if !name.starts_with('_') && !name.starts_with("luge_") {
            description.warnings.push(format!(
                "the export `{name}` is no procedure: its type is {found}, and should be () -> i32"
            ));
        }
    }
    Ok(description)
}

fn read_lines(lines: &[u8]) -> Result<Description, DescribeError> {
    let text = std::str::from_utf8(lines)
        .map_err(|_| DescribeError("the describers' output is not UTF-8".to_owned()))?;
    let mut description = Description::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        read_line(line, &mut description).map_err(|what| {
            let shown: String = line.chars().take(200).map(printable).collect();
            let hint = match line.ends_with('\0') {
                true => {
                    "; it ends with a NUL byte: is the length that it is written with too long?"
                }
                false => "",
            };
            DescribeError(format!(
                "the describer's line {shown} is wrong: {what}{hint}"
            ))
        })?;
    }
    Ok(description)
}

fn printable(character: char) -> char {
    if character.is_control() {
        char::REPLACEMENT_CHARACTER
    } else {
        character
    }
}

fn read_line(line: &str, description: &mut Description) -> Result<(), String> {
    let value: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let has = |field| value.get(field).is_some();
    if has("module") {
        let line: ModuleLine = parse(line)?;
        description.release = line.module.release;
        description.description = line.module.description;
        description.isolation = line.module.isolation;
    } else if has("procedure") {
        let line: ProcedureLine = parse(line)?;
        description.procedures.push(ProcedureDescription {
            procedure: line.procedure,
            read_only: line.read_only,
            description: line.description,
        });
    } else if has("hook") {
        description.hooks.push(read_hook(parse(line)?)?);
    } else if has("grant") {
        let line: GrantLine = parse(line)?;
        grant::add(&mut description.grant, read_grant(line.grant)?);
    } else {
        return Err(
            "it should have a field \"module\", \"procedure\", \"hook\" or \"grant\"".to_owned(),
        );
    }
    Ok(())
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| error.to_string())
}

fn read_hook(line: HookLine) -> Result<HookDescription, String> {
    let mut commands = Vec::new();
    for name in &line.commands {
        let command = HookCommand::from_name(name).ok_or_else(|| {
            let known = HookCommand::ALL.map(HookCommand::name).join(", ");
            format!("unknown command \"{name}\"; hooks see {known}")
        })?;
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    if commands.is_empty() {
        return Err("a hook for no command never fires".to_owned());
    }
    let prefix = match (line.prefix, line.prefix_hex) {
        (Some(_), Some(_)) => return Err("it has both a prefix and a prefix_hex".to_owned()),
        (Some(prefix), None) => Bytes::from(prefix),
        (None, Some(hex)) => decode_hex("prefix_hex", &hex)?,
        (None, None) => Bytes::new(),
    };
    Ok(HookDescription {
        hook: line.hook,
        phase: line.phase,
        commands,
        prefix,
        order: line.order,
        on_failure: line.on_failure,
        description: line.description,
    })
}

fn read_grant(fields: GrantFields) -> Result<Grant, String> {
    let read = |field, texts: Vec<String>, digits: Vec<String>| {
        let texts = texts.into_iter().map(|text| Ok(Bytes::from(text)));
        let digits = digits.iter().map(|digits| decode_hex(field, digits));
        texts.chain(digits).collect::<Result<Vec<_>, String>>()
    };
    Ok(Grant {
        read: read("read_hex", fields.read, fields.read_hex)?,
        write: read("write_hex", fields.write, fields.write_hex)?,
    })
}

fn decode_hex(field: &str, text: &str) -> Result<Bytes, String> {
    let wrong = || format!("the {field} \"{text}\" is not pairs of hexadecimal digits");
    if !text.len().is_multiple_of(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let pairs = (0..text.len()).step_by(2).map(|at| {
        text.get(at..at + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    });
    pairs
        .collect::<Option<Vec<u8>>>()
        .map(Bytes::from)
        .ok_or_else(wrong)
}

fn check_exports(description: &Description, exports: &Exports) -> Result<(), DescribeError> {
    let procedures = description
        .procedures
        .iter()
        .map(|it| ("procedure", &it.procedure));
    let hooks = description.hooks.iter().map(|it| ("hook", &it.hook));
    let mut seen: Vec<&String> = Vec::new();
    for (kind, name) in procedures.chain(hooks) {
        if seen.contains(&name) {
            return Err(DescribeError(format!(
                "the function `{name}` is described twice"
            )));
        }
        if exports.callable.contains(name) {
            seen.push(name);
            continue;
        }
        let other = exports.others.iter().find(|(other, _)| other == name);
        return Err(DescribeError(match other {
            Some((_, found)) => {
                format!("the {kind} `{name}` has the type {found}, and should have () -> i32")
            }
            None => format!("the {kind} `{name}` is described, and not exported"),
        }));
    }
    Ok(())
}

fn apply_override(
    hooks: &mut [HookDescription],
    change: &HookOverride<'_>,
) -> Result<(), DescribeError> {
    let is_meant =
        |hook: &HookDescription| change.hook.as_ref().is_none_or(|name| *name == hook.hook);
    let mut has_changed = false;
    for hook in hooks.iter_mut().filter(|hook| is_meant(hook)) {
        has_changed = true;
        if let Some(prefix) = &change.prefix {
            hook.prefix = Bytes::copy_from_slice(prefix);
        }
        hook.order = change.order.unwrap_or(hook.order);
        hook.on_failure = change.on_failure.unwrap_or(hook.on_failure);
    }
    if has_changed {
        return Ok(());
    }
    Err(DescribeError(match &change.hook {
        Some(name) => {
            format!("the push changes the hook `{name}`, and the module has none of that name")
        }
        None => {
            "the push changes prefix, order or on_failure, and the module has no hooks".to_owned()
        }
    }))
}

fn check_filter(hook: &HookDescription, max_key_bytes: usize) -> Result<(), DescribeError> {
    let name = &hook.hook;
    let length = hook.prefix.len();
    if length > max_key_bytes {
        return Err(DescribeError(format!(
            "the hook `{name}` can never fire: its prefix has {length} bytes, and a key has {max_key_bytes} at the most"
        )));
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    if hook.commands == [HookCommand::Call] && !hook.prefix.iter().all(is_name) {
        return Err(DescribeError(format!(
            "the hook `{name}` can never fire: no procedure's name begins with its prefix {:?}",
            String::from_utf8_lossy(&hook.prefix)
        )));
    }
    Ok(())
}

fn warn(description: &mut Description, exports: &Exports) {
    for hook in &description.hooks {
        if hook.on_failure == OnFailure::Continue {
            description.warnings.push(format!(
                "the hook `{}` fails open: where it fails, requests go on as if it had said yes",
                hook.hook
            ));
        }
    }
    if description.hooks.is_empty() && description.procedures.is_empty() {
        description
            .warnings
            .push("the module has neither procedures nor hooks".to_owned());
    }
    if description.isolation == Isolation::Fresh
        && let Some(LargeMemory { bytes, ready_bytes }) = exports.large_memory
    {
        let (bytes, ready) = (bytes >> 10, ready_bytes >> 10);
        description.warnings.push(format!(
            "a fresh instance begins with {bytes} KiB of memory; with up to {ready} KiB it would be set back behind a call, and so it is made anew for each, which takes a small one many times as long; link it with a smaller stack (`-zstack-size=32768`), or push it with `isolation` `reuse`"
        ));
    }
}
