//! The language of transcripts: requests as one would type them, and replies as one would read them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use luge_protocol::{
    Batch, Call, CallsKill, ChangeKind, Check, Command, Condition, Del, ErrorReply, Exists, Expire,
    Found, Get, Grant, Hello, HookOverride, Incr, Key, LimitsRequest, LogEvent, LogLevel, Logs,
    Mget, ModuleActivate, ModuleDescription, ModuleName, ModuleOutcome, ModulePush, ModuleShow,
    ModuleStats, ModuleSummary, NoArguments, Operation, OperationReply, Persist, Range, Reply,
    RunningCall, Scan, Set, StatsReply, Stop, Ttl, Value, Watch, WatchEvent,
};

use super::speaker::speaker;

/// Words, of which those with a dash in front are options, with their values behind them.
struct Words<'a> {
    plain: Vec<Cow<'a, str>>,
    options: Vec<(&'a str, Vec<Cow<'a, str>>)>,
}

pub(crate) fn parse(line: &str) -> Command<'static> {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    if name == "batch" {
        let operations = rest.split(';').map(|part| operation(part.trim())).collect();
        return Command::Batch(Batch { operations });
    }
    let (rest, json) = json_arguments(name, rest);
    let words = words(&rest);
    match name {
        "hello" => Command::Hello(Hello {
            versions: vec![1],
            client: None,
            credentials: words
                .option("token")
                .map(|token| token[0].to_string().into()),
        }),
        "ping" => Command::Ping(NoArguments {}),
        "info" => Command::Info(NoArguments {}),
        "flush" => Command::Flush(NoArguments {}),
        "ttl" => Command::Ttl(Ttl { key: words.key(0) }),
        "exists" => Command::Exists(Exists { keys: words.keys() }),
        "mget" => Command::Mget(Mget { keys: words.keys() }),
        "scan" => Command::Scan(scan(&words)),
        "call" => Command::Call(Call {
            procedure: words.text(0).into(),
            arguments: json.map_or_else(|| words.value(1), Value::from),
            dry_run: words.has("dry-run").then_some(true),
            limits: words.number("fuel").map(|fuel| {
                Box::new(LimitsRequest {
                    fuel: Some(fuel),
                    ..LimitsRequest::default()
                })
            }),
        }),
        "del" => Command::Del(Del {
            keys: (!words.has("range")).then(|| words.keys()),
            range: words.range(),
            limit: words.number("limit"),
        }),
        "calls" => Command::CallsList(NoArguments {}),
        "kill" => Command::CallsKill(CallsKill {
            call: words.text(0).parse().unwrap(),
        }),
        "logs" => Command::Logs(Logs {
            module: words.plain.first().map(|name| name.to_string().into()),
            follow: words.has("follow").then_some(true),
            level: words
                .option("level")
                .map(|level| LogLevel::from_name(&level[0]).unwrap()),
        }),
        "backup" => Command::Backup(NoArguments {}),
        "stop" => Command::Stop(Stop {
            id: words.text(0).parse().unwrap(),
        }),
        "watch" => Command::Watch(Watch {
            prefix: words.key(0),
            keys_only: words.has("keys").then_some(true),
            from: words.number("from"),
        }),
        "module.list" => Command::ModuleList(NoArguments {}),
        "module.stats" => Command::ModuleStats(ModuleStats {
            name: words.plain.first().map(|name| name.to_string().into()),
        }),
        "module.push" => push(&words),
        "module.show" => Command::ModuleShow(ModuleShow {
            name: words.text(0).into(),
            version: words.plain.get(1).map(|version| version.parse().unwrap()),
        }),
        "module.activate" => Command::ModuleActivate(ModuleActivate {
            name: words.text(0).into(),
            version: words.text(1).parse().unwrap(),
        }),
        "module.rollback" => Command::ModuleRollback(ModuleName {
            name: words.text(0).into(),
        }),
        "module.remove" => Command::ModuleRemove(ModuleName {
            name: words.text(0).into(),
        }),
        _ => match operation(line) {
            Operation::Get(get) => Command::Get(get),
            Operation::Set(set) => Command::Set(set),
            Operation::Incr(incr) => Command::Incr(incr),
            Operation::Expire(expire) => Command::Expire(expire),
            Operation::Persist(persist) => Command::Persist(persist),
            Operation::Del(_) | Operation::Check(_) => panic!("{line:?} is no command"),
        },
    }
}

/// A push of the guest that says a word; `!` is none that any server takes.
fn push(words: &Words<'_>) -> Command<'static> {
    let wasm = match words.text(1).as_str() {
        "!" => b"\0asm?".to_vec(),
        // A module with nothing in it.
        "-" => b"\0asm\x01\0\0\0".to_vec(),
        word => speaker(word),
    };
    let config = words.option("config").map(|setting| {
        let (key, value) = setting[0].split_once('=').unwrap();
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    });
    let prefix = words.option("prefix").map(|prefix| HookOverride {
        prefix: Some(key(&prefix[0])),
        ..HookOverride::default()
    });
    Command::ModulePush(Box::new(ModulePush {
        name: words.text(0).into(),
        wasm: Value::from(wasm),
        config,
        limits: words.number("fuel").map(|fuel| LimitsRequest {
            fuel: Some(fuel),
            ..LimitsRequest::default()
        }),
        overrides: prefix.map(|prefix| vec![prefix]),
        inactive: words.has("inactive").then_some(true),
        dry_run: words.has("dry-run").then_some(true),
        grant: grant(words),
        isolation: None,
    }))
}

/// `--read PREFIX…` and `--write PREFIX…`.
fn grant(words: &Words<'_>) -> Option<Grant> {
    let prefixes = |name| {
        let given = words.option(name).into_iter().flatten();
        given.map(|it| key(it).0.into_owned().into()).collect()
    };
    let is_said = words.has("read") || words.has("write");
    is_said.then(|| Grant {
        read: prefixes("read"),
        write: prefixes("write"),
    })
}

/// The arguments of a call that are JSON, which go as MessagePack, and what is left of the line.
fn json_arguments<'a>(name: &str, rest: &'a str) -> (Cow<'a, str>, Option<Vec<u8>>) {
    let Some((procedure, arguments)) = rest.split_once(' ').filter(|_| name == "call") else {
        return (rest.into(), None);
    };
    if !arguments.starts_with(['{', '[', '"']) {
        return (rest.into(), None);
    }
    let mut values = serde_json::Deserializer::from_str(arguments).into_iter();
    let value: serde_json::Value = values.next().unwrap().unwrap();
    let options = &arguments[values.byte_offset()..];
    let encoded = rmp_serde::to_vec_named(&value).unwrap();
    (format!("{procedure} {options}").into(), Some(encoded))
}

fn operation(line: &str) -> Operation<'static> {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words = words(rest);
    match name {
        "get" => Operation::Get(Get { key: words.key(0) }),
        "set" => Operation::Set(Set {
            key: words.key(0),
            value: words.value(1),
            ttl_ms: words.number("ttl"),
            keep_ttl: words.has("keep-ttl").then_some(true),
            condition: words.condition(),
            return_old: words.has("old").then_some(true),
        }),
        "del" => Operation::Del(Exists { keys: words.keys() }),
        "incr" => Operation::Incr(Incr {
            key: words.key(0),
            delta: words.plain.get(1).map(|delta| delta.parse().unwrap()),
        }),
        "expire" => Operation::Expire(Expire {
            key: words.key(0),
            ttl_ms: words.text(1).parse().unwrap(),
        }),
        "persist" => Operation::Persist(Persist { key: words.key(0) }),
        "check" => Operation::Check(Check {
            key: words.key(0),
            condition: words.condition().expect("a check has --if"),
        }),
        _ => panic!("no operation in {line:?}"),
    }
}

fn scan(words: &Words<'_>) -> Scan<'static> {
    Scan {
        prefix: words.plain.first().map(|prefix| key(prefix)),
        range: words.range(),
        limit: words.number("limit"),
        reverse: words.has("reverse").then_some(true),
        keys_only: words.has("keys").then_some(true),
        cursor: words.option("cursor").map(|cursor| key(&cursor[0])),
    }
}

fn words(line: &str) -> Words<'_> {
    let mut words = Words {
        plain: Vec::new(),
        options: Vec::new(),
    };
    for word in split(line) {
        match word {
            Cow::Borrowed(word) if word.starts_with("--") => {
                words.options.push((&word[2..], Vec::new()))
            }
            word => match words.options.last_mut() {
                Some((_, values)) => values.push(word),
                None => words.plain.push(word),
            },
        }
    }
    words
}

/// Words between spaces; quotes keep spaces together, and `\xNN` stands for a byte's character.
fn split(line: &str) -> Vec<Cow<'_, str>> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (word, tail) = quoted.split_once('"').expect("a closing quote");
            words.push(Cow::Owned(word.to_owned()));
            rest = tail.trim_start();
        } else {
            let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            words.push(Cow::Borrowed(word));
            rest = tail.trim_start();
        }
    }
    words
}

impl Words<'_> {
    fn text(&self, at: usize) -> String {
        self.plain
            .get(at)
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn key(&self, at: usize) -> Key<'static> {
        key(&self.text(at))
    }

    fn value(&self, at: usize) -> Value<'static> {
        Value::from(self.text(at))
    }

    fn keys(&self) -> Vec<Key<'static>> {
        self.plain.iter().map(|word| key(word)).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(option, _)| *option == name)
    }

    fn option(&self, name: &str) -> Option<&Vec<Cow<'_, str>>> {
        self.options
            .iter()
            .find(|(option, _)| *option == name)
            .map(|(_, values)| values)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.option(name).map(|values| values[0].parse().unwrap())
    }

    fn range(&self) -> Option<Range<'static>> {
        let range = self.option("range")?;
        let bound = |at: usize| key(range.get(at).map_or("", |bound| bound));
        Some(Range {
            start: bound(0),
            end: bound(1),
        })
    }

    fn condition(&self) -> Option<Condition> {
        Some(match self.option("if")?[0].as_ref() {
            "absent" => Condition::Absent,
            "present" => Condition::Present,
            version => Condition::Version(version.parse().unwrap()),
        })
    }
}

fn key(text: &str) -> Key<'static> {
    Key::from(text.to_owned())
}

pub(crate) fn render(outcome: Result<Reply, ErrorReply>) -> String {
    match outcome {
        Err(error) => match error.details().payload.as_deref().and_then(json) {
            Some(payload) => format!("{error} {payload}"),
            None => error.to_string(),
        },
        Ok(reply) => match reply {
            Reply::Pong(pong) => pong.to_owned(),
            Reply::Get(got) => found(got.as_ref()),
            Reply::Set(set) => operation_reply(&OperationReply::Set(set)),
            Reply::Del(del) => {
                format!(
                    "deleted {}{}",
                    del.0,
                    del.1
                        .map_or(String::new(), |next| format!(" next {}", text(&next)))
                )
            }
            Reply::Count(count) => count.to_string(),
            Reply::Changed(has_changed) => has_changed.to_string(),
            Reply::Ttl(None) => "nil".to_owned(),
            Reply::Ttl(Some(0)) => "none".to_owned(),
            Reply::Ttl(Some(ttl_ms)) => format!("{ttl_ms}ms"),
            Reply::Incr(incr) => operation_reply(&OperationReply::Incr(incr)),
            Reply::Mget(values) => values
                .iter()
                .map(|value| found(value.as_ref()))
                .collect::<Vec<_>>()
                .join(", "),
            Reply::Scan(scan) => {
                let mut words: Vec<String> = scan
                    .0
                    .iter()
                    .map(|entry| match &entry.1 {
                        Some(value) => format!("{}={}", text(&entry.0), text(value)),
                        None => text(&entry.0),
                    })
                    .collect();
                if words.is_empty() {
                    words.push("nothing".to_owned());
                }
                words.extend(scan.1.map(|next| format!("next {}", text(&next))));
                words.join(" ")
            }
            Reply::Batch(replies) => replies
                .iter()
                .map(operation_reply)
                .collect::<Vec<_>>()
                .join(", "),
            Reply::Call(output) => json(&output.0).unwrap_or_else(|| text(&output.0)),
            Reply::DryRun(told) => {
                let mut words = vec![json(&told.output).unwrap_or_else(|| text(&told.output))];
                words.extend(told.writes.iter().map(|write| match &write.1 {
                    Some(value) if write.2 != 0 => {
                        format!("{}={}@{}", text(&write.0), text(value), write.2)
                    }
                    Some(value) => format!("{}={}", text(&write.0), text(value)),
                    None => format!("{} deleted", text(&write.0)),
                }));
                words.extend((told.more > 0).then(|| format!("and {} more", told.more)));
                words.join(", ")
            }
            Reply::Calls(calls) => {
                let calls: Vec<String> = calls.iter().map(running_call).collect();
                match calls.is_empty() {
                    true => "nothing".to_owned(),
                    false => calls.join(", "),
                }
            }
            Reply::Module(module) => version(&module),
            Reply::Modules(modules) => {
                let lines: Vec<String> = modules.iter().map(versions).collect();
                if lines.is_empty() {
                    "nothing".to_owned()
                } else {
                    lines.join("; ")
                }
            }
            Reply::Stats(told) => stats(&told),
            Reply::Lines(event) => log_event(&event),
            Reply::Event(event) => watch_event(&event),
            Reply::Piece(piece) => format!("piece of {}", piece.len()),
            Reply::Done(()) => "ok".to_owned(),
            Reply::Hello(hello) => hello.server,
            Reply::Info(info) => format!("modules {}", info.modules),
        },
    }
}

/// Such as `3 skipped; warn m.run: text; info m.run: more`.
fn log_event(event: &LogEvent) -> String {
    let skipped = (event.skipped > 0).then(|| format!("{} skipped", event.skipped));
    let lines = event.lines.iter().map(|it| {
        let level = it.level.name();
        format!("{level} {}.{}: {}", it.module, it.function, it.message)
    });
    let words: Vec<String> = skipped.into_iter().chain(lines).collect();
    match words.is_empty() {
        true => "no lines".to_owned(),
        false => words.join("; "),
    }
}

/// Such as `m.run 1*: 3 calls, trap 1, 2 conflicts, 2 retries; set: 4 with hooks`; `*` for what is active.
fn stats(told: &StatsReply) -> String {
    let mut words: Vec<String> = Vec::new();
    for it in &told.functions {
        let active = if it.active { "*" } else { "" };
        let mut text = format!(
            "{}.{} {}{active}: {} calls",
            it.module, it.function, it.version, it.calls
        );
        for (code, count) in &it.errors {
            text += &format!(", {code} {count}");
        }
        if it.conflicts + it.retries > 0 {
            text += &format!(", {} conflicts, {} retries", it.conflicts, it.retries);
        }
        words.push(text);
    }
    let hooks = told.hooks.iter();
    words.extend(hooks.map(|it| format!("{}: {} with hooks", it.command, it.requests)));
    words.extend((told.uncounted_calls > 0).then(|| format!("{} uncounted", told.uncounted_calls)));
    if words.is_empty() {
        words.push("nothing".to_owned());
    }
    words.join("; ")
}

/// Such as `call m.run` or, while it waits, `call`.
fn running_call(call: &RunningCall) -> String {
    let function = call.module.iter().zip(&call.function);
    let words = function.map(|(module, function)| format!(" {module}.{function}"));
    call.command.clone() + &words.collect::<String>()
}

/// Such as `m version 3, inactive: pushed, before 2, dropped 1, dry run`.
fn version(module: &ModuleDescription) -> String {
    let mut text = format!("{} version {}", module.name, module.version);
    if !module.active {
        text += ", inactive";
    }
    let Some(change) = &module.change else {
        return text;
    };
    text += match change.outcome {
        ModuleOutcome::Pushed => ": pushed",
        ModuleOutcome::Activated => ": activated",
        ModuleOutcome::Unchanged => ": unchanged",
    };
    if let Some(before) = change.active_before {
        text += &format!(", before {before}");
    }
    if !change.dropped.is_empty() {
        text += &format!(", dropped {:?}", change.dropped);
    }
    if change.dry_run {
        text += ", dry run";
    }
    text
}

/// Such as `m 1 <2 3*`: version 3 is active, and a rollback returns to 2.
fn versions(module: &ModuleSummary) -> String {
    let mut words = vec![module.name.clone()];
    words.extend(module.versions.iter().map(|it| {
        let number = it.version;
        match () {
            () if module.active == Some(number) => format!("{number}*"),
            () if module.rollback == Some(number) => format!("<{number}"),
            () => number.to_string(),
        }
    }));
    words.join(" ")
}

/// Such as `v3: a=1 b=2@5000 c del …`, where `…` says that the commit goes on.
pub(crate) fn watch_event(event: &WatchEvent) -> String {
    let mut words = vec![format!("v{}:", event.sequence)];
    words.extend(event.changes.iter().map(|change| {
        let value = change.value.as_ref();
        let value = value.map_or(String::new(), |value| format!("={}", text(value)));
        let expiry = change.expires_ms.filter(|at| *at != 0);
        let expiry = expiry.map_or(String::new(), |at| format!("@{at}"));
        let kind = match change.change {
            ChangeKind::Set => String::new(),
            other => format!(" {}", other.name()),
        };
        format!("{}{value}{expiry}{kind}", text(&change.key))
    }));
    words.extend(event.more.then(|| "…".to_owned()));
    words.join(" ")
}

fn operation_reply(reply: &OperationReply) -> String {
    match reply {
        OperationReply::Get(got) => found(got.as_ref()),
        OperationReply::Set(set) => {
            format!(
                "v{}{}",
                set.0,
                set.1
                    .as_ref()
                    .map_or(String::new(), |old| format!(" was {}", text(old)))
            )
        }
        OperationReply::Count(count) => count.to_string(),
        OperationReply::Incr(incr) => {
            format!(
                "{} v{}",
                incr.0.map_or("-".to_owned(), |number| number.to_string()),
                incr.1
            )
        }
        OperationReply::Changed(has_changed) => has_changed.to_string(),
        OperationReply::Done(()) => "ok".to_owned(),
    }
}

/// What a procedure of the SDK answers, as JSON: one value of MessagePack, which is no text.
fn json(bytes: &[u8]) -> Option<String> {
    if std::str::from_utf8(bytes).is_ok() {
        return None;
    }
    let mut rest = bytes;
    let mut value: serde_json::Value = rmp_serde::from_read(&mut rest).ok()?;
    // Other crates of the workspace decide whether members keep their order.
    value.sort_all_objects();
    rest.is_empty().then(|| value.to_string())
}

fn found(found: Option<&Found>) -> String {
    match found {
        None => "nil".to_owned(),
        Some(Found(value, version)) => format!("{} v{version}", text(value)),
    }
}

fn text(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "\"\"".to_owned();
    }
    bytes
        .escape_ascii()
        .to_string()
        .replace("\\\"", "\"")
        .replace("\\'", "'")
}
