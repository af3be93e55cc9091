//! `call` and its dry runs, `ps`.

use std::fmt::Display;

use luge_client::{Client, DryRunReply, DryRunWrite, RunningCall};
use serde_json::{Value, json};

use crate::args::Call;
use crate::failure::Failure;
use crate::print::{Printer, escape_for_line};
use crate::run::{bytes, done, read_input};
use crate::units::{show_bytes, show_milliseconds, show_moment};
use crate::{Outcome, json};

/// Calls a procedure and prints what it returns.
pub(crate) async fn call(
    client: &Client,
    arguments: Call,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    if let Some(raw) = arguments.raw {
        let raw = bytes(raw)?;
        if arguments.dry_run {
            let told = client.dry_run(&arguments.procedure, raw).await?;
            return print_dry_run(&told, json::from_bytes(&told.output), printer);
        }
        let output = client.call_raw(&arguments.procedure, raw).await?;
        printer.value(&output)?;
        return Ok(Outcome::Done);
    }
    let text = match arguments.arguments.as_deref() {
        Some("-") => String::from_utf8(read_input()?)
            .map_err(|error| Failure::local("arguments", format!("not UTF-8: {error}")))?,
        Some(text) => text.to_owned(),
        None => "null".to_owned(),
    };
    let bytes = json::to_messagepack(&text)
        .map_err(|error| Failure::local("arguments", not_json(&error)))?;
    if arguments.dry_run {
        let told = client.dry_run(&arguments.procedure, bytes).await?;
        let output = match told.output.is_empty() {
            true => Value::Null,
            false => {
                json::from_messagepack(&told.output).map_err(|error| not_messagepack(&error))?
            }
        };
        return print_dry_run(&told, output, printer);
    }
    let output = client.call_raw(&arguments.procedure, bytes).await?;
    print_output(&output, printer)
}

/// What a dry run would have answered and written, and what it used.
fn print_dry_run(
    told: &DryRunReply,
    output: Value,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let write = |DryRunWrite(key, value, expires_ms): &DryRunWrite| {
        let value = value.as_ref().map(|value| json::from_bytes(value));
        let expires_ms = (*expires_ms != 0).then_some(*expires_ms);
        json!({ "key": json::from_bytes(key), "value": value, "expires_ms": expires_ms })
    };
    let document = json!({
        "output": output,
        "writes": told.writes.iter().map(write).collect::<Vec<_>>(),
        "more": told.more,
        "fuel": told.fuel,
        "cpu_us": told.cpu_us,
        "memory_bytes": told.memory_bytes,
    });
    let mut lines = vec![format!("output\t{output}")];
    lines.extend(told.writes.iter().map(write_line));
    lines.extend((told.more > 0).then(|| format!("and {} keys more", told.more)));
    lines.push(format!(
        "used\t{} fuel, {} µs, {}",
        told.fuel,
        told.cpu_us,
        show_bytes(told.memory_bytes)
    ));
    done(printer, &document, &lines.join("\n"))
}

fn write_line(DryRunWrite(key, value, expires_ms): &DryRunWrite) -> String {
    let key = escape_for_line(key);
    match value {
        None => format!("del\t{key}"),
        Some(value) => {
            let value = escape_for_line(value);
            match expires_ms {
                0 => format!("set\t{key}\t{value}"),
                at => format!("set\t{key}\t{value}\texpires {}", show_moment(*at)),
            }
        }
    }
}

/// Prints the requests that run functions.
pub(crate) async fn list(client: &Client, printer: &mut Printer) -> Result<Outcome, Failure> {
    let calls = client.running_calls().await?;
    if printer.json {
        printer.document(&calls.iter().map(call_document).collect())?;
        return Ok(Outcome::Done);
    }
    if calls.is_empty() {
        return Ok(Outcome::Done);
    }
    let heading = [
        "ID", "COMMAND", "FUNCTION", "USER", "AGE", "ATTEMPT", "CPU", "FUEL", "MEMORY",
    ];
    printer.line(&heading.join("\t"))?;
    for call in &calls {
        printer.line(&call_line(call))?;
    }
    Ok(Outcome::Done)
}

fn call_document(call: &RunningCall) -> Value {
    json!({
        "call": call.call,
        "command": call.command,
        "module": call.module,
        "function": call.function,
        "user": call.user,
        "age_ms": call.age_ms,
        "attempt": call.attempt,
        "cpu_us": call.cpu_us,
        "fuel": call.fuel,
        "memory_bytes": call.memory_bytes,
    })
}

fn call_line(call: &RunningCall) -> String {
    let function = call.module.iter().zip(&call.function);
    let mut function = function.map(|(module, function)| format!("{module}.{function}"));
    let user = call.user.as_deref().unwrap_or("-");
    let cells = [
        call.call.to_string(),
        call.command.clone(),
        function.next().unwrap_or_else(|| "(waits)".to_owned()),
        escape_for_line(user.as_bytes()),
        show_milliseconds(call.age_ms),
        call.attempt.to_string(),
        format!("{}µs", call.cpu_us),
        call.fuel.to_string(),
        show_bytes(call.memory_bytes),
    ];
    cells.join("\t")
}

/// What a procedure returned, as JSON. Nothing where it wrote nothing.
fn print_output(output: &[u8], printer: &mut Printer) -> Result<Outcome, Failure> {
    if output.is_empty() {
        if printer.json {
            printer.document(&Value::Null)?;
        }
        return Ok(Outcome::Done);
    }
    let value = json::from_messagepack(output).map_err(|error| not_messagepack(&error))?;
    printer.document(&value)?;
    Ok(Outcome::Done)
}

fn not_messagepack(error: &impl Display) -> Failure {
    let message = format!(
        "the call succeeded, but what it returned is not MessagePack ({error}); --raw sends and \
         prints bytes as they are"
    );
    Failure::local("output", message)
}

fn not_json(error: &impl Display) -> String {
    format!(
        "not JSON: {error}; names and texts stand in double quotes, and the whole in single ones for \
         the shell, as in '\"anna\"' and '{{\"name\":\"anna\"}}'"
    )
}
