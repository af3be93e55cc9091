//! What the program prints.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the program prints"
)]

use luge_server::config::Config;

/// Prints every setting as TOML, with its unit and reason above it.
pub(crate) fn config(config: &Config) {
    let values = serde_json::to_value(config).unwrap_or_default();
    println!(
        "# luge-server: the configuration in force. A key can be set in a file (--config), in the"
    );
    println!("# environment (LUGE_ and the key in capitals), or with a flag (--set KEY=VALUE).\n");
    for field in Config::FIELDS {
        let value = values.get(field.name).cloned().unwrap_or_default();
        let unit = if field.unit.is_empty() {
            String::new()
        } else {
            format!(" [{}]", field.unit)
        };
        println!("# {}{unit}\n{} = {value}\n", field.reason, field.name);
    }
}

/// Prints why the program ends.
pub(crate) fn error(message: &str) {
    eprintln!("error: {message}");
}
