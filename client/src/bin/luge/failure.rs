//! How a command fails: what goes to standard error, and the exit code.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use luge_client::{Error, ErrorCode, ErrorReply};

use crate::json;
use crate::print::{escape_for_line, escape_for_terminal};

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server, or the way to it.
    Client(Error),
    /// The same, for a watch, which can go on with this commit.
    Watch {
        /// What ended it.
        error: Error,
        /// The first commit that it has not told.
        from: u64,
    },
    /// Something on this side: a file, the arguments, the output of a procedure.
    Local {
        /// As in `error: CODE: message`.
        code: &'static str,
        /// One sentence.
        message: String,
    },
    /// Standard output failed.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn local(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Local { code, message }
    }

    /// Tells it on standard error, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if let Self::Output(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // The reader has what it wanted, as `head` does.
            return ExitCode::SUCCESS;
        }
        // There is nobody left to tell that standard error failed.
        let _ = io::stderr().write_all(self.text().as_bytes());
        match self {
            Self::Local { code: "usage", .. } => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Client(Error::Server(reply) | Error::Ended(reply)) => server_text(reply),
            Self::Client(error) => client_text(error),
            Self::Watch { error, from } => watch_text(error, *from),
            Self::Local { code, message } => first_line(code, message),
            Self::Output(error) => first_line("output", &error.to_string()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn first_line(code: &str, message: &str) -> String {
    let (code, message) = (
        escape_for_line(code.as_bytes()),
        escape_for_terminal(message.as_bytes()),
    );
    format!("error: {code}: {message}\n")
}

fn watch_text(error: &Error, from: u64) -> String {
    match error {
        // Its details say where to go on.
        Error::Server(reply) | Error::Ended(reply) if reply.details().sequence.is_some() => {
            server_text(reply)
        }
        Error::Server(reply) | Error::Ended(reply) => server_text(reply) + &go_on(from),
        _ => client_text(error) + &go_on(from),
    }
}

fn go_on(from: u64) -> String {
    format!("  to go on: --from {from}\n")
}

/// The error's line, and below it what the details say.
fn server_text(reply: &ErrorReply) -> String {
    let details = reply.details();
    let mut lines = vec![];
    if let (Some(module), Some(function)) = (&details.module, &details.function) {
        lines.push(format!("function: {module}.{function}"));
    }
    lines.extend(details.cause.map(|cause| format!("cause: {cause}")));
    lines.extend(details.index.map(|index| format!("operation: {index}")));
    lines.extend(
        details
            .version
            .map(|version| format!("current version: {version}")),
    );
    lines.extend(
        details
            .sequence
            .map(|sequence| format!("to go on: --from {sequence}")),
    );
    lines.extend(details.code.map(|code| format!("code: {code}")));
    let payload = details.payload.filter(|payload| !payload.is_empty());
    lines.extend(payload.map(|payload| format!("payload: {}", json::payload(&payload))));
    lines.extend(details.call.map(|call| format!("call: {call}")));
    lines.extend(details.log.map(|log| format!("log: {log}")));
    if reply.code() == ErrorCode::Unauthenticated {
        lines.push("to prove who you are: --token-file, LUGE_TOKEN_FILE or LUGE_TOKEN".to_owned());
    }
    let frames = details.backtrace.unwrap_or_default();
    lines.extend(frames.into_iter().map(|frame| format!("  at {frame}")));
    lines
        .iter()
        .fold(first_line(&reply.0, &reply.1), |mut text, line| {
            writeln!(text, "  {}", escape_for_line(line.as_bytes()))
                .expect("a String takes the text");
            text
        })
}

fn client_text(error: &Error) -> String {
    let message = match error {
        Error::Connect { address, source } => match source.kind() {
            io::ErrorKind::ConnectionRefused => format!(
                "nothing listens at {address}; start a server with `luge-server`, or name another \
                 one with --addr or LUGE_ADDR"
            ),
            _ => format!("{error}: {source}"),
        },
        _ => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    };
    first_line(code_of(error), &message)
}

/// The codes of what fails on this side of the connection.
fn code_of(error: &Error) -> &'static str {
    match error {
        Error::Connect { .. } => "no_connection",
        Error::Tls(_) => "tls",
        Error::Io(_) | Error::Closed => "connection_lost",
        Error::Protocol(_) => "protocol",
        Error::Timeout(_) => "timeout",
        Error::TooLarge { .. } => "too_large",
        Error::Arguments(_) => "arguments",
        Error::Output(_) => "output",
        Error::Wat(_) => "invalid_module",
        Error::Behind { .. } => "overloaded",
        Error::Write(_) => "file",
        _ => "internal",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use luge_client::ErrorDetails;

    use super::*;

    #[track_caller]
    fn check(error: Error, expected: &str) {
        assert_eq!(Failure::from(error).text(), expected);
    }

    #[test]
    fn a_refused_connection_says_how_to_start_a_server() {
        let error = Error::Connect {
            address: "127.0.0.1:1".to_owned(),
            source: Arc::new(io::ErrorKind::ConnectionRefused.into()),
        };
        check(
            error,
            "error: no_connection: nothing listens at 127.0.0.1:1; start a server with `luge-server`, or \
             name another one with --addr or LUGE_ADDR\n",
        );
    }

    #[test]
    fn a_rejection_shows_its_code_and_its_payload_as_json() {
        let details = ErrorDetails {
            module: Some("bank".to_owned()),
            function: Some("transfer".to_owned()),
            code: Some(-3),
            payload: Some(b"\x81\xa7missing\x05"[..].into()),
            ..ErrorDetails::default()
        };
        let reply = ErrorReply::new(ErrorCode::Rejected, "the procedure refused").with(details);
        check(
            Error::Server(reply),
            "error: rejected: the procedure refused\n  function: bank.transfer\n  code: -3\n  \
             payload: {\"missing\":5}\n",
        );
    }

    #[test]
    fn a_trap_shows_its_back_trace() {
        let details = ErrorDetails {
            call: Some(7),
            log: Some("no such account".to_owned()),
            backtrace: Some(vec!["inner".to_owned(), "outer".to_owned()]),
            ..ErrorDetails::default()
        };
        let reply = ErrorReply::new(ErrorCode::Trap, "unreachable").with(details);
        check(
            Error::Server(reply),
            "error: trap: unreachable\n  call: 7\n  log: no such account\n    at inner\n    at outer\n",
        );
    }

    #[test]
    fn what_a_guest_says_can_t_act_upon_the_terminal() {
        let reply = ErrorReply::new(ErrorCode::Blocked, "\u{1b}[31mno");
        check(Error::Server(reply), "error: blocked: \\x1b[31mno\n");
    }
}
