//! What the attributes make of functions, run through `luge_udf::testing`.

use std::time::Duration;

use luge_udf::export::Function;
use luge_udf::kv::{self, Ttl, Version};
use luge_udf::log::Level;
use luge_udf::testing::{Answer, Exchange, Host, Outcome};
use luge_udf::{
    Block, Command, Condition, Decision, Refusal, RefusalCode, Request, Response, Status, config,
    context, hook, procedure, raw,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

luge_udf::module! { release = "1.2.0", description = "Tests" }

#[procedure]
fn echo_bytes(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

#[procedure]
fn owned_bytes(bytes: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
    if bytes.is_empty() {
        Err(b"nothing".to_vec())
    } else {
        Ok(bytes)
    }
}

/// Says hello.
///
/// This is the second paragraph.
#[procedure(read_only)]
fn hello(name: Option<&str>) -> String {
    ["hello ", name.unwrap_or("world")].concat()
}

#[procedure]
fn nothing() {}

#[derive(Serialize)]
struct Coded(i32);

impl RefusalCode for Coded {
    fn code(&self) -> i32 {
        self.0
    }
}

#[procedure]
fn coded(code: i32) -> Result<(), Coded> {
    kv::set("coded", "x");
    Err(Coded(code))
}

#[procedure]
fn refusal(code: i32) -> Result<(), Refusal> {
    Err(Refusal {
        code,
        payload: b"raw".to_vec(),
    })
}

type Alias = Result<u8, &'static str>;

#[procedure]
fn alias(fail: bool) -> Alias {
    if fail { Err("failed") } else { Ok(1) }
}

#[procedure]
fn panics() {
    kv::set("panics", "x");
    luge_udf::warn!("about to {}", "panic");
    panic!("on purpose");
}

#[procedure(read_only)]
fn writes_read_only() {
    kv::set("a", "b");
}

#[procedure]
fn hook_functions() {
    raw::request_command();
}

#[procedure]
fn nests() {
    Host::new().set("a", "b");
}

#[test]
fn bytes_are_passed_as_they_are() {
    let mut host = Host::new();
    assert_eq!(
        host.call_bytes::<echo_bytes>(b"\xff\x00"),
        Outcome::Done(b"\xff\x00".to_vec())
    );
    assert_eq!(
        host.call_bytes::<owned_bytes>(b"x"),
        Outcome::Done(b"x".to_vec())
    );
    let refused = Outcome::Refused {
        code: 1,
        payload: b"nothing".to_vec(),
    };
    assert_eq!(host.call_bytes::<owned_bytes>(b""), refused);
}

#[test]
fn values_are_encoded() {
    let mut host = Host::new();
    assert_eq!(host.call::<hello>("Anna").reply::<String>(), "hello Anna");
    assert_eq!(
        host.call_bytes::<hello>(b"").reply::<String>(),
        "hello world"
    );
    assert_eq!(host.call::<nothing>(&()), Outcome::Done(vec![0xc0]));
    assert_eq!(host.call::<alias>(&false).reply::<u8>(), 1);
    assert_eq!(host.call::<alias>(&true).refusal::<String>(), "failed");
}

#[test]
fn a_refusal_chooses_its_code_and_undoes_the_call() {
    let mut host = Host::new();
    assert_eq!(host.call::<coded>(&42).code(), 42);
    assert_eq!(host.call::<coded>(&0).code(), 1, "0 would be success");
    assert_eq!(host.get("coded"), None);
    assert_eq!(
        host.call::<refusal>(&-7),
        Outcome::Refused {
            code: -7,
            payload: b"raw".to_vec()
        }
    );
}

#[test]
fn a_panic_undoes_the_call_and_keeps_the_log() {
    let mut host = Host::new();
    assert_eq!(
        host.call::<panics>(&()),
        Outcome::Trapped("on purpose".to_owned())
    );
    assert_eq!(host.get("panics"), None);
    assert_eq!(host.logs(), [(Level::Warn, "about to panic".to_owned())]);
}

#[test]
fn mistakes_name_the_host_function() {
    let mut host = Host::new();
    let trapped = |outcome| match outcome {
        Outcome::Trapped(message) => message,
        other => panic!("expected a trap, found {other:?}"),
    };
    let message = trapped(host.call::<writes_read_only>(&()));
    assert_eq!(message, "kv_set: forbidden: the procedure is read-only");
    let message = trapped(host.call::<hook_functions>(&()));
    assert_eq!(message, "request_command: only hooks have a request");
    let message = trapped(host.call::<nests>(&()));
    assert_eq!(message, "a call cannot be made from within a call");
}

#[test]
#[should_panic = "kv_get: no call is running"]
fn a_host_function_outside_of_a_call_says_how_to_run_one() {
    let _ = kv::get("a");
}

#[test]
fn the_store_does_all_that_the_module_kv_offers() {
    let mut host = Host::new();
    host.transaction(|| {
        assert_eq!(kv::version("n"), Version::Absent);
        assert_eq!(kv::incr("n", 5), Ok(5));
        assert_eq!(kv::number("n"), Ok(Some(5)));
        assert_eq!(kv::version("n"), Version::Own);
        kv::set_with_ttl("t", "x", Duration::from_secs(1));
        kv::set_keep_ttl("t", "yy");
        assert_eq!((kv::length("t"), kv::exists("t")), (Some(2), true));
        assert_eq!(kv::ttl("t"), Some(Ttl::Left(Duration::from_secs(1))));
        assert_eq!((kv::ttl("n"), kv::ttl("none")), (Some(Ttl::Never), None));
        assert_eq!(kv::incr("t", 1), Err(kv::NotANumber));
        kv::store("typed", &(1, "a"));
        assert_eq!(kv::load("typed"), Ok(Some((1, "a".to_owned()))));
        assert!(kv::load::<u8>("typed").is_err());
        assert!(kv::delete("typed"));
    });
    assert_eq!(host.transaction(|| kv::version("n")), Version::Commit(1));
    host.advance(Duration::from_secs(1));
    assert_eq!(host.get("t"), None);
}

#[test]
fn ranges_are_walked_in_pages() {
    let mut host = Host::new();
    host.transaction(|| {
        for index in 0..500 {
            kv::set(format!("k:{index:03}"), "x".repeat(index));
        }
        kv::set("k:big", "y".repeat(10_000));
        kv::set([b'k', 0xff], "");
    });
    let text = |key: Vec<u8>| String::from_utf8_lossy(&key).into_owned();
    host.transaction(|| {
        let entries: Vec<_> = kv::prefix("k:").entries().collect();
        assert_eq!(entries.len(), 501);
        assert!(
            entries
                .iter()
                .take(500)
                .enumerate()
                .all(|(index, (_, value))| value.len() == index)
        );
        assert_eq!(entries.last().map(|(_, value)| value.len()), Some(10_000));
        let keys = kv::range("k:007".."k:100").reverse().limit(2).keys();
        assert_eq!(keys.map(text).collect::<Vec<_>>(), ["k:099", "k:098"]);
        assert_eq!(kv::range("k:007"..="k:009").keys().count(), 3);
        assert_eq!(kv::range("k:499"..).keys().count(), 3);
        assert_eq!(kv::range::<&str>(..).limit(600).keys().count(), 502);
        assert_eq!(kv::range(.."").keys().count(), 0);
        assert_eq!(kv::prefix([b'k', 0xff]).keys().count(), 1);
        assert_eq!(kv::prefix("").limit(0).keys().count(), 0);
        let mut entries = kv::prefix("k:").entries();
        let mut bytes = 0;
        while let Some((_, value)) = entries.next_borrowed() {
            bytes += value.len();
        }
        assert_eq!(bytes, 499 * 500 / 2 + 10_000);
        let mut keys = kv::range("k:498"..).keys();
        assert_eq!(keys.next_borrowed(), Some(&b"k:498"[..]));
        assert_eq!(keys.next_borrowed(), Some(&b"k:499"[..]));
        // Dropping a scan closes it, so there is always room for another.
        for _ in 0..100 {
            assert!(kv::prefix("k:").keys().next().is_some());
        }
    });
}

#[hook(request, commands = "set", prefix = "user:", order = -5, on_failure = "continue")]
fn rewrite(request: &mut Request) -> Decision {
    kv::set("seen", request.key());
    match request.value().as_deref() {
        Some(b"bad") => return Decision::block("bad"),
        Some(b"reply") => return Decision::respond("reply"),
        Some(b"trap") => panic!("trap"),
        _ => {}
    }
    request.set_value("rewritten");
    if request.ttl() == Some(Ttl::Never) {
        request.set_ttl(Duration::from_millis(7));
    } else {
        request.clear_ttl();
    }
    Decision::Continue
}

/// Answers \"quoted\" keys.
#[hook(request, commands = "get call", prefix_hex = "00fF")]
fn respond(request: &Request) -> Result<Decision, Block> {
    match request.command() {
        Command::Call => Ok(Decision::respond_with(
            &request
                .arguments::<Vec<u8>>()
                .map_err(|error| error.text())?,
        )),
        _ => Ok(Decision::Absent),
    }
}

#[hook(request)]
fn look(request: &Request) {
    let told = json!({
        "key": request.key_text(), "previous": request.previous(), "delta": request.delta(),
        "condition": format!("{:?}", request.condition()), "config": config::text("name"),
        "user": context::user(), "peer": context::peer(), "command": context::command(), "attempt": context::attempt(),
    });
    luge_udf::info!("{told}");
}

#[hook(response, commands = "get, set")]
fn after(request: &Request, response: &mut Response) -> Result<(), Block> {
    kv::set("after", format!("{:?}", response.status()));
    if request.value().as_deref() == Some(b"undo") {
        return Err("undone".into());
    }
    if let Some(value) = response.value() {
        response.set_value(value.to_ascii_uppercase());
    }
    Ok(())
}

#[hook(response)]
fn unconditional() {
    raw::response_set_value(b"x");
}

#[test]
fn a_request_hook_rewrites_blocks_and_fails() {
    let mut host = Host::new();
    let hooked = host.hook::<rewrite>(&Exchange::set("user:1", "x"));
    assert_eq!(hooked.answer, Answer::Continue);
    assert_eq!(hooked.value.as_deref(), Some(&b"rewritten"[..]));
    assert_eq!(hooked.ttl, Some(Ttl::Left(Duration::from_millis(7))));
    let hooked = host.hook::<rewrite>(&Exchange::set("user:1", "x").keep_ttl());
    assert_eq!(hooked.ttl, Some(Ttl::Never));

    let hooked = host.hook::<rewrite>(&Exchange::set("user:2", "bad"));
    assert_eq!(hooked.answer, Answer::Block("bad".to_owned()));
    assert_eq!(
        host.text("seen").as_deref(),
        Some("user:2"),
        "a block leaves the hook's writes"
    );

    let hooked = host.hook::<rewrite>(&Exchange::set("user:3", "trap"));
    assert_eq!(hooked.answer, Answer::Trap("trap".to_owned()));
    let hooked = host.hook::<rewrite>(&Exchange::set("user:4", "reply"));
    assert_eq!(
        hooked.answer,
        Answer::Trap("a hook cannot answer 2 here".to_owned())
    );
    assert_eq!(
        host.text("seen").as_deref(),
        Some("user:2"),
        "a failure undoes them"
    );

    assert!(!host.hook::<rewrite>(&Exchange::set("other", "bad")).ran);
    assert!(!host.hook::<rewrite>(&Exchange::del("user:1")).ran);
}

#[test]
fn a_request_hook_answers_in_place_of_the_command() {
    let mut host = Host::new();
    assert_eq!(
        host.hook::<respond>(&Exchange::get([0, 0xff, 1])).answer,
        Answer::Absent
    );
    assert!(!host.hook::<respond>(&Exchange::get([0, 0xfe])).ran);
}

#[test]
fn a_hook_sees_the_request_and_who_asks() {
    let mut host = Host::new().with_config("name", "value");
    host.set("n", "41");
    host.context.user = "anna".to_owned();
    host.hook::<look>(&Exchange::incr("n", 1).condition(Condition::IfVersion(1)));
    let told: Value = host
        .logs()
        .last()
        .and_then(|(_, line)| serde_json::from_str(line).ok())
        .unwrap_or_default();
    let expected = json!({
        "key": "n", "previous": b"41", "delta": 1, "condition": "IfVersion(1)", "config": "value",
        "user": "anna", "peer": "127.0.0.1", "command": "set", "attempt": 1,
    });
    assert_eq!(told, expected);
}

#[test]
fn a_response_hook_changes_what_is_returned_or_undoes_it() {
    let mut host = Host::new();
    host.set("a", "value");
    let hooked = host.hook::<after>(&Exchange::get("a"));
    assert_eq!(
        (hooked.status, hooked.response.as_deref()),
        (Some(Status::Ok), Some(&b"VALUE"[..]))
    );
    assert_eq!(host.text("after").as_deref(), Some("Ok"));
    assert_eq!(
        host.hook::<after>(&Exchange::get("none")).status,
        Some(Status::Absent)
    );

    host.hook::<after>(&Exchange::set("a", "new").condition(Condition::IfAbsent));
    assert_eq!(host.text("after").as_deref(), Some("Error"));
    let hooked = host.hook::<after>(&Exchange::set("a", "undo"));
    assert_eq!(hooked.answer, Answer::Block("undone".to_owned()));
    assert_eq!(host.text("a").as_deref(), Some("value"));
    assert_eq!(
        host.text("after").as_deref(),
        Some("Error"),
        "its own write is undone, too"
    );

    let hooked = host.hook::<unconditional>(&Exchange::del("a"));
    assert_eq!(
        hooked.answer,
        Answer::Trap("response_set_value: there is no value to replace".to_owned())
    );
    let blocked = host.hook::<unconditional>(&Exchange::get("a").blocked());
    assert!(matches!(blocked.answer, Answer::Trap(_)));
    for exchange in [Exchange::get("absent"), Exchange::get("a").responded("y")] {
        let hooked = host.hook::<unconditional>(&exchange);
        assert_eq!(hooked.answer, Answer::Continue);
        assert_eq!(hooked.response.as_deref(), Some(&b"x"[..]));
    }

    let if_version = |version| Exchange::set("b", "1").condition(Condition::IfVersion(version));
    let status = |hooked: luge_udf::testing::Hooked| hooked.status;
    assert_eq!(
        status(host.hook::<after>(&if_version(7))),
        Some(Status::Error)
    );
    assert_eq!(status(host.hook::<after>(&if_version(0))), Some(Status::Ok));
    assert_eq!(
        status(host.hook::<after>(&if_version(0))),
        Some(Status::Error)
    );
}

#[test]
fn describers_write_one_line_of_json() {
    let line = |text: &str| {
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1);
        serde_json::from_str::<Value>(text).unwrap_or_default()
    };
    let expected = json!({"procedure": "hello", "read_only": true, "description": "Says hello."});
    assert_eq!(line(hello::METADATA), expected);
    assert_eq!(
        line(nothing::METADATA),
        json!({"procedure": "nothing", "read_only": false})
    );
    let expected = json!({
        "hook": "rewrite", "phase": "request", "commands": ["set"], "prefix": "user:", "order": -5,
        "on_failure": "continue",
    });
    assert_eq!(line(rewrite::METADATA), expected);
    let expected = json!({
        "hook": "respond", "phase": "request", "commands": ["get", "call"], "prefix_hex": "00ff", "order": 0,
        "on_failure": "block", "description": "Answers \\\"quoted\\\" keys.",
    });
    assert_eq!(line(respond::METADATA), expected);
    let expected = json!({
        "hook": "unconditional", "phase": "response", "commands": ["get", "set", "del", "expire", "call"],
        "prefix": "", "order": 0, "on_failure": "block",
    });
    assert_eq!(line(unconditional::METADATA), expected);
}

#[test]
fn the_same_test_gives_the_same_random_numbers() {
    let bytes = |host: &mut Host| {
        host.transaction(|| {
            let mut bytes = [0; 12];
            raw::random_fill(&mut bytes);
            bytes
        })
    };
    let (mut one, mut other) = (Host::new(), Host::new());
    let first = bytes(&mut one);
    assert_eq!(first, bytes(&mut other));
    assert_ne!(first, bytes(&mut one));
}

#[test]
fn arguments_may_borrow() {
    #[derive(Serialize)]
    struct Pair {
        left: &'static str,
        right: &'static str,
    }
    let outcome = Host::new().call::<join>(&Pair {
        left: "a",
        right: "b",
    });
    assert_eq!(outcome.reply::<String>(), "ab");
}

#[derive(Deserialize)]
struct Borrowed<'a> {
    left: &'a str,
    right: &'a str,
}

#[procedure]
fn join(pair: Borrowed<'_>) -> String {
    [pair.left, pair.right].concat()
}

mod granted {
    luge_udf::module! { isolation = "reuse", read = ["user:", "both:", b"\xff"], write = ["both:"] }
}

#[procedure]
fn get(key: String) {
    kv::get(key);
}

#[procedure]
fn put(key: String) {
    kv::set(key, "x");
}

#[procedure]
fn remove(key: String) {
    kv::delete(key);
}

#[procedure]
fn list(prefix: String) -> usize {
    kv::prefix(prefix).entries().count()
}

#[test]
fn a_grant_holds_functions_to_their_keys() {
    let mut host = Host::of::<granted::module>();
    host.set("secret", "is prepared by the test");
    let runs = |outcome: Outcome| match outcome {
        Outcome::Trapped(reason) => {
            assert!(reason.contains("forbidden"), "{reason}");
            false
        }
        Outcome::Done(_) => true,
        other => panic!("{other:?}"),
    };
    assert!(runs(host.call::<get>("user:1")));
    assert!(!runs(host.call::<get>("secret")));
    assert!(runs(host.call::<put>("both:1")));
    assert!(!runs(host.call::<put>("user:1")));
    assert!(runs(host.call::<remove>("both:1")));
    assert!(!runs(host.call::<remove>("user:1")));
    assert!(runs(host.call::<list>("user:1")));
    assert!(!runs(host.call::<list>("us")));
    let mut host = Host::of::<module>();
    assert!(runs(host.call::<put>("secret")));
    let mut host = Host::new().with_grant(&["a"], &[]);
    assert!(runs(host.call::<get>("a")));
    assert!(!runs(host.call::<put>("a")));
}

#[test]
fn a_module_says_what_it_asks_for() {
    use luge_udf::export::Module;
    let line = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let lines: Vec<&str> = granted::module::METADATA.lines().collect();
    let expected = json!({"grant": {
        "read": ["user:", "both:"], "read_hex": ["ff"], "write": ["both:"],
    }});
    assert_eq!(line(lines[1]), expected);
    assert_eq!(line(lines[0])["module"]["isolation"], "reuse");
    assert_eq!(module::METADATA.lines().count(), 1);
}
