//! The commands on keys and values, `flush`, `info` and `ping`; and who carries out the others.

use std::ffi::OsString;
use std::io::Read;

use bytes::Bytes;
use luge_client::{
    Client, Condition, Entry, Expiry, Keys, ScanOptions, SetOptions, TimeToLive, Versioned,
};
use serde_json::{Value, json};

use crate::args::{Command, Scan, Set};
use crate::failure::Failure;
use crate::print::{Printer, escape_for_line};
use crate::units::show_milliseconds;
use crate::{Outcome, calls, json, logs, module, streams};

/// The most entries that one page of a scan is asked for.
const PAGE_ENTRIES: usize = 1000;

/// The keys of a prefix that are deleted at once: few enough that hooks around each come to an end in time.
const DELETED_AT_ONCE: u64 = 1_000;

/// Carries out a command and prints what it answers.
pub(crate) async fn run(
    client: &Client,
    command: Command,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    match command {
        Command::Set(arguments) => set(client, arguments, printer).await,
        Command::Get { key } => get(client, key, printer).await,
        Command::Mget { keys } => mget(client, keys, printer).await,
        Command::Del { keys, prefix } => {
            let deleted = match prefix {
                Some(prefix) => del_prefix(client, prefix.as_encoded_bytes()).await?,
                None => client.del(&bytes_of(keys)).await?,
            };
            done(
                printer,
                &json!({ "deleted": deleted }),
                &deleted.to_string(),
            )
        }
        Command::Exists { keys } => {
            let present = client.exists(&bytes_of(keys)).await?;
            done(
                printer,
                &json!({ "present": present }),
                &present.to_string(),
            )
        }
        Command::Incr { key, delta } => incr(client, key, delta, printer).await,
        Command::Ttl { key } => ttl(client, key, printer).await,
        Command::Expire { key, ttl } => {
            let present = client.expire(key.into_encoded_bytes(), ttl).await?;
            changed(printer, present)
        }
        Command::Persist { key } => {
            let had_one = client.persist(key.into_encoded_bytes()).await?;
            changed(printer, had_one)
        }
        Command::Scan(arguments) => scan(client, arguments, printer).await,
        Command::Module(command) => module::run(client, command, printer).await,
        Command::Call(arguments) => calls::call(client, arguments, printer).await,
        Command::Ps => calls::list(client, printer).await,
        Command::Kill { call } => {
            client.kill(call).await?;
            done(printer, &json!("ok"), "ok")
        }
        Command::Logs(arguments) => logs::print(client, arguments, printer).await,
        Command::Watch(arguments) => streams::watch(client, arguments, printer).await,
        Command::Backup(arguments) => streams::backup(client, arguments, printer).await,
        Command::Flush => {
            client.flush().await?;
            done(printer, &json!("ok"), "ok")
        }
        Command::Info => info(client, printer).await,
        Command::Ping => {
            client.ping().await?;
            done(printer, &json!("pong"), "pong")
        }
    }
}

fn bytes_of(keys: Vec<OsString>) -> Vec<Vec<u8>> {
    keys.into_iter().map(OsString::into_encoded_bytes).collect()
}

pub(crate) fn done(
    printer: &mut Printer,
    document: &Value,
    line: &str,
) -> Result<Outcome, Failure> {
    printer.answer(document, line)?;
    Ok(Outcome::Done)
}

/// The answer that nothing is there: null with `--json`, else nothing.
fn absent(printer: &mut Printer) -> Result<Outcome, Failure> {
    if printer.json {
        printer.document(&Value::Null)?;
    }
    Ok(Outcome::Absent)
}

fn changed(printer: &mut Printer, changed: bool) -> Result<Outcome, Failure> {
    match changed {
        true => done(printer, &json!({ "changed": true }), "ok"),
        false if printer.json => {
            printer.document(&json!({ "changed": false }))?;
            Ok(Outcome::Absent)
        }
        false => Ok(Outcome::Absent),
    }
}

async fn set(client: &Client, arguments: Set, printer: &mut Printer) -> Result<Outcome, Failure> {
    let expiry = match arguments.ttl {
        Some(time) => Expiry::After(time),
        None if arguments.keep_ttl => Expiry::Keep,
        None => Expiry::Never,
    };
    let absent = arguments.if_absent.then_some(Condition::Absent);
    let options = SetOptions {
        expiry,
        condition: arguments.if_version.map(Condition::Version).or(absent),
        return_old: false,
    };
    let (key, value) = (arguments.key.into_encoded_bytes(), bytes(arguments.value)?);
    let version = client.set_with(key, value, options).await?.version;
    let line = format!("ok (version {version})");
    done(printer, &json!({ "version": version }), &line)
}

async fn get(client: &Client, key: OsString, printer: &mut Printer) -> Result<Outcome, Failure> {
    let Some(value) = client.get(key.into_encoded_bytes()).await? else {
        return absent(printer);
    };
    printer.value(&value)?;
    Ok(Outcome::Done)
}

async fn mget(
    client: &Client,
    keys: Vec<OsString>,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let found = client.mget(&bytes_of(keys)).await?;
    let value =
        |found: &Option<Versioned>| found.as_ref().map(|found| json::from_bytes(&found.value));
    if printer.json {
        printer.document(&found.iter().map(value).collect())?;
    }
    for found in &found {
        let value = found.as_ref().map_or(&b""[..], |found| &found.value);
        printer.line(&escape_for_line(value))?;
    }
    Ok(Outcome::Done)
}

async fn incr(
    client: &Client,
    key: OsString,
    delta: i64,
    printer: &mut Printer,
) -> Result<Outcome, Failure> {
    let sum = client.incr(key.into_encoded_bytes(), delta).await?;
    let document = json!({ "number": sum.number, "version": sum.version });
    let line = match sum.number {
        Some(number) => number.to_string(),
        None => format!(
            "ok (version {}); a hook of get keeps the number back",
            sum.version
        ),
    };
    done(printer, &document, &line)
}

async fn ttl(client: &Client, key: OsString, printer: &mut Printer) -> Result<Outcome, Failure> {
    match client.ttl(key.into_encoded_bytes()).await? {
        TimeToLive::Absent => absent(printer),
        TimeToLive::Forever => done(printer, &json!({ "ttl_ms": null }), "never"),
        TimeToLive::Left(left) => {
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            done(
                printer,
                &json!({ "ttl_ms": left }),
                &show_milliseconds(left),
            )
        }
    }
}

async fn del_prefix(client: &Client, prefix: &[u8]) -> Result<u64, Failure> {
    let end = prefix_end(prefix);
    let (mut start, mut deleted) = (Bytes::copy_from_slice(prefix), 0);
    loop {
        let part = client.del_range(&start, &end, DELETED_AT_ONCE).await?;
        deleted += part.deleted;
        match part.next {
            Some(next) => start = next,
            None => return Ok(deleted),
        }
    }
}

/// The first key behind those that begin so; empty where there is none.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end
}

async fn scan(client: &Client, arguments: Scan, printer: &mut Printer) -> Result<Outcome, Failure> {
    let limit = match arguments.limit {
        0 => usize::MAX,
        limit => limit,
    };
    // One more than is printed tells whether there are more.
    let page_entries = limit.saturating_add(1).min(PAGE_ENTRIES);
    let prefix = arguments.prefix.into_encoded_bytes();
    let mut scanner = client.scan(ScanOptions {
        keys: match prefix.is_empty() {
            true => Keys::All,
            false => Keys::Prefix(prefix.into()),
        },
        page_entries: u64::try_from(page_entries).ok(),
        reverse: arguments.reverse,
        keys_only: arguments.keys,
    });
    let mut documents = Vec::new();
    let mut printed = 0;
    while printed < limit
        && let Some(entry) = scanner.next().await?
    {
        match printer.json {
            true => documents.push(entry_document(&entry, arguments.keys)),
            false => printer.line(&entry_line(&entry, arguments.keys))?,
        }
        printed += 1;
    }
    let more = printed == limit && scanner.next().await?.is_some();
    if printer.json {
        printer.document(&json!({ "entries": documents, "more": more }))?;
    }
    printer.finish()?;
    if more {
        eprintln!("note: there are more entries; --limit 0 prints all");
    }
    Ok(Outcome::Done)
}

fn entry_line(entry: &Entry, keys_only: bool) -> String {
    let key = escape_for_line(&entry.key);
    match keys_only {
        true => key,
        false => format!("{key}\t{}", escape_for_line(&entry.value)),
    }
}

fn entry_document(entry: &Entry, keys_only: bool) -> Value {
    let (key, version) = (json::from_bytes(&entry.key), entry.version);
    match keys_only {
        true => json!({ "key": key, "version": version }),
        false => json!({ "key": key, "value": json::from_bytes(&entry.value), "version": version }),
    }
}

/// What stands on the command line, or, for a hyphen, on standard input.
pub(crate) fn bytes(given: OsString) -> Result<Vec<u8>, Failure> {
    match given.to_str() {
        Some("-") => read_input(),
        _ => Ok(given.into_encoded_bytes()),
    }
}

pub(crate) fn read_input() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::local("input", format!("standard input: {error}")))?;
    Ok(bytes)
}

async fn info(client: &Client, printer: &mut Printer) -> Result<Outcome, Failure> {
    let info = client.info().await?;
    let store = json::hex(&info.store);
    let document = json!({
        "server": info.server,
        "store": store,
        "engine": info.engine,
        "durability": info.durability,
        "uptime_ms": info.uptime_ms,
        "connections": info.connections,
        "requests": info.requests,
        "sequence": info.sequence,
        "modules": info.modules,
    });
    let lines = [
        format!("server       {}", info.server),
        format!("store        {store}"),
        format!("engine       {}", info.engine),
        format!("durability   {}", info.durability),
        format!("uptime       {}s", info.uptime_ms / 1000),
        format!("connections  {}", info.connections),
        format!("requests     {}", info.requests),
        format!("sequence     {}", info.sequence),
        format!("modules      {}", info.modules),
    ];
    done(printer, &document, &lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_does_not_begin_so_or_the_end_of_all() {
        let ends: [(&[u8], &[u8]); 4] = [
            (b"a:", b"a;"),
            (b"a\xff", b"b"),
            (b"\xff\xff", b""),
            (b"\0", b"\x01"),
        ];
        for (prefix, end) in ends {
            assert_eq!(prefix_end(prefix), end);
        }
    }
}
