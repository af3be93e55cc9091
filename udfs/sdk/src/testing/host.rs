//! The host functions, one for each of [`crate::raw`], which documents them.

use crate::hook::{Command, Condition, Status};
use crate::log::Level;
use crate::{decimal, raw};

use super::call::{Call, Phase, RequestState, ResponseState, Scan, current, trap};
use super::grant::Granted;
use super::store::Range;

/// The server's defaults.
const MAX_KEY_BYTES: usize = 1024;
const MAX_VALUE_BYTES: usize = 1024 * 1024;

pub(crate) fn input(offset: u32, buffer: &mut [u8]) -> i64 {
    current("input", |call| copy(Some(&call.input), offset, buffer))
}

pub(crate) fn output_write(bytes: &[u8]) {
    current("output_write", |call| call.output.extend_from_slice(bytes));
}

pub(crate) fn kv_get(key: &[u8], offset: u32, buffer: &mut [u8]) -> i64 {
    current("kv_get", |call| {
        check_read("kv_get", call, key);
        let value = call
            .transaction
            .get(key)
            .map(|entry| entry.value.as_slice());
        copy(value, offset, buffer)
    })
}

pub(crate) fn kv_set(key: &[u8], value: &[u8], ttl_ms: i64) {
    current("kv_set", |call| {
        check_write("kv_set", call, key);
        check_value("kv_set", value);
        check_ttl("kv_set", ttl_ms);
        call.transaction.set(key, value, ttl_ms);
    });
}

pub(crate) fn kv_delete(key: &[u8]) -> i32 {
    current("kv_delete", |call| {
        check_read("kv_delete", call, key);
        check_write("kv_delete", call, key);
        i32::from(call.transaction.delete(key))
    })
}

pub(crate) fn kv_incr(key: &[u8], delta: i64, out: &mut [u8; 8]) -> i32 {
    current("kv_incr", |call| {
        check_read("kv_incr", call, key);
        check_write("kv_incr", call, key);
        let number = match call.transaction.get(key) {
            Some(entry) => decimal::parse(&entry.value),
            None => Some(0),
        };
        let Some(sum) = number.and_then(|number| number.checked_add(delta)) else {
            return 1;
        };
        call.transaction
            .set(key, decimal::format(sum).as_bytes(), -1);
        *out = sum.to_le_bytes();
        0
    })
}

pub(crate) fn kv_ttl(key: &[u8]) -> i64 {
    current("kv_ttl", |call| {
        check_read("kv_ttl", call, key);
        call.transaction.ttl_ms(key)
    })
}

pub(crate) fn kv_version(key: &[u8]) -> i64 {
    current("kv_version", |call| {
        check_read("kv_version", call, key);
        call.transaction.get(key).map_or(0, |entry| entry.version)
    })
}

pub(crate) fn kv_scan(start: &[u8], end: &[u8], limit: u32, flags: u32) -> i32 {
    current("kv_scan", |call| {
        if flags & !(raw::REVERSE | raw::KEYS_ONLY) != 0 {
            trap("kv_scan", "unknown flag");
        }
        if call
            .grant
            .as_ref()
            .is_some_and(|grant| !grant.may_scan(start, end))
        {
            trap(
                "kv_scan",
                "forbidden: the range lies in no prefix that may be read",
            );
        }
        if call.scans.len() >= raw::MAX_OPEN_SCANS as usize {
            trap("kv_scan", "too many open scans, at most 16");
        }
        let handle = call.next_handle;
        call.next_handle += 1;
        // No limit is the largest one.
        let left = if limit == 0 { u32::MAX } else { limit };
        call.scans.insert(
            handle,
            Scan {
                rest: Range::new(start, end),
                left,
                flags,
            },
        );
        handle
    })
}

pub(crate) fn kv_scan_next(handle: i32, buffer: &mut [u8]) -> i64 {
    current("kv_scan_next", |call| {
        let Some(scan) = call.scans.get_mut(&handle) else {
            trap("kv_scan_next", "no open scan has this handle");
        };
        let mut written = 0;
        while scan.left > 0 {
            let reverse = scan.flags & raw::REVERSE != 0;
            let Some((key, entry)) = call.transaction.next(&scan.rest, reverse) else {
                break;
            };
            let value: &[u8] = if scan.flags & raw::KEYS_ONLY == 0 {
                &entry.value
            } else {
                &[]
            };
            let needed = 8 + key.len() + value.len();
            let Some(place) = buffer.get_mut(written..written + needed) else {
                if written == 0 {
                    return -signed(needed);
                }
                break;
            };
            write_entry(place, key, value);
            written += needed;
            scan.left -= 1;
            let passed = std::ops::Bound::Excluded(key.clone());
            *if reverse {
                &mut scan.rest.end
            } else {
                &mut scan.rest.start
            } = passed;
        }
        signed(written)
    })
}

fn write_entry(place: &mut [u8], key: &[u8], value: &[u8]) {
    let length = |bytes: &[u8]| {
        u32::try_from(bytes.len())
            .expect("keys and values are bounded")
            .to_le_bytes()
    };
    place.copy_from_slice(&[&length(key), &length(value), key, value].concat());
}

pub(crate) fn kv_scan_close(handle: i32) {
    current("kv_scan_close", |call| {
        if call.scans.remove(&handle).is_none() {
            trap("kv_scan_close", "no open scan has this handle");
        }
    });
}

pub(crate) fn now_ms() -> i64 {
    current("now_ms", |call| call.transaction.now_ms)
}

/// Splitmix64: the same bytes for the same seed, on every machine.
pub(crate) fn random_fill(buffer: &mut [u8]) {
    current("random_fill", |call| {
        for chunk in buffer.chunks_mut(8) {
            call.random = call.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = call.random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk
                .iter_mut()
                .zip(mixed.to_le_bytes())
                .for_each(|(byte, random)| *byte = random);
        }
    });
}

pub(crate) fn log(level: u32, message: &[u8]) {
    current("log", |call| {
        let level = match level {
            0 => Level::Trace,
            1 => Level::Debug,
            2 => Level::Info,
            3 => Level::Warn,
            4 => Level::Error,
            _ => trap("log", "unknown level"),
        };
        call.logs
            .push((level, String::from_utf8_lossy(message).into_owned()));
    });
}

pub(crate) fn config_get(key: &[u8], offset: u32, buffer: &mut [u8]) -> i64 {
    current("config_get", |call| {
        let value = std::str::from_utf8(key)
            .ok()
            .and_then(|key| call.config.get(key));
        copy(value.map(Vec::as_slice), offset, buffer)
    })
}

pub(crate) fn context(field: u32, offset: u32, buffer: &mut [u8]) -> i64 {
    current("context", |call| {
        let context = &call.context;
        let text = match field {
            1 => &context.connection,
            2 => &context.peer,
            3 => &context.client,
            4 => &context.user,
            5 => &context.request_id,
            6 => &context.attempt,
            7 => &context.command,
            8 => &context.module_version,
            _ => return -1,
        };
        let text = (!text.is_empty()).then_some(text.as_bytes());
        copy(text, offset, buffer)
    })
}

pub(crate) fn request_command() -> i32 {
    current("request_command", |call| {
        match request("request_command", call).command {
            Command::Get => 1,
            Command::Set => 2,
            Command::Del => 3,
            Command::Expire => 4,
            Command::Call => 5,
            Command::Other => 0,
        }
    })
}

pub(crate) fn request_key(offset: u32, buffer: &mut [u8]) -> i64 {
    current("request_key", |call| {
        copy(Some(&request("request_key", call).key), offset, buffer)
    })
}

pub(crate) fn request_value(offset: u32, buffer: &mut [u8]) -> i64 {
    current("request_value", |call| {
        copy(
            request("request_value", call).value.as_deref(),
            offset,
            buffer,
        )
    })
}

pub(crate) fn request_previous(offset: u32, buffer: &mut [u8]) -> i64 {
    current("request_previous", |call| {
        copy(
            request("request_previous", call).previous.as_deref(),
            offset,
            buffer,
        )
    })
}

pub(crate) fn request_arg(field: u32, out: &mut [u8; 8]) -> i32 {
    current("request_arg", |call| {
        let request = request("request_arg", call);
        let number = match (field, request.condition) {
            (1, _) => request.ttl_ms,
            (2, Condition::Always) => (request.command == Command::Set).then_some(0),
            (2, Condition::IfAbsent) => Some(1),
            (2, Condition::IfPresent) => Some(2),
            (2, Condition::IfVersion(_)) => Some(3),
            (3, Condition::IfVersion(version)) => i64::try_from(version).ok(),
            (4, _) => request.delta,
            _ => None,
        };
        let Some(number) = number else {
            return 0;
        };
        *out = number.to_le_bytes();
        1
    })
}

pub(crate) fn request_set_value(value: &[u8]) {
    current("request_set_value", |call| {
        check_value("request_set_value", value);
        let request = changeable("request_set_value", call);
        if !matches!(request.command, Command::Set | Command::Call) {
            trap("request_set_value", "this command has no value");
        }
        request.value = Some(value.to_vec());
    });
}

pub(crate) fn request_set_ttl(ms: i64) {
    current("request_set_ttl", |call| {
        check_ttl("request_set_ttl", ms);
        let request = changeable("request_set_ttl", call);
        if !matches!(request.command, Command::Set | Command::Expire) {
            trap("request_set_ttl", "this command gives no ttl");
        }
        request.ttl_ms = Some(ms);
    });
}

pub(crate) fn response_status() -> i32 {
    current("response_status", |call| {
        match response("response_status", call).status {
            Status::Ok => 0,
            Status::Absent => 1,
            Status::Error => 2,
            Status::Blocked => 3,
            Status::Responded => 4,
            Status::Other => -1,
        }
    })
}

pub(crate) fn response_value(offset: u32, buffer: &mut [u8]) -> i64 {
    current("response_value", |call| {
        copy(
            response("response_value", call).value.as_deref(),
            offset,
            buffer,
        )
    })
}

pub(crate) fn response_set_value(value: &[u8]) {
    current("response_set_value", |call| {
        check_value("response_set_value", value);
        let command = request("response_set_value", call).command;
        let response = response("response_set_value", call);
        if !matches!(command, Command::Get | Command::Call)
            || !matches!(
                response.status,
                Status::Ok | Status::Absent | Status::Responded
            )
        {
            trap("response_set_value", "there is no value to replace");
        }
        response.value = Some(value.to_vec());
    });
}

fn request<'a>(function: &str, call: &'a mut Call) -> &'a mut RequestState {
    match &mut call.request {
        Some(request) => request,
        None => trap(function, "only hooks have a request"),
    }
}

fn changeable<'a>(function: &str, call: &'a mut Call) -> &'a mut RequestState {
    if call.phase == Phase::Response {
        trap(function, "only request hooks can change the request");
    }
    request(function, call)
}

fn response<'a>(function: &str, call: &'a mut Call) -> &'a mut ResponseState {
    match &mut call.response {
        Some(response) => response,
        None => trap(function, "only response hooks have a response"),
    }
}

/// What every reader does.
fn copy(value: Option<&[u8]>, offset: u32, buffer: &mut [u8]) -> i64 {
    let Some(value) = value else {
        return -1;
    };
    let rest = value.get(offset as usize..).unwrap_or_default();
    buffer
        .iter_mut()
        .zip(rest)
        .for_each(|(to, from)| *to = *from);
    signed(value.len())
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).expect("lengths fit into 63 bits")
}

fn check_write(function: &str, call: &Call, key: &[u8]) {
    if call.phase == (Phase::Procedure { read_only: true }) {
        trap(function, "forbidden: the procedure is read-only");
    }
    check_key(function, key);
    if let Some(grant) = call.grant.as_ref().filter(|it| !it.may_write(key)) {
        forbidden(function, "write", key, grant);
    }
}

fn check_read(function: &str, call: &Call, key: &[u8]) {
    check_key(function, key);
    if let Some(grant) = call.grant.as_ref().filter(|it| !it.may_read(key)) {
        forbidden(function, "read", key, grant);
    }
}

fn forbidden(function: &str, access: &str, key: &[u8], grant: &Granted) -> ! {
    let key = key.escape_ascii();
    let reason = format!("forbidden: the module may not {access} the key \"{key}\", by {grant:?}");
    trap(function, &reason)
}

fn check_key(function: &str, key: &[u8]) {
    if key.len() > MAX_KEY_BYTES {
        trap(
            function,
            &format!("a key of {} bytes, the limit is {MAX_KEY_BYTES}", key.len()),
        );
    }
}

fn check_value(function: &str, value: &[u8]) {
    if value.len() > MAX_VALUE_BYTES {
        trap(
            function,
            &format!(
                "a value of {} bytes, the limit is {MAX_VALUE_BYTES}",
                value.len()
            ),
        );
    }
}

fn check_ttl(function: &str, ttl_ms: i64) {
    if ttl_ms < -1 {
        trap(function, "a ttl is 0, -1 or a number of milliseconds");
    }
}
