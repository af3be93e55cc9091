//! Keys that nobody stored: a hook that answers a `get` by itself.
//!
//! ```sh
//! luge get virtual:now            # 2026-01-31T12:00:00.250Z
//! luge get virtual:hello:Anna     # Hello, Anna!
//! luge get virtual:random         # 16 random bytes, as hexadecimal digits
//! luge get virtual:whoami         # the user, or the network address
//! luge get virtual:sum:order:     # the sum of all numbers under keys that begin with order:
//! luge get virtual:anything-else  # absent
//! ```
//!
//! Nothing can be stored under `virtual:`. A computed key costs what it computes, so `sum` walks over at most a thousand
//! keys.

use luge_udf::{Block, Decision, Request, context, decimal, hook, kv};

luge_udf::module! { description = "Answers computed keys under virtual:" }

const MAX_SUMMED_KEYS: usize = 1000;

/// Answers a computed key, or says that there is none.
#[hook(request, commands = "get", prefix = "virtual:")]
fn answer(request: &Request) -> Decision {
    let key = request.key_text();
    let name = key.strip_prefix("virtual:").unwrap_or_default();
    let (name, argument) = name.split_once(':').unwrap_or((name, ""));
    match name {
        "now" => Decision::respond(date(luge_udf::now_ms())),
        "hello" => Decision::respond(
            [
                "Hello, ",
                if argument.is_empty() {
                    "world"
                } else {
                    argument
                },
                "!",
            ]
            .concat(),
        ),
        "random" => Decision::respond(random()),
        "whoami" => Decision::respond(context::user().or_else(context::peer).unwrap_or_default()),
        "sum" => sum(argument),
        _ => Decision::Absent,
    }
}

/// What is computed cannot be stored.
#[hook(request, commands = "set, expire", prefix = "virtual:")]
fn refuse() -> Result<(), Block> {
    Err("keys under virtual: are computed".into())
}

fn sum(prefix: &str) -> Decision {
    let mut sum = 0_i64;
    for (index, (key, value)) in kv::prefix(prefix).entries().enumerate() {
        if index == MAX_SUMMED_KEYS {
            return Decision::block("there are more than 1000 keys to sum");
        }
        match decimal::parse(&value).and_then(|number| sum.checked_add(number)) {
            Some(next) => sum = next,
            None => {
                return Decision::block(["cannot add ", &String::from_utf8_lossy(&key)].concat());
            }
        }
    }
    Decision::respond(decimal::format(sum))
}

fn random() -> String {
    let bytes: [u8; 16] = luge_udf::random();
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// A time as RFC 3339 writes it, in UTC.
fn date(now_ms: i64) -> String {
    let (days, within) = (now_ms.div_euclid(86_400_000), now_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let date = [padded(year, 4), padded(month, 2), padded(day, 2)].join("-");
    let (hours, minutes, seconds) = (within / 3_600_000, within / 60_000 % 60, within / 1000 % 60);
    let time = [padded(hours, 2), padded(minutes, 2), padded(seconds, 2)].join(":");
    [&date, "T", &time, ".", &padded(within % 1000, 3), "Z"].concat()
}

/// The date of a day counted from 1970. Years are taken from March on, so that the leap day is the last one.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (
        days.div_euclid(DAYS_OF_400_YEARS),
        days.rem_euclid(DAYS_OF_400_YEARS),
    );
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (400 * era + year + i64::from(month <= 2), month, day)
}

fn padded(number: i64, width: usize) -> String {
    let digits = decimal::format(number);
    ["0".repeat(width.saturating_sub(digits.len())), digits].concat()
}

#[cfg(test)]
mod tests {
    use luge_udf::testing::{Answer, Exchange, Host};

    use super::*;

    fn get(host: &mut Host, key: &str) -> Answer {
        host.hook::<answer>(&Exchange::get(key)).answer
    }

    fn reply(text: &str) -> Answer {
        Answer::Respond(text.as_bytes().to_vec())
    }

    #[test]
    fn computed_keys_are_answered() {
        let mut host = Host::new();
        assert_eq!(
            get(&mut host, "virtual:now"),
            reply("2023-11-14T22:13:20.000Z")
        );
        assert_eq!(get(&mut host, "virtual:hello"), reply("Hello, world!"));
        assert_eq!(get(&mut host, "virtual:hello:Anna"), reply("Hello, Anna!"));
        assert_eq!(get(&mut host, "virtual:whoami"), reply("127.0.0.1"));
        assert_eq!(get(&mut host, "virtual:nothing"), Answer::Absent);
        let random = get(&mut host, "virtual:random");
        assert!(matches!(&random, Answer::Respond(digits) if digits.len() == 32));
        assert_ne!(random, get(&mut host, "virtual:random"));
    }

    #[test]
    fn numbers_are_summed() {
        let mut host = Host::new();
        host.set("order:1", "40");
        host.set("order:2", "2");
        host.set("other", "not a number");
        assert_eq!(get(&mut host, "virtual:sum:order:"), reply("42"));
        assert_eq!(get(&mut host, "virtual:sum:none:"), reply("0"));
        assert_eq!(
            get(&mut host, "virtual:sum:o"),
            Answer::Block("cannot add other".to_owned())
        );
    }

    #[test]
    fn nothing_is_stored_there() {
        let hooked = Host::new().hook::<refuse>(&Exchange::set("virtual:now", "x"));
        assert_eq!(
            hooked.answer,
            Answer::Block("keys under virtual: are computed".to_owned())
        );
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        let day = |days: i64| date(days * 86_400_000);
        assert_eq!(day(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(day(-1), "1969-12-31T00:00:00.000Z");
        assert_eq!(day(11_016), "2000-02-29T00:00:00.000Z");
        assert_eq!(day(11_017), "2000-03-01T00:00:00.000Z");
        assert_eq!(day(47_540), "2100-02-28T00:00:00.000Z");
        assert_eq!(day(47_541), "2100-03-01T00:00:00.000Z");
        assert_eq!(date(1_769_860_800_250), "2026-01-31T12:00:00.250Z");
    }
}
