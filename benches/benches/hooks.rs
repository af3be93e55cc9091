//! What a command pays for hooks that do not match its key: the question that each command asks the registry.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use luge_benches::memory_core;
use luge_protocol::{
    HookCommand, HookDescription, Isolation, LimitsRequest, ModuleDescription, OnFailure, Phase,
};
use luge_server::function::{
    Gate, ModuleContext, ModuleEntry, Registered, Registry, StatsRoom, VersionStats, Versions,
};

fn questions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hooks");
    for count in [0, 1, 8, 32] {
        let registry = registry(count);
        assert!(registry.is_hooked(HookCommand::Get, b"other:0:x") == (count > 0));
        group.bench_function(format!("{count} that do not match"), |bencher| {
            let key = b"user:1234567890";
            bencher.iter(|| black_box(&registry).is_hooked(HookCommand::Get, black_box(key)));
        });
    }
    group.finish();
}

/// A module with so many hooks around `get`, each for keys of its own.
fn registry(count: usize) -> Registry<()> {
    let hook = |number| HookDescription {
        hook: format!("hook_{number}"),
        phase: Phase::Request,
        commands: vec![HookCommand::Get],
        prefix: format!("other:{number}:").into_bytes().into(),
        order: 0,
        on_failure: OnFailure::Block,
        description: String::new(),
    };
    let hooks: Vec<_> = (0..count).map(hook).collect();
    let room = Arc::new(StatsRoom::new(100));
    let stats = Arc::new(VersionStats::new(&[], &hooks, &room));
    let description = ModuleDescription {
        name: "bench".to_owned(),
        version: 1,
        active: true,
        sha256: String::new(),
        size: 0,
        pushed_ms: 0,
        release: String::new(),
        description: String::new(),
        procedures: Vec::new(),
        hooks,
        config: BTreeMap::new(),
        limits: LimitsRequest::default(),
        grant: None,
        isolation: Isolation::Fresh,
        warnings: Vec::new(),
        change: None,
    };
    let entry = ModuleEntry {
        versions: Versions::default(),
        active: Some(Arc::new(Registered {
            description,
            module: (),
            limits: Arc::new(memory_core().settings.ceilings.default.clone()),
            procedures: Box::default(),
            hooks: (0..count).map(|_| Arc::default()).collect(),
            context: Arc::new(ModuleContext::default()),
            gate: Gate::new(1, 1),
            stats,
        })),
    };
    Registry::new([("bench".to_owned(), Arc::new(entry))].into(), 0)
}

criterion_group!(benches, questions);
criterion_main!(benches);
