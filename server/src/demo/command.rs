//! The commands of the demonstration: those of `luge`, as far as the script uses them, carried out with
//! the client library and answered as `luge` answers. A test in the client holds the two together.

use std::time::Duration;

use luge_client::{
    Client, Condition, Error, Expiry, HookOverride, PushOptions, ScanOptions, SetOptions,
    TimeToLive,
};

use super::answer;
use super::bundle;

/// What a key that is absent answers.
const ABSENT: &str = "(nothing, and exit code 1)";

/// Why a command could not be carried out. An error that the server answers with is an answer.
type Failure = String;

/// Carries out a command and answers what a terminal would show.
pub(super) async fn run(client: &Client, words: &[&str]) -> Result<String, Failure> {
    let outcome = match words {
        ["cat", path] => return Ok(String::from_utf8_lossy(bundle::file(path)?).into_owned()),
        ["luge", "set", key, value, options @ ..] => set(client, key, value, options).await,
        ["luge", "get", key] => get(client, key).await,
        ["luge", "incr", key] => incr(client, key, "1").await,
        ["luge", "incr", key, delta] => incr(client, key, delta).await,
        ["luge", "ttl", key] => ttl(client, key).await,
        ["luge", "scan", prefix] => scan(client, prefix).await,
        ["luge", "call", procedure] => call(client, procedure, "null").await,
        ["luge", "call", procedure, arguments] => call(client, procedure, arguments).await,
        ["luge", "module", "push", name, path, options @ ..] => {
            push(client, name, path, options).await
        }
        ["luge", "module", "remove", name] => {
            let removed = client.module_remove(name).await;
            removed.map(|()| "ok".to_owned()).map_err(Failed::from)
        }
        _ => Err(Failed::Script(
            "the demonstration has no such command".to_owned(),
        )),
    };
    match outcome {
        Ok(answer) => Ok(answer),
        Err(Failed::Client(Error::Server(reply))) => Ok(answer::error(&reply)),
        Err(Failed::Client(error)) => Err(error.to_string()),
        Err(Failed::Script(message)) => Err(message),
    }
}

/// How a command fails: in the client or the server, or because the script is wrong.
enum Failed {
    Client(Error),
    Script(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self::Script(message)
    }
}

async fn set(client: &Client, key: &str, value: &str, flags: &[&str]) -> Result<String, Failed> {
    let mut options = SetOptions::default();
    match flags {
        [] => {}
        ["--if-absent"] => options.condition = Some(Condition::Absent),
        ["--ttl", time] => options.expiry = Expiry::After(duration(time)?),
        _ => return Err(unknown(flags)),
    }
    let version = client.set_with(key, value, options).await?.version;
    Ok(format!("ok (version {version})"))
}

async fn get(client: &Client, key: &str) -> Result<String, Failed> {
    let value = client.get(key).await?;
    Ok(value.map_or_else(|| ABSENT.to_owned(), |value| answer::text(&value)))
}

async fn incr(client: &Client, key: &str, delta: &str) -> Result<String, Failed> {
    let sum = client.incr(key, number(delta)?).await?;
    Ok(sum.number.map(|sum| sum.to_string()).unwrap_or_default())
}

async fn ttl(client: &Client, key: &str) -> Result<String, Failed> {
    Ok(match client.ttl(key).await? {
        TimeToLive::Absent => ABSENT.to_owned(),
        TimeToLive::Forever => "never".to_owned(),
        TimeToLive::Left(left) => answer::time(left),
    })
}

async fn scan(client: &Client, prefix: &str) -> Result<String, Failed> {
    let mut entries = client.scan(ScanOptions::prefix(prefix.to_owned()));
    let mut lines = vec![];
    while let Some(entry) = entries.next().await? {
        let (key, value) = (answer::text(&entry.key), answer::text(&entry.value));
        // As `luge` escapes backslashes, so that an entry is one line.
        lines.push(format!("{key}\t{}", value.replace('\\', "\\\\")));
    }
    Ok(lines.join("\n"))
}

async fn call(client: &Client, procedure: &str, arguments: &str) -> Result<String, Failed> {
    let arguments: serde_json::Value =
        serde_json::from_str(arguments).map_err(|error| format!("not JSON: {error}"))?;
    let output: serde_json::Value = client.call(procedure, &arguments).await?;
    Ok(output.to_string())
}

async fn push(client: &Client, name: &str, path: &str, flags: &[&str]) -> Result<String, Failed> {
    let options = push_options(flags)?;
    let module = client
        .module_push(name, bundle::file(path)?, options)
        .await?;
    Ok(answer::module(&module))
}

fn push_options(flags: &[&str]) -> Result<PushOptions, Failed> {
    let mut options = PushOptions::default();
    let mut change = HookOverride::default();
    for pair in flags.chunks(2) {
        match pair {
            ["--config", setting] => {
                let (key, value) = setting.split_once('=').ok_or_else(|| unknown(pair))?;
                options.config.insert(key.to_owned(), value.to_owned());
            }
            ["--hook", hook] => change.hook = Some((*hook).to_owned()),
            ["--prefix", prefix] => change.prefix = Some(prefix.as_bytes().to_vec().into()),
            ["--fuel", fuel] => options.limits.fuel = Some(number(fuel)?),
            ["--cpu", time] => options.limits.cpu_ms = Some(milliseconds(time)?),
            ["--deadline", time] => options.limits.deadline_ms = Some(milliseconds(time)?),
            _ => return Err(unknown(pair)),
        }
    }
    if change != HookOverride::default() {
        options.overrides.push(change);
    }
    Ok(options)
}

fn unknown(flags: &[&str]) -> Failed {
    Failed::Script(format!(
        "the demonstration has no option {}",
        flags.join(" ")
    ))
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, Failed> {
    let number = text.parse();
    number.map_err(|_| Failed::Script(format!("`{text}` is no number")))
}

fn duration(text: &str) -> Result<Duration, Failed> {
    milliseconds(text).map(Duration::from_millis)
}

/// Such as `50ms` and `10s`.
fn milliseconds(text: &str) -> Result<u64, Failed> {
    match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(milliseconds), _) => number(milliseconds),
        (None, Some(seconds)) => Ok(number::<u64>(seconds)? * 1000),
        (None, None) => Err(Failed::Script(format!("`{text}` is no time"))),
    }
}
