//! The commands on modules.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use luge_client::{
    Client, Error, Grant, HookDescription, HookOverride, Isolation, Key, LimitsRequest,
    ModuleDescription, OnFailure, Phase, ProcedureDescription, PushOptions,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::{Module, Push};
use crate::failure::Failure;
use crate::json;
use crate::print::{Printer, escape_for_line};
use crate::run::done;
use crate::units::{show_bytes, show_milliseconds, show_moment};
use crate::{stats, versions};

/// Carries out a command on modules and prints what it answers.
pub(crate) async fn run(
    client: &Client,
    command: Module,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    match command {
        Module::Push(arguments) => {
            let module = push(client, *arguments).await?;
            done(printer, &document(&module), &description(&module))
        }
        Module::Activate { name, version } => {
            let module = client.module_activate(&name, version).await?;
            done(printer, &document(&module), &description(&module))
        }
        Module::Rollback { name } => {
            let module = client.module_rollback(&name).await?;
            done(printer, &document(&module), &description(&module))
        }
        Module::Show { name, version } => {
            let module = match version {
                Some(version) => client.module_show_version(&name, version).await?,
                None => client.module_show(&name).await?,
            };
            done(printer, &document(&module), &description(&module))
        }
        Module::List => {
            let modules = client.module_list().await?;
            if printer.json {
                printer.document(&modules.iter().map(versions::document).collect())?;
            }
            for line in versions::table(&modules) {
                printer.line(&line)?;
            }
            Ok(Outcome::Done)
        }
        Module::Stats { name } => {
            let told = client.module_stats(name.as_deref()).await?;
            if printer.json {
                printer.document(&stats::document(&told))?;
            }
            for line in stats::lines(&told) {
                printer.line(&line)?;
            }
            Ok(Outcome::Done)
        }
        Module::Remove { name } => {
            client.module_remove(&name).await?;
            done(printer, &json!({ "removed": name }), "ok")
        }
    }
}

async fn push(client: &Client, arguments: Push) -> Result<ModuleDescription, Failure> {
    let file = arguments.file.display().to_string();
    let module = std::fs::read(&arguments.file)
        .map_err(|error| Failure::local("file", unreadable(&arguments, &error)))?;
    check_form(&arguments, &module)?;
    let limits = LimitsRequest {
        fuel: arguments.fuel,
        cpu_ms: arguments.cpu.map(milliseconds),
        deadline_ms: arguments.deadline.map(milliseconds),
        memory_bytes: arguments.memory,
        running_calls: arguments.running_calls,
        ..LimitsRequest::default()
    };
    let change = HookOverride {
        hook: arguments.hook,
        prefix: arguments
            .prefix
            .map(|prefix| Key::from(prefix.into_encoded_bytes())),
        order: arguments.order,
        on_failure: arguments.on_failure.map(OnFailure::from),
    };
    let grant = granted(
        arguments.grant_read,
        arguments.grant_write,
        arguments.grant_none,
    );
    let unchanged = change == HookOverride::default();
    let options = PushOptions {
        config: arguments.config.into_iter().collect(),
        limits,
        overrides: if unchanged { vec![] } else { vec![change] },
        grant,
        isolation: arguments.isolation.map(Isolation::from),
        inactive: arguments.inactive,
        dry_run: arguments.dry_run,
    };
    let pushed = client.module_push(&arguments.name, &module, options).await;
    pushed.map_err(|error| match error {
        // The library has the bytes, and not where they are from.
        Error::Wat(message) => Error::Wat(message.replace("<anon>", &file)).into(),
        error => error.into(),
    })
}

/// What is granted where the command says so: all of what it names, and nothing else.
fn granted(read: Vec<OsString>, write: Vec<OsString>, is_none: bool) -> Option<Grant> {
    let prefixes = |prefixes: Vec<OsString>| {
        let bytes = prefixes.into_iter().map(OsString::into_encoded_bytes);
        bytes.map(Into::into).collect::<Vec<_>>()
    };
    let is_said = is_none || !read.is_empty() || !write.is_empty();
    is_said.then(|| Grant {
        read: prefixes(read),
        write: prefixes(write),
    })
}

fn unreadable(arguments: &Push, error: &io::Error) -> String {
    let hint = match Path::new(&arguments.name).is_file() {
        true => "; the name stands before the file: luge module push NAME FILE",
        false => "",
    };
    format!("{}: {error}{hint}", arguments.file.display())
}

/// Refuses a file that is neither of the forms of a module, where its name can still be told.
fn check_form(arguments: &Push, module: &[u8]) -> Result<(), Failure> {
    let text = module.trim_ascii_start();
    if module.starts_with(b"\0asm") || text.starts_with(b"(") || text.starts_with(b";;") {
        return Ok(());
    }
    let message = format!(
        "{} is no module: a WebAssembly binary begins with \\0asm, and its text form with `(` or `;;`",
        arguments.file.display()
    );
    Err(Failure::local("file", message))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A version, as text: what it is, what became of it, what it has, what to know.
fn description(module: &ModuleDescription) -> String {
    let mut lines = vec![heading(module)];
    if !module.description.is_empty() {
        lines.push(format!("  {}", plain(&module.description)));
    }
    lines.extend(versions::state(module));
    lines.push(format!(
        "  {}, pushed {}, sha256 {}",
        show_bytes(module.size),
        show_moment(module.pushed_ms),
        plain(&module.sha256)
    ));
    lines.push(format!("  limits     {}", limits_line(&module.limits)));
    for (key, value) in &module.config {
        lines.push(format!("  config     {}={}", plain(key), plain(value)));
    }
    if module.isolation == Isolation::Reuse {
        lines.push("  isolation  reuse: instances are kept between requests".to_owned());
    }
    lines.extend(module.grant.as_ref().map(grant_line));
    lines.extend(module.procedures.iter().map(|each| procedure(module, each)));
    lines.extend(module.hooks.iter().map(hook));
    let exports = module.change.iter().flat_map(|change| &change.exports);
    lines.extend(exports.map(|it| {
        let (name, signature) = (plain(&it.export), plain(&it.signature));
        format!("  export     {name} {signature}")
    }));
    for warning in &module.warnings {
        lines.push(format!("  warning    {}", plain(warning)));
    }
    lines.join("\n")
}

fn heading(module: &ModuleDescription) -> String {
    let release = match module.release.as_str() {
        "" => String::new(),
        release => format!(", release {}", plain(release)),
    };
    format!(
        "{} version {}{release}",
        plain(&module.name),
        module.version
    )
}

fn limits_line(limits: &LimitsRequest) -> String {
    let parts = [
        limits.fuel.map(|fuel| format!("fuel {fuel}")),
        limits
            .cpu_ms
            .map(|cpu| format!("cpu {}", show_milliseconds(cpu))),
        limits
            .deadline_ms
            .map(|deadline| format!("deadline {}", show_milliseconds(deadline))),
        limits
            .memory_bytes
            .map(|memory| format!("memory {}", show_bytes(memory))),
        limits
            .output_bytes
            .map(|output| format!("output {}", show_bytes(output))),
        limits
            .write_keys
            .zip(limits.write_bytes)
            .map(|(keys, bytes)| format!("writes {keys} keys, {}", show_bytes(bytes))),
        limits
            .running_calls
            .map(|calls| format!("{calls} calls at once")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn grant_line(grant: &Grant) -> String {
    let keys = |prefixes: &[Bytes]| match prefixes {
        [] => "no key".to_owned(),
        prefixes => prefixes
            .iter()
            .map(|it| keys_of(it))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let (read, write) = (keys(&grant.read), keys(&grant.write));
    format!("  grant      read {read}; write {write}")
}

/// The keys that begin with a prefix.
fn keys_of(prefix: &[u8]) -> String {
    match prefix.is_empty() {
        true => "every key".to_owned(),
        false => format!("keys \"{}…\"", escape_for_line(prefix)),
    }
}

fn procedure(module: &ModuleDescription, procedure: &ProcedureDescription) -> String {
    let mut line = format!(
        "  procedure  {}.{}",
        plain(&module.name),
        plain(&procedure.procedure)
    );
    if procedure.read_only {
        line.push_str(", read-only");
    }
    with_description(line, &procedure.description)
}

fn hook(hook: &HookDescription) -> String {
    let commands: Vec<&str> = hook.commands.iter().map(|command| command.name()).collect();
    let place = match hook.phase {
        Phase::Request => "before",
        Phase::Response => "after",
    };
    let keys = keys_of(&hook.prefix);
    let line = format!(
        "  hook       {} {place} {} of {keys}, order {}, on failure {}",
        plain(&hook.hook),
        commands.join(", "),
        hook.order,
        on_failure(hook.on_failure)
    );
    with_description(line, &hook.description)
}

fn on_failure(rule: OnFailure) -> &'static str {
    match rule {
        OnFailure::Block => "block",
        OnFailure::Continue => "continue",
    }
}

fn with_description(mut line: String, description: &str) -> String {
    if !description.is_empty() {
        line.push_str(": ");
        line.push_str(&plain(description));
    }
    line
}

/// What a module's author wrote, unable to act upon the terminal.
pub(crate) fn plain(text: &str) -> String {
    escape_for_line(text.as_bytes())
}

fn document(module: &ModuleDescription) -> Value {
    let hooks: Vec<Value> = module.hooks.iter().map(hook_document).collect();
    let mut document = json!({
        "name": module.name,
        "version": module.version,
        "active": module.active,
        "sha256": module.sha256,
        "size": module.size,
        "pushed_ms": module.pushed_ms,
        "release": module.release,
        "description": module.description,
        "procedures": serde_json::to_value(&module.procedures).unwrap_or_default(),
        "hooks": hooks,
        "config": module.config,
        "limits": serde_json::to_value(&module.limits).unwrap_or_default(),
        "grant": module.grant.as_ref().map(grant_document),
        "isolation": serde_json::to_value(module.isolation).unwrap_or_default(),
        "warnings": module.warnings,
    });
    if let (Some(change), Value::Object(fields)) = (&module.change, &mut document) {
        let change = serde_json::to_value(change).unwrap_or_default();
        fields.insert("change".to_owned(), change);
    }
    document
}

fn grant_document(grant: &Grant) -> Value {
    let prefixes = |prefixes: &[Bytes]| -> Vec<Value> {
        prefixes.iter().map(|it| json::from_bytes(it)).collect()
    };
    json!({ "read": prefixes(&grant.read), "write": prefixes(&grant.write) })
}

/// By hand, because serde would write the prefix as a list of numbers.
fn hook_document(hook: &HookDescription) -> Value {
    let commands: Vec<&str> = hook.commands.iter().map(|command| command.name()).collect();
    json!({
        "hook": hook.hook,
        "phase": serde_json::to_value(hook.phase).unwrap_or_default(),
        "commands": commands,
        "prefix": json::from_bytes(&hook.prefix),
        "order": hook.order,
        "on_failure": on_failure(hook.on_failure),
        "description": hook.description,
    })
}

#[cfg(test)]
mod tests {
    use luge_client::HookCommand;

    use super::*;

    fn validator() -> ModuleDescription {
        ModuleDescription {
            name: "checks".to_owned(),
            version: 2,
            active: true,
            sha256: "ab12".to_owned(),
            size: 2048,
            pushed_ms: 0,
            release: "1.0".to_owned(),
            description: String::new(),
            procedures: vec![ProcedureDescription {
                procedure: "count".to_owned(),
                read_only: true,
                description: "counts users".to_owned(),
            }],
            hooks: vec![HookDescription {
                hook: "validate".to_owned(),
                phase: Phase::Request,
                commands: vec![HookCommand::Set, HookCommand::Del],
                prefix: b"user:"[..].into(),
                order: -5,
                on_failure: OnFailure::Continue,
                description: String::new(),
            }],
            config: [("mode".to_owned(), "strict".to_owned())].into(),
            limits: LimitsRequest {
                fuel: Some(1000),
                memory_bytes: Some(16 << 20),
                ..LimitsRequest::default()
            },
            grant: Some(Grant {
                read: vec![b"user:"[..].into(), b"\x00"[..].into()],
                write: vec![],
            }),
            isolation: Isolation::Reuse,
            warnings: vec!["validate fails open".to_owned()],
            change: None,
        }
    }

    #[test]
    fn a_push_shows_what_is_in_force() {
        let expected = "\
checks version 2, release 1.0
  state      active
  2KiB, pushed 1970-01-01 00:00:00 UTC, sha256 ab12
  limits     fuel 1000, memory 16MiB
  config     mode=strict
  isolation  reuse: instances are kept between requests
  grant      read keys \"user:…\", keys \"\\x00…\"; write no key
  procedure  checks.count, read-only: counts users
  hook       validate before set, del of keys \"user:…\", order -5, on failure continue
  warning    validate fails open";
        assert_eq!(description(&validator()), expected);
    }

    #[test]
    fn the_document_names_the_same_with_a_readable_prefix() {
        let document = document(&validator());
        assert_eq!(document["hooks"][0]["prefix"], "user:");
        assert_eq!(document["hooks"][0]["phase"], "request");
        assert_eq!(document["limits"]["fuel"], 1000);
        assert_eq!(document["grant"]["read"][0], "user:");
        assert_eq!(document["procedures"][0]["read_only"], true);
    }

    #[test]
    fn what_an_author_wrote_can_t_act_upon_the_terminal() {
        let mut module = validator();
        module.description = "\u{1b}[2J".to_owned();
        assert!(description(&module).contains(r"\x1b[2J"));
    }
}
