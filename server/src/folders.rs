//! `check` and `restore`: what is done to a data folder without a server.

use std::path::Path;

use luge_server::store::embedded::{self, FolderError};

use crate::show;

/// Reads everything in a folder, and prints what was found.
///
/// # Errors
/// What is not as it should be, in one sentence.
pub(crate) fn check(folder: &Path) -> Result<(), String> {
    let found = embedded::check(folder).map_err(|error| match error {
        FolderError::Locked(folder) => format!(
            "the data folder {} is in use by a server; stop it, or check what a backup of it is restored to",
            folder.display()
        ),
        other => other.to_string(),
    })?;
    let base = match found.base {
        Some((start, rows)) => format!("of commit {start}, {rows} rows"),
        None => "none".to_owned(),
    };
    let torn = match found.torn {
        Some((file, offset)) => format!(
            "{file} from byte {offset} on, which a start cuts off; nothing newer tells whether it had been on disk"
        ),
        None => "none".to_owned(),
    };
    show::print(&format!(
        "\
{} is whole
store      {}
base       {base}
log        {} bytes, {} blocks behind the base
last       commit {}
torn tail  {torn}
index      not checked: it can be made anew from base and log
",
        folder.display(),
        hex(&found.store_id),
        found.log_bytes,
        found.blocks,
        found.last,
    ))
}

/// Makes a data folder out of a backup, and prints what it holds.
///
/// # Errors
/// Why not, in one sentence.
pub(crate) fn restore(backup: &Path, folder: &Path) -> Result<(), String> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| format!("no random bytes: {error}"))?;
    let restored = embedded::restore(backup, folder, id).map_err(|error| error.to_string())?;
    show::print(&format!(
        "\
{} is restored
store  {} (a new one)
rows   {}: keys, and the server's own records
last   commit {}

luge-server serve --data {}
",
        folder.display(),
        hex(&restored.store_id),
        restored.rows,
        restored.last,
        folder.display(),
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
