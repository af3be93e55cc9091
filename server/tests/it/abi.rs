//! `udfs/ABI.md` and the server say the same, and the boundary keeps what the page promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use luge_protocol::{
    Call as CallCommand, Command, Condition, ErrorCode, ErrorReply, Grant, HookCommand,
    LimitsRequest, Options, Reply,
};
use luge_server::config::Config;
use luge_server::function::{
    Call, Function, HookView, Identity, ModuleContext, RequestContext, ResponseStatus, Running,
    Stage,
};
use luge_server::store::{MemoryStore, Store};
use luge_server::udf::price;

use crate::support::{ManualClock, Push, START_MS, Talk, check, check_with, runtime};

const PAGE: &str = include_str!("../../../udfs/ABI.md");

/// The text under a heading, up to the next heading of the same rank or a higher one.
fn section(heading: &str) -> &'static str {
    let start = PAGE
        .find(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no {heading:?}"));
    let body = &PAGE[start + heading.len() + 2..];
    let rank = heading.split(' ').next().unwrap().len();
    let is_next = |line: &str| {
        let found = line.bytes().take_while(|byte| *byte == b'#').count();
        (1..=rank).contains(&found)
    };
    let mut at = 0;
    for line in body.split_inclusive('\n') {
        if is_next(line) {
            break;
        }
        at += line.len();
    }
    &body[..at]
}

/// The rows of the table whose header begins with these cells, without backticks.
fn table(text: &str, header: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text.lines();
    lines
        .find(|line| line.starts_with('|') && cells(line).iter().zip(header).all(|(a, b)| a == b))
        .unwrap_or_else(|| panic!("no table {header:?}"));
    let rows: Vec<Vec<String>> = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    assert!(!rows.is_empty(), "{header:?}");
    rows
}

/// The first two columns of a table of numbers.
fn numbers(text: &str, header: &[&str]) -> Vec<(i64, String)> {
    let row = |row: Vec<String>| (row[0].parse().unwrap(), row[1].replace('`', ""));
    table(text, header).into_iter().map(row).collect()
}

/// What stands in the first fence of this kind.
fn fence<'a>(text: &'a str, kind: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("```{kind}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// Parameters and results of the page's host functions, by name.
fn host_functions() -> BTreeMap<String, (Vec<&'static str>, Option<&'static str>)> {
    let mut functions = BTreeMap::new();
    let mut rest = section("## Host functions");
    while let Some((_, fenced)) = rest.split_once("```text\n") {
        let (block, behind) = fenced.split_once("```").unwrap();
        rest = behind;
        for line in block.lines() {
            let Some((name, tail)) = line.split_once('(').filter(|(name, _)| is_name(name)) else {
                continue;
            };
            let (parameters, result) = tail.split_once(')').unwrap();
            let parameters = parameters.split(", ").filter(|it| !it.is_empty());
            let types = parameters.map(|it| it.split_once(": ").map_or("i32", |(_, typed)| typed));
            let signature = (types.collect(), result.strip_prefix(" -> "));
            functions.insert(name.to_owned(), signature);
        }
    }
    functions
}

/// Parameters and results of the page's functions of WASI, by name.
fn wasi_functions() -> BTreeMap<String, (Vec<&'static str>, Option<&'static str>)> {
    let rows = section("## WASI preview 1")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"));
    let function = |row: &'static str| {
        let (name, rest) = row.split_once('(').unwrap();
        let (parameters, _) = rest.split_once(')').unwrap();
        let types = parameters.split(", ").filter(|it| !it.is_empty());
        let result = (name != "proc_exit").then_some("i32");
        (name.to_owned(), (types.collect(), result))
    };
    rows.map(function).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
}

/// The names in double quotes of a source file that `is_meant`.
fn quoted(source: &str, is_meant: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let quoted = source.split('"').skip(1).step_by(2);
    quoted
        .filter(|text| is_name(text) && is_meant(text))
        .map(str::to_owned)
        .collect()
}

fn import(from: &str, name: &str, parameters: &[&str], result: Option<&str>) -> String {
    let result = result.map_or(String::new(), |result| format!("(result {result})"));
    let parameters = parameters.join(" ");
    format!(r#"(import "{from}" "{name}" (func ${name} (param {parameters}) {result}))"#)
}

async fn talk() -> Talk<MemoryStore> {
    let clock = ManualClock::at(START_MS);
    let store = MemoryStore::new([1; 16], Box::new(clock.clone()));
    let config = Config {
        max_instances: 16,
        ..Config::default()
    };
    Talk::new(store, &config, clock).await
}

#[test]
fn the_page_has_every_function_with_the_signature_that_the_server_has() {
    let source = include_str!("../../src/udf/host.rs");
    let known: BTreeSet<&str> = price::TABLE.iter().map(|(name, _)| *name).collect();
    let host = host_functions();
    assert_eq!(
        host.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        known
    );
    let linked = source.matches("host!(linker, \"").count();
    assert_eq!(linked, known.len(), "the table of prices lacks a function");
    let wasi = wasi_functions();
    let families = [
        "args", "clock", "environ", "fd", "path", "poll", "proc", "random", "sched", "sock",
    ];
    let is_wasi = |name: &str| {
        let family = name.split_once('_').map_or("", |(family, _)| family);
        families.contains(&family)
    };
    let source = include_str!("../../src/udf/wasi.rs");
    assert_eq!(
        wasi.keys().cloned().collect::<BTreeSet<_>>(),
        quoted(source, is_wasi)
    );

    let abort = ("abort".to_owned(), (vec!["i32"; 4], None));
    let families = [
        ("luge_v1", host),
        ("wasi_snapshot_preview1", wasi),
        ("env", BTreeMap::from([abort])),
    ];
    runtime().block_on(async {
        let mut talk = talk().await;
        for (from, functions) in &families {
            for (name, (parameters, result)) in functions {
                let module = |parameters: &[&str], result| {
                    let import = import(from, name, parameters, result);
                    Push::new(
                        "m",
                        format!("(module {import} (memory (export \"memory\") 1))"),
                    )
                };
                if let Err(error) = talk.push(&module(parameters, *result)).await {
                    panic!("{name}: {error}");
                }
                let longer = [&parameters[..], &["i64"]].concat();
                for wrong in [module(&longer, *result), module(parameters, Some("f32"))] {
                    let error = talk.push(&wrong).await.unwrap_err();
                    assert!(error.message().contains("with the type"), "{name}: {error}");
                }
            }
        }
    });
}

#[test]
fn the_pages_prices_are_the_servers() {
    let fuel = section("## Fuel");
    let number = |text: &str| text.replace(',', "").parse::<u64>().unwrap();
    let bases: Vec<(String, u64)> = table(fuel, &["function", "fuel"])
        .iter()
        .map(|row| (row[0].replace('`', ""), number(&row[1])))
        .collect();
    let expected: Vec<(String, u64)> = price::TABLE
        .iter()
        .map(|(name, fuel)| ((*name).to_owned(), *fuel))
        .collect();
    assert_eq!(bases, expected);
    let others = table(fuel, &["what", "fuel"]);
    let price = |what: &str| {
        let row = others.iter().find(|row| row[0].contains(what)).unwrap();
        number(&row[1])
    };
    assert_eq!(
        price("`memory.grow`"),
        u64::from(price::MEMORY_GROW_PER_PAGE)
    );
    assert_eq!(price("`kv_scan_next`"), price::SCAN_ENTRY);
    assert_eq!(price(&format!("each {} bytes", price::BYTES_PER_UNIT)), 1);
    let wasi = format!(
        "costs {}, but `random_get` {} and `fd_write` {}.",
        price::LOOK,
        price::RANDOM,
        price::LOG
    );
    assert!(fuel.contains(&wasi), "{wasi}");
    assert!(section("## AssemblyScript's abort").contains(&format!("It costs {}.", price::LOG)));
}

#[test]
fn the_pages_prices_are_what_calls_pay() {
    // Each function runs with just enough fuel, and not with a little less. Entering a function costs 1;
    // the instructions after the last costly one are paid for when it is too late to stop.
    let module = Push::new(
        "pay",
        r#"(module
        (import "luge_v1" "now_ms" (func $now (result i64)))
        (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
        (memory (export "memory") 1 8)
        (func (export "now") (result i32) (drop (call $now)) (i32.const 0))
        (func (export "set") (result i32)
            (call $set (i32.const 0) (i32.const 31) (i32.const 0) (i32.const 160) (i64.const 0)) (i32.const 0))
        (func (export "fill") (result i32)
            (memory.fill (i32.const 0) (i32.const 0) (i32.const 5000)) (i32.const 0))
        (func (export "grow") (result i32) (drop (memory.grow (i32.const 3))) (loop) (i32.const 0)))"#,
    );
    let cases = [
        ("now", 1 + 1 + price::LOOK),
        ("set", 5 + 1 + 1 + price::WRITE + 1 + 10),
        ("fill", 3 + 1 + 1 + 5000),
        (
            "grow",
            1 + 1 + 1 + 3 * u64::from(price::MEMORY_GROW_PER_PAGE),
        ),
    ];
    let mut transcript = String::new();
    for (function, fuel) in cases {
        transcript += &format!("> call pay.{function} x --fuel {}\n\"\"\n", fuel + 1);
        let less = fuel - 4;
        transcript += &format!("> call pay.{function} x --fuel {less}\nfuel_exhausted…\n");
    }
    check(&[module], &transcript);
}

#[test]
fn the_pages_numbers_are_the_servers() {
    let request = section("### The request");
    let commands = HookCommand::ALL.map(|it| (it as i64, it.name().to_owned()));
    assert_eq!(numbers(request, &["command", "name"]), commands);

    let statuses = [
        ResponseStatus::Ok,
        ResponseStatus::Absent,
        ResponseStatus::Error,
        ResponseStatus::Blocked,
        ResponseStatus::Responded,
    ];
    let statuses = statuses.map(|it| (it as i64, format!("{it:?}").to_lowercase()));
    assert_eq!(
        numbers(section("### The response"), &["status", "name"]),
        statuses
    );

    let conditions = [
        (None, "always"),
        (Some(Condition::Absent), "if the key is absent"),
        (Some(Condition::Present), "if the key is present"),
        (
            Some(Condition::Version(7)),
            "if the key has the expected version",
        ),
    ];
    let view = |condition| HookView {
        command: HookCommand::Set,
        key: "k".into(),
        value: None,
        ttl: None,
        condition,
        delta: Some(5),
        status: ResponseStatus::Ok,
        response: None,
    };
    let conditions =
        conditions.map(|(condition, name)| (view(condition).argument(2).unwrap(), name.to_owned()));
    assert_eq!(numbers(request, &["condition", "meaning"]), conditions);
    let last = view(Some(Condition::Version(7)));
    assert_eq!((last.argument(3), last.argument(4)), (Some(7), Some(5)));
    let fields = numbers(request, &["field", "meaning"]);
    assert_eq!(fields.len(), 4);
    assert!((5..99).all(|field| last.argument(field).is_none()));
}

#[test]
fn the_pages_fields_of_the_context_are_the_servers() {
    let identity = Identity {
        connection: 12,
        peer: "10.0.0.7".to_owned(),
        client: Some("shop".to_owned()),
        user: Some("anna".to_owned()),
    };
    let request = RequestContext {
        identity: Arc::new(identity),
        request: 34,
        command: "mget",
    };
    let running = Running::new(request);
    running.begin(2);
    let module = ModuleContext {
        version: 5,
        ..ModuleContext::default()
    };
    let function = Function {
        module: Arc::new(module),
        ..Function::default()
    };
    let call = Call::<<MemoryStore as Store>::Snapshot>::new(
        Stage::Procedure,
        None,
        Arc::new(running),
        Arc::new(function),
        [0; 32],
    );
    let values = ["12", "10.0.0.7", "shop", "anna", "34", "2", "mget", "5"];
    let words = [
        "connection",
        "address",
        "calls itself",
        "user",
        "request",
        "attempt",
        "command",
        "version",
    ];
    let fields = numbers(section("### Surroundings"), &["field", "meaning"]);
    assert_eq!(fields.len(), values.len());
    for ((number, (value, word)), (field, meaning)) in
        (1..).zip(values.iter().zip(words)).zip(fields)
    {
        assert_eq!(i64::from(number), field);
        assert!(meaning.contains(word), "{field}: {meaning}");
        assert_eq!(call.context(number).unwrap().as_deref(), Some(*value));
    }
    assert!((9..200).all(|field| call.context(field).unwrap().is_none()));
}

#[test]
fn the_pages_flags_and_levels_are_all_that_the_server_takes() {
    let flags = numbers(section("### Scans"), &["flag", "meaning"]);
    assert_eq!(
        flags.iter().map(|(flag, _)| *flag).collect::<Vec<_>>(),
        [1, 2]
    );
    let levels = numbers(section("### Surroundings"), &["level", "meaning"]);
    assert_eq!(
        levels.iter().map(|(level, _)| *level).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    let module = Push::new(
        "m",
        r#"(module
        (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
        (import "luge_v1" "log" (func $log (param i32 i32 i32)))
        (import "luge_v1" "kv_scan" (func $scan (param i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func $digit (result i32)
            (drop (call $input (i32.const 0) (i32.const 0) (i32.const 1)))
            (i32.sub (i32.load8_u (i32.const 0)) (i32.const 48)))
        (func (export "log") (result i32) (call $log (call $digit) (i32.const 0) (i32.const 1)) (i32.const 0))
        (func (export "scan") (result i32) (call $scan
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (call $digit))))"#,
    );
    check(
        &[module],
        r#"
        > call m.log 4
        ""
        > call m.log 5
        trap: m.log: log: unknown log level 5
        > call m.scan 3
        ""
        > call m.scan 4
        trap: m.scan: kv_scan: unknown flags 0x4
    "#,
    );
}

#[test]
fn the_pages_limits_are_the_defaults() {
    let config = serde_json::to_value(Config::default()).unwrap();
    let limits = section("## Limits");
    let (first, second) = limits.split_once("These are the server's alone").unwrap();
    let rows =
        [first, second].map(|text| table(text, &["limit", "default", "setting", "ends with"]));
    let rows: Vec<Vec<String>> = rows.concat();
    assert_eq!(rows.len(), 18);
    for row in rows {
        let (number, unit) = row[1].split_once(' ').unwrap_or((&row[1], ""));
        let factor = match unit {
            "" | "ms" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            unit => panic!("the unit {unit:?}"),
        };
        let told = number.replace(',', "").parse::<u64>().unwrap() * factor;
        assert_eq!(config[row[2].trim_matches('`')], told, "{row:?}");
        let code = row[3].trim_matches('`');
        assert!(ErrorCode::from_name(code).is_some(), "{code:?}");
    }
    // The other places that name a limit.
    let config = Config::default();
    assert_eq!(
        (config.max_key_bytes, config.max_value_bytes),
        (1024, 1 << 20)
    );
    assert!(PAGE.contains("**Keys** have 1 to 1,024 bytes, **values** up to 1 MiB"));
    assert_eq!(config.max_module_bytes, 4 << 20);
    assert!(PAGE.contains("**At most 4 MiB**"));
}

/// Whether the page allows a function in a column of "What may be called when".
fn is_allowed(function: &str, column: usize) -> bool {
    let rows = table(
        section("## The life of a call"),
        &["functions", "initialisation, describers"],
    );
    let names = |row: &Vec<String>| -> Vec<String> {
        row[0]
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let named = rows
        .iter()
        .find(|row| names(row).iter().any(|name| name == function));
    let begun = || {
        rows.iter().find(|row| {
            let mut beginnings = names(row).into_iter();
            beginnings.any(|name| {
                name.strip_suffix('…')
                    .is_some_and(|it| function.starts_with(it))
            })
        })
    };
    let row = named
        .or_else(begun)
        .unwrap_or_else(|| panic!("no row for {function}"));
    match row[column].as_str() {
        "yes" => true,
        "no" => false,
        other => panic!("{other:?} for {function}"),
    }
}

#[test]
fn functions_may_be_called_where_the_page_says_so() {
    const REFUSALS: [&str; 5] = [
        "not while a module is initialised",
        "not in a describer",
        "only hooks have a request",
        "only a request hook can change",
        "only a response hook",
    ];
    let is_refused = |outcome: Result<Reply, ErrorReply>| match outcome {
        Ok(_) => false,
        Err(error) => REFUSALS.iter().any(|it| error.message().contains(it)),
    };
    let lines = ["procedure", "request", "response"].map(|kind| match kind {
        "procedure" => "{\\\"procedure\\\":\\\"procedure\\\"}\\n".to_owned(),
        phase => format!(
            "{{\\\"hook\\\":\\\"{phase}\\\",\\\"phase\\\":\\\"{phase}\\\",\\\"commands\\\":[\\\"get\\\"],\\\"prefix\\\":\\\"{phase}\\\"}}\\n"
        ),
    });
    let lines = lines.concat();
    let length = lines.len() - lines.matches('\\').count();
    runtime().block_on(async {
        let mut talk = talk().await;
        for (name, (parameters, result)) in host_functions() {
            let ones: String = parameters.iter().map(|typed| format!("({typed}.const 1)")).collect();
            let drop = if result.is_some() { "drop" } else { "" };
            let body = format!("(call ${name} {ones}) {drop}");
            let used = import("luge_v1", &name, &parameters, result);
            let output = import("luge_v1", "output_write", &["i32", "i32"], None);
            let output = output.replace("$output_write", "$write");
            let module = |functions: &str| {
                let data = format!(r#"(data (i32.const 100) "{lines}")"#);
                Push::new("m", format!(r#"(module {used} {output} (memory (export "memory") 1) {data} {functions})"#))
            };

            let early = format!("(func (export \"_initialize\") {body}) (func (export \"run\") (result i32) (i32.const 0))");
            talk.push(&module(&early)).await.unwrap();
            let refused = is_refused(talk.request("call m.run").await);
            assert_eq!(refused, !is_allowed(&name, 1), "{name} while initialised");

            let describer = format!("(func (export \"metadata\") (result i32) {body} (i32.const 0))");
            let refused = is_refused(talk.push(&module(&describer)).await);
            assert_eq!(refused, !is_allowed(&name, 1), "{name} in a describer");

            let late = ["procedure", "request", "response"].map(|export| {
                format!("(func (export \"{export}\") (result i32) {body} (i32.const 0))")
            });
            let metadata = format!("(func (export \"metadata\") (result i32) (call $write (i32.const 100) (i32.const {length})) (i32.const 0))");
            talk.push(&module(&format!("{} {metadata}", late.concat()))).await.unwrap();
            for (column, request) in [(2, "call m.procedure"), (3, "get request"), (4, "get response")] {
                let refused = is_refused(talk.request(request).await);
                assert_eq!(refused, !is_allowed(&name, column), "{name} in {request}");
            }
        }
    });
}

#[test]
fn the_pages_example_works_as_shown() {
    let example = section("## A whole module");
    let module = Push::new("visits", fence(example, "wat"));
    let mut transcript = String::new();
    for line in fence(example, "console").lines() {
        match line.strip_prefix("$ luge ") {
            Some(push) if push.starts_with("module push visits") => {}
            Some(command) => transcript += &format!("> {}\n", command.replace("--raw ", "")),
            // What a `get` prints is the value alone; a transcript has its version behind it.
            None => transcript += &format!("{}…\n", line.trim_start_matches("error: ")),
        }
    }
    assert_eq!(transcript.lines().count(), 8);
    check(std::slice::from_ref(&module), &transcript);
    check(
        &[module],
        "
        > call visits.count
        rejected: visits.count refused with the code 1
        > module.show visits
        visits version 1
        > scan
        nothing
    ",
    );
}

#[test]
fn the_pages_lines_of_a_describer_are_taken() {
    let lines = fence(section("## Describers"), "json");
    let data = lines.replace('"', "\\22").replace('\n', "\\0a");
    let length = lines.len();
    let module = |lines: &str, length: usize| {
        Push::new(
            "m",
            format!(
                r#"(module
            (import "luge_v1" "output_write" (func $output (param i32 i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "{lines}")
            (func (export "metadata") (result i32) (call $output (i32.const 0) (i32.const {length})) (i32.const 0))
            (func (export "transfer") (result i32) (i32.const 0))
            (func (export "validate") (result i32) (i32.const 0)))"#
            ),
        )
    };
    runtime().block_on(async {
        let mut talk = talk().await;
        let Ok(Reply::Module(told)) = talk.push(&module(&data, length)).await else {
            panic!("the lines are refused");
        };
        assert_eq!(
            (
                told.release.as_str(),
                told.procedures.len(),
                told.hooks.len()
            ),
            ("1.2.0", 1, 1)
        );
        // Every field of the table is known, with the default that the table tells.
        let rows = table(
            section("## Describers"),
            &["line", "field", "default", "meaning"],
        );
        assert_eq!(rows.len(), 17);
        let shortest =
            r#"{"procedure":"transfer"}{"hook":"validate","phase":"request","commands":["set"]}"#
                .replace("}{", "}\n{");
        let data = shortest.replace('"', "\\22").replace('\n', "\\0a");
        let Ok(Reply::Module(told)) = talk.push(&module(&data, shortest.len())).await else {
            panic!("the shortest lines are refused");
        };
        let defaults = serde_json::to_value((&told.procedures[0], &told.hooks[0])).unwrap();
        let mut kind = 0;
        let described = rows
            .iter()
            .skip_while(|row| row[0] != "`procedure`")
            .take_while(|row| row[0] != "`grant`");
        for row in described {
            kind += usize::from(row[0] == "`hook`");
            let field = row[1].trim_matches('`');
            assert!(
                field == "prefix_hex" || defaults[kind].get(field).is_some(),
                "{row:?}"
            );
            let default = row[2].trim_matches('`');
            match default {
                "required" | "" => {}
                "block" => assert_eq!(defaults[kind][field], "block"),
                "\"\"" => assert!(matches!(
                    defaults[kind][field].to_string().as_str(),
                    "\"\"" | "[]"
                )),
                default => assert_eq!(defaults[kind][field].to_string(), default, "{row:?}"),
            }
        }
        let asking = r#"{"procedure":"transfer"}{"grant":{"read":["a"],"read_hex":["62"],"write":["c"],"write_hex":[]}}"#
            .replace("}{", "}\n{");
        let data = asking.replace('"', "\\22").replace('\n', "\\0a");
        let Ok(Reply::Module(told)) = talk.push(&module(&data, asking.len())).await else {
            panic!("a grant is refused");
        };
        let expected = Grant {
            read: vec!["a".into(), "b".into()],
            write: vec!["c".into()],
        };
        assert_eq!(told.grant, Some(expected));
    });
}

/// A module with the describer's `lines`, an output of 1 byte at 4000, and `functions`.
fn described(lines: &str, functions: &str) -> Push {
    let data = lines.replace('"', "\\22").replace('\n', "\\0a");
    let length = lines.len();
    Push::new(
        "m",
        format!(
            r#"(module
        (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
        (import "luge_v1" "output_write" (func $output (param i32 i32)))
        (import "luge_v1" "request_previous" (func $previous (param i32 i32 i32) (result i64)))
        (import "luge_v1" "request_set_ttl" (func $set_ttl (param i64)))
        (import "luge_v1" "response_set_value" (func $set_response (param i32 i32)))
        (import "luge_v1" "kv_set" (func $kv_set (param i32 i32 i32 i32 i64)))
        (memory (export "memory") 1)
        (data (i32.const 0) "{data}")
        (data (i32.const 4000) "x")
        (func (export "metadata") (result i32) (call $output (i32.const 0) (i32.const {length})) (i32.const 0))
        {functions})"#
        ),
    )
}

#[test]
fn a_hook_that_gives_a_time_to_live_is_not_dodged_by_persist() {
    // A `persist` is an `expire`; it once took the expiry away whatever its hooks had put in its place.
    let cap = described(
        r#"{"hook":"cap","phase":"request","commands":["set","expire"],"prefix":"k"}"#,
        r#"(func (export "cap") (result i32) (call $set_ttl (i64.const 500)) (i32.const 0))"#,
    );
    check(
        &[cap],
        "
        > set k v
        v2
        > persist k
        true
        > ttl k
        500ms
        > persist kk
        false
        > set other v --ttl 1000
        v4
        > persist other
        true
        > ttl other
        none
    ",
    );
}

#[test]
fn an_answer_makes_no_condition_true_and_no_key_present() {
    // A `check` once passed whatever it asked for, where a hook answered the `get` of its key.
    let answer = described(
        "{\"hook\":\"early\",\"phase\":\"request\",\"commands\":[\"get\"],\"prefix\":\"a\"}\n{\"hook\":\"late\",\"phase\":\"response\",\"commands\":[\"get\"],\"prefix\":\"b\"}",
        r#"(func (export "early") (result i32) (call $output (i32.const 4000) (i32.const 1)) (i32.const 2))
        (func (export "late") (result i32) (call $set_response (i32.const 4000) (i32.const 1)) (i32.const 0))"#,
    );
    check(
        &[answer],
        "
        > mget a b c
        x v0, x v0, nil
        > batch check a --if 77; set c 1
        precondition_failed: the key is absent, and should be of version 77
        > exists a b
        0
        > ttl a
        nil
        > ttl b
        nil
        > batch set a 1 --ttl 100; set b 1
        v2, v2
        > batch check a --if 2; check b --if present; set c 1
        ok, ok, v3
        > exists a b
        2
        > ttl a
        100ms
    ",
    );
}

#[test]
fn initialisation_does_not_see_the_input() {
    // It is to do the same for every call, and could once read the arguments of the first.
    let early = Push::new(
        "early",
        r#"(module
        (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
        (memory (export "memory") 1)
        (func (export "_initialize") (drop (call $input (i32.const 0) (i32.const 0) (i32.const 0))))
        (func (export "run") (result i32) (i32.const 0)))"#,
    );
    check(
        &[early],
        "
        > call early.run hello
        trap: early.run: input: not while a module is initialised; call it from a function
    ",
    );
}

#[test]
fn a_procedure_has_an_instance_to_itself() {
    // It once ran in the one that the hooks of its module had left their state in.
    let counting = described(
        "{\"procedure\":\"run\"}\n{\"hook\":\"before\",\"phase\":\"request\",\"commands\":[\"call\"]}\n{\"hook\":\"after\",\"phase\":\"response\",\"commands\":[\"call\"]}",
        r#"(global $count (mut i32) (i32.const 48))
        (func $add (global.set $count (i32.add (global.get $count) (i32.const 1))))
        (func (export "before") (result i32) (call $add) (i32.const 0))
        (func (export "run") (result i32) (call $add)
            (i32.store8 (i32.const 5000) (global.get $count))
            (call $output (i32.const 5000) (i32.const 1)) (i32.const 0))
        (func (export "after") (result i32) (call $add)
            (if (i32.ne (global.get $count) (i32.const 50)) (then unreachable))
            (i32.const 0))"#,
    );
    check(
        &[counting],
        "
        > call m.run
        1
        > call m.run
        1
    ",
    );
}

#[test]
fn a_caller_lowers_the_memory_of_the_procedure_and_not_of_its_hooks() {
    // The hooks once ran in the procedure's instance, so a caller could make them fail; and an instance
    // that began above a lowered limit was told as a fault of the server.
    let module = described(
        "{\"procedure\":\"run\"}\n{\"hook\":\"after\",\"phase\":\"response\",\"commands\":[\"call\"]}",
        r#"(func (export "run") (result i32)
            (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
        (func (export "after") (result i32)
            (if (i32.eq (memory.grow (i32.const 9)) (i32.const -1)) (then unreachable))
            (i32.const 0))"#,
    );
    runtime().block_on(async {
        let mut talk = talk().await;
        talk.push(&module).await.unwrap();
        let mut call = async |memory_bytes| {
            let command = Command::Call(CallCommand {
                procedure: "m.run".into(),
                arguments: Vec::new().into(),
                dry_run: None,
                limits: Some(Box::new(LimitsRequest {
                    memory_bytes: Some(memory_bytes),
                    ..LimitsRequest::default()
                })),
            });
            talk.ask("", command, Options::default()).await
        };
        assert!(call(65_536).await.is_ok());
        let refused = call(1_000).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::MemoryExceeded, "{refused}");
    });
}

#[test]
fn a_call_has_no_previous_value() {
    // The key of a call is a name; a hook once saw the value of the data key with the same bytes.
    let module = described(
        r#"{"hook":"before","phase":"request","commands":["call"]}"#,
        r#"(func (export "before") (result i32)
            (i64.eq (call $previous (i32.const 0) (i32.const 0) (i32.const 0)) (i64.const -1)))"#,
    );
    check(
        &[module],
        "
        > set m.run secret
        v2
        > call m.run
        blocked: the hook m.before refused
    ",
    );
}

#[test]
fn a_hook_that_puts_out_too_much_leaves_no_writes() {
    // Its writes once stood, even where it failed.
    let module = described(
        r#"{"hook":"before","phase":"request","commands":["set"],"prefix":"k"}"#,
        r#"(func (export "before") (result i32)
            (call $kv_set (i32.const 4000) (i32.const 1) (i32.const 4000) (i32.const 1) (i64.const 0))
            (call $output (i32.const 0) (i32.const 400)) unreachable)"#,
    );
    check_with(
        &[module],
        |config| config.max_frame_bytes = 300,
        "
        > set k v
        too_large: what hooks put into the place of values exceeds the limit of 300 bytes
        > scan
        nothing
    ",
    );
}
