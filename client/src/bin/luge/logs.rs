//! `logs`: what functions logged.

use luge_client::{Client, Error, ErrorCode, LogEntry, LogLine, LogOptions};
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::Logs;
use crate::failure::Failure;
use crate::module::plain;
use crate::print::Printer;
use crate::units::show_moment;

/// Prints the lines that the server keeps, and with `--follow` those that come.
pub(crate) async fn print(
    client: &Client,
    arguments: Logs,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    if let Some(name) = &arguments.module {
        note_unknown(client, name).await?;
    }
    let mut log = client
        .logs(LogOptions {
            module: arguments.module,
            level: arguments.level.map(Into::into),
            follow: arguments.follow,
        })
        .await?;
    while let Some(entry) = log.next().await? {
        match &entry {
            LogEntry::Line(it) => printer.answer(&document(it), &line(it))?,
            LogEntry::Skipped(lines) => {
                let text = format!("… {lines} lines that the server does not keep any more");
                printer.answer(&json!({ "skipped": lines }), &text)?;
            }
        }
        if arguments.follow {
            // Whoever reads this in a pipe waits for it.
            printer.finish()?;
        }
    }
    Ok(Outcome::Done)
}

/// Says so where no module has this name. Its lines are printed all the same: it may have been removed since
/// it logged them, and with `--follow` it may come.
async fn note_unknown(client: &Client, name: &str) -> Result<(), Failure> {
    match client.module_show(name).await {
        Err(Error::Server(reply)) if reply.code() == ErrorCode::NotFound => {
            eprintln!("note: {}", plain(&reply.1));
            Ok(())
        }
        other => other.map(drop).map_err(Failure::from),
    }
}

fn line(it: &LogLine) -> String {
    let function = match it.function.as_str() {
        "" => plain(&it.module),
        function => format!("{}.{}", plain(&it.module), plain(function)),
    };
    format!(
        "{}\t{}\tcall {}\t{function}\t{}",
        show_moment(it.time_ms),
        it.level.name(),
        it.call,
        shown(&it.message)
    )
}

/// The server has escaped the text; what it left would be a fault of the server's.
fn shown(message: &str) -> String {
    let characters = message.chars().map(|character| match character {
        control if control.is_control() => '\u{fffd}',
        other => other,
    });
    characters.collect()
}

fn document(it: &LogLine) -> Value {
    json!({
        "time_ms": it.time_ms,
        "level": it.level.name(),
        "call": it.call,
        "module": it.module,
        "function": it.function,
        "message": it.message,
    })
}

#[cfg(test)]
mod tests {
    use luge_client::LogLevel;

    use super::*;

    #[test]
    fn a_line_has_columns_and_nothing_for_a_terminal_to_act_upon() {
        let mut it = LogLine {
            time_ms: 1_000,
            level: LogLevel::Warn,
            call: 7,
            module: "bank".to_owned(),
            function: "transfer".to_owned(),
            message: "low\\u{1b}\u{1b}[2J".to_owned(),
        };
        assert_eq!(
            line(&it),
            "1970-01-01 00:00:01 UTC\twarn\tcall 7\tbank.transfer\tlow\\u{1b}\u{fffd}[2J"
        );
        it.function.clear();
        assert!(line(&it).contains("\tbank\t"));
        assert_eq!(document(&it)["level"], "warn");
    }
}
