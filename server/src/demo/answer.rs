//! Answers as `luge` prints them.

use std::time::Duration;

use luge_client::{ErrorReply, ModuleDescription};
use serde_json::Value;

/// A value of the demonstration, which is text.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is left of a few seconds, with the largest unit that it is a whole number of.
pub(super) fn time(left: Duration) -> String {
    match left.subsec_millis() {
        0 => format!("{}s", left.as_secs()),
        _ => format!("{}ms", left.as_millis()),
    }
}

/// What stands on standard error: the code and the sentence, and below it what else the server told.
pub(super) fn error(reply: &ErrorReply) -> String {
    let details = reply.details();
    let mut lines = vec![format!("error: {reply}")];
    if let (Some(module), Some(function)) = (&details.module, &details.function) {
        lines.push(format!("  function: {module}.{function}"));
    }
    lines.extend(details.cause.map(|cause| format!("  cause: {cause}")));
    let version = details.version;
    lines.extend(version.map(|version| format!("  current version: {version}")));
    lines.extend(details.code.map(|code| format!("  code: {code}")));
    let payload = details.payload.filter(|payload| !payload.is_empty());
    lines.extend(payload.map(|payload| format!("  payload: {}", json(&payload))));
    lines.extend(details.call.map(|call| format!("  call: {call}")));
    lines.extend(details.log.map(|log| format!("  log: {log}")));
    let frames = details.backtrace.unwrap_or_default();
    lines.extend(frames.iter().map(|frame| format!("    at {frame}")));
    lines.join("\n")
}

/// A module that was pushed: what it is. The script leaves out what follows.
pub(super) fn module(module: &ModuleDescription) -> String {
    let mut text = format!("{} version {}", module.name, module.version);
    if !module.release.is_empty() {
        text = format!("{text}, release {}", module.release);
    }
    if !module.description.is_empty() {
        text = format!("{text}\n  {}", module.description);
    }
    text + "\n  …"
}

/// A refusal's payload, which is one MessagePack value in all examples.
fn json(payload: &[u8]) -> String {
    rmp_serde::from_slice::<Value>(payload)
        .map_or_else(|_| text(payload), |value| value.to_string())
}
