//! One host call, and what is expected of it.

use luge_udf::raw;
use serde::{Deserialize, Serialize};

use super::bytes::{parse, show};

/// The fields that the named host function takes, and those of what it should give.
#[derive(Deserialize)]
pub(crate) struct Step<'a> {
    pub(crate) op: &'a str,
    #[serde(default)]
    key: &'a str,
    #[serde(default)]
    value: &'a str,
    #[serde(default)]
    offset: u32,
    #[serde(default)]
    cap: usize,
    #[serde(default)]
    ttl_ms: i64,
    #[serde(default)]
    delta: i64,
    #[serde(default)]
    start: &'a str,
    #[serde(default)]
    end: &'a str,
    #[serde(default = "no_limit")]
    limit: u32,
    #[serde(default)]
    flags: u32,
    /// Which of the scans opened in this call, from 0.
    #[serde(default)]
    scan: usize,
    /// A handle as it is, in place of `scan`.
    #[serde(default)]
    handle: Option<i32>,
    #[serde(default)]
    field: u32,

    #[serde(default)]
    returns: Option<i64>,
    /// The smallest and the largest number that it may return.
    #[serde(default)]
    between: Option<(i64, i64)>,
    #[serde(default)]
    bytes: Option<&'a str>,
    #[serde(default)]
    number: Option<i64>,
    #[serde(default)]
    entries: Option<Vec<(&'a str, &'a str)>>,
}

const fn no_limit() -> u32 {
    u32::MAX
}

/// What a host function gave.
#[derive(Default, Serialize)]
pub(crate) struct Observed {
    returns: i64,
    /// What it wrote into the buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    /// What it wrote as a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<(String, String)>>,
}

/// The handles that `kv_scan` gave, in order.
pub(crate) type Scans = Vec<i32>;

impl Step<'_> {
    pub(crate) fn run(&self, scans: &mut Scans) -> Observed {
        let key = parse(self.key);
        match self.op {
            "kv_get" => self.read(|offset, buffer| raw::kv_get(&key, offset, buffer)),
            "kv_set" => nothing(|| raw::kv_set(&key, &parse(self.value), self.ttl_ms)),
            "kv_delete" => returned(raw::kv_delete(&key).into()),
            "kv_incr" => self.incr(&key),
            "kv_ttl" => returned(raw::kv_ttl(&key)),
            "kv_version" => returned(raw::kv_version(&key)),
            "kv_scan" => self.open(scans),
            "kv_scan_next" => self.next(scans),
            "kv_scan_close" => nothing(|| raw::kv_scan_close(self.handle(scans))),
            "now_ms" => returned(raw::now_ms()),
            "config_get" => self.read(|offset, buffer| raw::config_get(&key, offset, buffer)),
            "context" => self.read(|offset, buffer| raw::context(self.field, offset, buffer)),
            "log" => nothing(|| raw::log(self.field, &parse(self.value))),
            "request_command" => returned(raw::request_command().into()),
            "request_key" => self.read(raw::request_key),
            "request_value" => self.read(raw::request_value),
            "request_previous" => self.read(raw::request_previous),
            "request_arg" => returned(raw::request_arg(self.field, &mut [0; 8]).into()),
            "request_set_value" => nothing(|| raw::request_set_value(&parse(self.value))),
            "request_set_ttl" => nothing(|| raw::request_set_ttl(self.ttl_ms)),
            "response_status" => returned(raw::response_status().into()),
            "response_value" => self.read(raw::response_value),
            "response_set_value" => nothing(|| raw::response_set_value(&parse(self.value))),
            _ => panic!("the cases name an unknown host function"),
        }
    }

    fn read(&self, reader: impl Fn(u32, &mut [u8]) -> i64) -> Observed {
        let mut buffer = vec![0; self.cap];
        let length = reader(self.offset, &mut buffer);
        let rest = usize::try_from(length)
            .unwrap_or_default()
            .saturating_sub(self.offset as usize);
        buffer.truncate(rest);
        Observed {
            returns: length,
            bytes: Some(show(&buffer)),
            ..Observed::default()
        }
    }

    fn incr(&self, key: &[u8]) -> Observed {
        let mut sum = [0; 8];
        let code = raw::kv_incr(key, self.delta, &mut sum);
        let number = (code == 0).then(|| i64::from_le_bytes(sum));
        Observed {
            returns: code.into(),
            number,
            ..Observed::default()
        }
    }

    fn open(&self, scans: &mut Scans) -> Observed {
        let handle = raw::kv_scan(&parse(self.start), &parse(self.end), self.limit, self.flags);
        scans.push(handle);
        returned(handle.into())
    }

    fn handle(&self, scans: &Scans) -> i32 {
        self.handle
            .or_else(|| scans.get(self.scan).copied())
            .unwrap_or(-1)
    }

    fn next(&self, scans: &Scans) -> Observed {
        let mut buffer = vec![0; self.cap];
        let written = raw::kv_scan_next(self.handle(scans), &mut buffer);
        buffer.truncate(usize::try_from(written).unwrap_or_default());
        Observed {
            returns: written,
            entries: Some(entries(&buffer)),
            ..Observed::default()
        }
    }

    /// What is not as expected, if anything.
    pub(crate) fn difference(&self, observed: &Observed) -> Option<&'static str> {
        let returned = observed.returns;
        if self.returns.is_some_and(|expected| expected != returned) {
            return Some("it returned something else");
        }
        if self
            .between
            .is_some_and(|(least, most)| !(least..=most).contains(&returned))
        {
            return Some("it returned a number out of range");
        }
        if self.number.is_some() && self.number != observed.number {
            return Some("it gave another number");
        }
        let canonical = |notation: &str| show(&parse(notation));
        if self.bytes.is_some() && self.bytes.map(canonical) != observed.bytes {
            return Some("it gave other bytes");
        }
        let canonical = |(key, value): &(&str, &str)| (canonical(key), canonical(value));
        let entries = self
            .entries
            .as_ref()
            .map(|entries| entries.iter().map(canonical).collect::<Vec<_>>());
        (entries.is_some() && entries != observed.entries).then_some("it gave other entries")
    }
}

fn returned(returns: i64) -> Observed {
    Observed {
        returns,
        ..Observed::default()
    }
}

fn nothing(call: impl FnOnce()) -> Observed {
    call();
    Observed::default()
}

fn entries(mut page: &[u8]) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    while let Some((key_length, rest)) = page.split_first_chunk::<4>() {
        let Some((value_length, rest)) = rest.split_first_chunk::<4>() else {
            break;
        };
        let (key, rest) = rest.split_at(u32::from_le_bytes(*key_length) as usize);
        let (value, rest) = rest.split_at(u32::from_le_bytes(*value_length) as usize);
        entries.push((show(key), show(value)));
        page = rest;
    }
    entries
}
