//! Lets each client make so many requests in a window of time, and no more.
//!
//! ```sh
//! luge module push rate-limiter rate_limiter.wasm --config limit=100 --config window_ms=60000
//! ```
//!
//! Clients are told apart by user, or, without one, by network address. `limit` is 1000 requests unless it is given,
//! `window_ms` 60,000; `--hook limit --prefix P` counts only requests for the keys that begin with P. The counts lie under
//! `ratelimit:`, which clients may read and not change.
//!
//! **The window slides.** An exact one would keep the time of every request; this one keeps two counts, of the current
//! window and of the one before, and takes the earlier to be spread evenly:
//!
//! ```text
//!      the window before        |   the current one
//!   |.....................======|=================>.......|
//!                         |<-------- one window ->|
//! requests = before * (the part still within the last window) + current
//! ```
//!
//! So a client cannot make twice the limit around a window's edge, and a key of some forty bytes is the whole
//! price. A refused request is not counted, but for the keys of an `mget` before the one that is: who waits as long as the message says, is let through again.
//! An `mget` counts once for each key, as it is a `get` for each. Requests are counted whether the command succeeds or not: hooks' writes stand in any case. The counter is one key for
//! each client, so concurrent requests of one client wait for each other; those of different clients do not.

use std::time::Duration;

use luge_udf::{Block, Request, config, context, decimal, hook, kv};

luge_udf::module! { description = "Limits how many requests a client makes in a window of time" }

const PREFIX: &str = "ratelimit:";

/// The counts of one client, kept as `<window's number> <before> <current>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    window: i64,
    before: i64,
    current: i64,
}

/// Counts the request, or refuses it where the client has made too many.
#[hook(request)]
fn limit() -> Result<(), Block> {
    let limit = config::positive("limit", 1000);
    let window_ms = config::positive("window_ms", 60_000);
    let client = client();
    let key = [PREFIX, &client].concat();
    let now_ms = luge_udf::now_ms();
    let counts = Counts::read(&key).at(now_ms / window_ms);
    let passed_ms = now_ms % window_ms;
    if counts.weighted(passed_ms, window_ms) >= i128::from(limit) * i128::from(window_ms) {
        let wait_ms = counts.wait_ms(limit, passed_ms, window_ms);
        return Err(message(&client, limit, window_ms, wait_ms).into());
    }
    let counts = Counts {
        current: counts.current + 1,
        ..counts
    };
    // After two windows the counts say nothing any more.
    let ttl = Duration::from_millis(window_ms.unsigned_abs().saturating_mul(2));
    kv::set_with_ttl(key, counts.text(), ttl);
    Ok(())
}

/// Keeps clients from changing their counts.
#[hook(request, commands = "set, del, expire", prefix = "ratelimit:")]
fn guard(request: &Request) -> Result<(), Block> {
    // A push may move the hook to another prefix, whose keys are none of its business.
    if request.key().starts_with(PREFIX.as_bytes()) {
        return Err("the counts below ratelimit: are the limiter's".into());
    }
    Ok(())
}

/// The name that a client gives itself is not heeded: anyone can give any.
fn client() -> String {
    match (context::user(), context::peer()) {
        (Some(user), _) => ["user:", &user].concat(),
        (None, Some(peer)) => ["peer:", &peer].concat(),
        (None, None) => "unknown".to_owned(),
    }
}

fn message(client: &str, limit: i64, window_ms: i64, wait_ms: i64) -> String {
    let number = decimal::format;
    let limit = [
        "more than ",
        &number(limit),
        " requests in ",
        &number(window_ms),
        " ms by ",
    ]
    .concat();
    [&limit, client, ", retry in ", &number(wait_ms), " ms"].concat()
}

impl Counts {
    fn read(key: &str) -> Self {
        let text = kv::get(key).unwrap_or_default();
        let mut numbers = text.split(|byte| *byte == b' ').map(decimal::parse);
        let mut next = || numbers.next().flatten().unwrap_or_default();
        Self {
            window: next(),
            before: next(),
            current: next(),
        }
    }

    fn text(self) -> String {
        [self.window, self.before, self.current]
            .map(decimal::format)
            .join(" ")
    }

    /// Moves on to the window of this number.
    fn at(self, window: i64) -> Self {
        match window - self.window {
            0 => self,
            1 => Self {
                window,
                before: self.current,
                current: 0,
            },
            _ => Self {
                window,
                before: 0,
                current: 0,
            },
        }
    }

    /// The requests within the last window, times the window, so that nothing is rounded.
    fn weighted(self, passed_ms: i64, window_ms: i64) -> i128 {
        i128::from(self.before) * i128::from(window_ms - passed_ms)
            + i128::from(self.current) * i128::from(window_ms)
    }

    /// How long until one more request fits: within this window if the count of the one before fades fast enough,
    /// else in the next one, where this window's count is the one that fades.
    fn wait_ms(self, limit: i64, passed_ms: i64, window_ms: i64) -> i64 {
        if self.current < limit {
            return fading_ms(self.before, limit - self.current, window_ms) - passed_ms;
        }
        window_ms - passed_ms + fading_ms(self.current, limit, window_ms)
    }
}

/// How far into a window `count` requests of the window before weigh less than `room` requests: the smallest time
/// with `count * (window - time) < room * window`.
fn fading_ms(count: i64, room: i64, window_ms: i64) -> i64 {
    if count < room {
        return 0;
    }
    let window = i128::from(window_ms);
    let excess = i128::from(count - room) * window / i128::from(count) + 1;
    i64::try_from(excess.min(window)).unwrap_or(window_ms)
}

#[cfg(test)]
mod tests {
    use luge_udf::testing::{Answer, Exchange, Host};

    use super::*;

    fn host() -> Host {
        let mut host = Host::new()
            .with_config("limit", "3")
            .with_config("window_ms", "1000");
        host.now_ms = 1_000_000;
        host
    }

    #[test]
    fn clients_cannot_change_their_counts() {
        let mut host = host();
        let own = host.hook::<guard>(&Exchange::set("ratelimit:peer:127.0.0.1", "0 0 0"));
        assert!(matches!(own.answer, Answer::Block(_)));
        assert!(!host.hook::<guard>(&Exchange::set("other", "1")).ran);
    }

    fn request(host: &mut Host) -> Answer {
        host.hook::<limit>(&Exchange::get("any")).answer
    }

    fn wait_ms(answer: &Answer) -> u64 {
        let Answer::Block(message) = answer else {
            panic!("expected a block, found {answer:?}");
        };
        let wait = message
            .strip_suffix(" ms")
            .and_then(|message| message.rsplit(' ').next());
        wait.and_then(|wait| wait.parse().ok()).unwrap()
    }

    #[test]
    fn requests_over_the_limit_are_refused_and_told_when_to_retry() {
        let mut host = host();
        for _ in 0..3 {
            assert_eq!(request(&mut host), Answer::Continue);
        }
        let message = "more than 3 requests in 1000 ms by peer:127.0.0.1, retry in 1001 ms";
        assert_eq!(request(&mut host), Answer::Block(message.to_owned()));
    }

    #[test]
    fn who_waits_as_told_is_let_through_and_not_a_millisecond_before() {
        for offset in [0, 1, 250, 500, 999] {
            let mut host = host();
            host.advance(Duration::from_millis(offset));
            let mut refusals = 0;
            while refusals < 5 {
                let answer = request(&mut host);
                if answer == Answer::Continue {
                    host.advance(Duration::from_millis(70));
                    continue;
                }
                refusals += 1;
                let wait = wait_ms(&answer);
                assert!(wait > 0);
                host.advance(Duration::from_millis(wait - 1));
                assert!(
                    matches!(request(&mut host), Answer::Block(_)),
                    "{wait} ms at {offset}"
                );
                host.advance(Duration::from_millis(1));
                assert_eq!(
                    request(&mut host),
                    Answer::Continue,
                    "{wait} ms at {offset}"
                );
            }
        }
    }

    #[test]
    fn the_edge_of_a_window_does_not_double_the_limit() {
        let mut host = host();
        host.advance(Duration::from_millis(990));
        for _ in 0..3 {
            request(&mut host);
        }
        host.advance(Duration::from_millis(20));
        let passed = (0..3)
            .filter(|_| request(&mut host) == Answer::Continue)
            .count();
        assert_eq!(passed, 1);
    }

    #[test]
    fn clients_are_counted_apart() {
        let mut host = host();
        for _ in 0..4 {
            request(&mut host);
        }
        host.context.user = "anna".to_owned();
        assert_eq!(request(&mut host), Answer::Continue);
        host.context.user.clear();
        assert!(matches!(request(&mut host), Answer::Block(_)));
        host.context.peer = "10.0.0.7".to_owned();
        assert_eq!(request(&mut host), Answer::Continue);
    }

    #[test]
    fn counts_vanish_after_two_windows() {
        let mut host = host();
        request(&mut host);
        assert_eq!(
            host.entries(PREFIX),
            [("ratelimit:peer:127.0.0.1".to_owned(), "1000 0 1".to_owned())]
        );
        host.advance(Duration::from_secs(2));
        assert_eq!(host.entries(PREFIX), []);
    }

    #[test]
    fn a_setting_that_is_no_number_ends_the_call_with_its_name() {
        let mut host = Host::new().with_config("limit", "many");
        let Answer::Trap(message) = request(&mut host) else {
            panic!("expected a trap");
        };
        assert_eq!(message, "the setting `limit` is not a whole number");
    }
}
