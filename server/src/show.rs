//! What the program prints.

#![expect(clippy::print_stderr, reason = "this is where the program prints")]

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use luge_server::config::Config;

/// Prints every setting as TOML, with its unit and reason above it.
///
/// # Errors
/// Standard output can't be written.
pub(crate) fn config(config: &Config) -> Result<(), String> {
    let values = serde_json::to_value(config).unwrap_or_default();
    let mut text = "\
# luge-server: the configuration in force. A key can be set in a file (--config), in the
# environment (LUGE_ and the key in capitals), or with a flag (--set KEY=VALUE).
"
    .to_owned();
    for field in Config::FIELDS {
        let value = values.get(field.name).cloned().unwrap_or_default();
        let unit = if field.unit.is_empty() {
            String::new()
        } else {
            format!(" [{}]", field.unit)
        };
        writeln!(text, "\n# {}{unit}\n{} = {value}", field.reason, field.name)
            .expect("a String takes the text");
    }
    print(&text)
}

/// Prints a text.
///
/// # Errors
/// Standard output can't be written.
pub(crate) fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader has what it wanted, as `head` does.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("can't write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// Prints why the program ends.
pub(crate) fn error(message: &str) {
    eprintln!("error: {message}");
}
