//! `watch` and `backup`.

use std::io;
use std::path::{Path, PathBuf};

use luge_client::{ChangeKind, Client, Commit, KeyChange, WatchOptions};
use serde_json::{Map, Value, json};
use tokio::fs::File;

use crate::args::{Backup, Watch};
use crate::failure::Failure;
use crate::print::{Printer, escape_for_line};
use crate::run::done;
use crate::{Outcome, json};

/// Prints changes as they are committed, until there are enough or the stream ends.
pub(crate) async fn watch(
    client: &Client,
    arguments: Watch,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let options = WatchOptions {
        keys_only: arguments.keys_only,
        from: arguments.from,
    };
    let prefix = arguments.prefix.into_encoded_bytes();
    let mut watch = client.watch(prefix, options).await?;
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 {
        let commit = match watch.next().await {
            Ok(Some(commit)) => commit,
            Ok(None) => break,
            Err(error) => {
                let from = error.resume_from().unwrap_or(watch.sequence() + 1);
                return Err(Failure::Watch { error, from });
            }
        };
        for change in &commit.changes {
            if left == 0 {
                break;
            }
            printer.answer(&document(&commit, change), &line(&commit, change))?;
            left -= 1;
        }
        // Whoever reads this in a pipe waits for it.
        printer.finish()?;
    }
    Ok(Outcome::Done)
}

fn line(commit: &Commit, change: &KeyChange) -> String {
    let (key, kind) = (escape_for_line(&change.key), change.change.name());
    let head = format!("{}\t{kind}\t{key}", commit.sequence);
    match &change.value {
        Some(value) => format!("{head}\t{}", escape_for_line(value)),
        None => head,
    }
}

fn document(commit: &Commit, change: &KeyChange) -> Value {
    let mut document = Map::new();
    document.insert("sequence".to_owned(), json!(commit.sequence));
    document.insert("change".to_owned(), json!(change.change.name()));
    document.insert("key".to_owned(), json::from_bytes(&change.key));
    if let Some(value) = &change.value {
        document.insert("value".to_owned(), json::from_bytes(value));
    }
    if change.change == ChangeKind::Set {
        // As with `ttl`, null stands for never.
        let expires_ms = change.expires_ms.filter(|at| *at != 0);
        document.insert("expires_ms".to_owned(), json!(expires_ms));
    }
    Value::Object(document)
}

/// Writes a copy of the store beside its place, and puts it there once it is whole and on disk.
pub(crate) async fn backup(
    client: &Client,
    arguments: Backup,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let file = arguments.file;
    refuse_to_overwrite(&file, arguments.force)?;
    // A name of its own: two backups at a time must not write into one file.
    let mut part = file.clone().into_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = match write(client, &file, &part).await {
        Ok(written) => written,
        Err(failure) => {
            let _ = std::fs::remove_file(&part);
            return Err(failure);
        }
    };
    refuse_to_overwrite(&file, arguments.force)?;
    std::fs::rename(&part, &file).map_err(|error| file_failure(&file, &error))?;
    sync_folder_of(&file).map_err(|error| file_failure(&file, &error))?;
    let name = escape_for_line(file.as_os_str().as_encoded_bytes());
    let line = format!("{name}: {written} bytes");
    done(printer, &json!({ "bytes": written }), &line)
}

/// Writes the part, which is to be the file.
async fn write(client: &Client, whole: &Path, part: &Path) -> Result<u64, Failure> {
    let failed = |error: io::Error| {
        let name = part.file_name().unwrap_or_default();
        let name = escape_for_line(name.as_encoded_bytes());
        let message = format!(
            "{}: can't write {name} in its folder: {error}",
            whole.display()
        );
        Failure::local("file", message)
    };
    let mut file = File::create_new(part).await.map_err(failed)?;
    let written = client.backup(&mut file).await?;
    file.sync_all().await.map_err(failed)?;
    Ok(written)
}

fn refuse_to_overwrite(file: &Path, force: bool) -> Result<(), Failure> {
    let refuse = |why: &str| {
        let message = format!("{} {why}", file.display());
        Err(Failure::local("file", message))
    };
    match file.symlink_metadata() {
        _ if file.as_os_str() == "-" => refuse("is no file; name one that the backup goes to"),
        Err(_) => Ok(()),
        // A device or a folder would be gone.
        Ok(there) if !there.is_file() => {
            refuse("is there, and is no regular file; choose another name")
        }
        Ok(_) if force => Ok(()),
        Ok(_) => refuse("is there already; --force replaces it"),
    }
}

/// The new name is on disk once its folder is.
fn sync_folder_of(file: &Path) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)?.sync_all()
}

fn file_failure(file: &Path, error: &io::Error) -> Failure {
    Failure::local("file", format!("{}: {error}", file.display()))
}
