//! `token`: the users of a server, and what they may do.

#![expect(clippy::print_stderr, reason = "what is no result goes beside it")]

use std::fmt::Write as _;

use clap::Subcommand;
use luge_server::session::Role;
use luge_server::tokens::{TokensError, TokensFile};

use crate::{SettingFlags, show};

/// What is done to the tokens.
#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it. It is not kept anywhere, and can't be told again.
    Add {
        /// The user: 1 to 64 letters, digits and characters of _-.@
        name: String,
        /// What the user may do: data (keys, calls, watches), deploy (modules, too), admin (everything).
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Print every user and role.
    List {
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Remove a user's token.
    Remove {
        /// The user.
        name: String,
        #[command(flatten)]
        settings: SettingFlags,
    },
}

/// Carries it out on the file that a server of the same settings would read.
///
/// # Errors
/// Why not, in one sentence.
pub(crate) fn run(command: &TokenCommand) -> Result<(), String> {
    let (TokenCommand::Add { settings, .. }
    | TokenCommand::List { settings }
    | TokenCommand::Remove { settings, .. }) = command;
    let config = settings.load().map_err(|error| error.to_string())?;
    let told = |error: TokensError| error.to_string();
    let file = TokensFile::find(&config).ok_or_else(|| told(TokensError::Nameless))?;
    let path = file.path().display();
    match command {
        TokenCommand::Add { name, role, .. } => {
            let token = file.add(name, *role).map_err(told)?;
            eprintln!("{name} is {role} in {path}; a running server takes it over at SIGHUP");
            show::print(&format!("{token}\n"))
        }
        TokenCommand::List { .. } => {
            let mut text = String::new();
            let tokens = file.tokens().map_err(told)?;
            if tokens.is_empty() {
                eprintln!("{}", without_tokens(&file));
            }
            for token in tokens {
                writeln!(text, "{:6}  {}", token.role.name(), token.name)
                    .expect("a String takes the text");
            }
            show::print(&text)
        }
        TokenCommand::Remove { name, .. } => {
            file.remove(name).map_err(told)?;
            eprintln!("{name} is not in {path} any more; a running server notices at SIGHUP");
            if file.tokens().map_err(told)?.is_empty() {
                eprintln!("{}", without_tokens(&file));
            }
            Ok(())
        }
    }
}

/// What it means that there are none.
fn without_tokens(file: &TokensFile) -> String {
    let path = file.path().display();
    match file.path().exists() {
        true => format!(
            "warning: {path} has no tokens: a server with it serves nobody; add one, or delete the file and restart the server, which is open then to whoever reaches it"
        ),
        false => format!(
            "note: there is no {path}: a server of these settings is open to whoever reaches it; --data or --tokens-file names another one"
        ),
    }
}
