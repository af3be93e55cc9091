//! The page of metrics: what is known of a server in numbers, as text in the format OpenMetrics 1.0, which
//! Prometheus and its kin read.

use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use crate::function::Distribution;
use crate::net::Pages;
use crate::server::EmbeddedCore;
use crate::session::{Figures, FunctionFigures};
use crate::store::Store;

/// The bounds of buckets of times, as powers of two in nanoseconds: from 1 µs to 17 s.
const TIME_POWERS: std::ops::RangeInclusive<u32> = 10..=34;

/// The bounds of buckets of fuel, as powers of two.
const FUEL_POWERS: std::ops::RangeInclusive<u32> = 8..=34;

/// Each bucket has four times the last one's bound: finer ones would be more lines than most read.
const POWER_STEP: usize = 2;

/// What the port for metrics tells of a server.
#[derive(Default)]
pub(crate) struct ServerPages {
    served: OnceLock<Served>,
}

struct Served {
    core: Arc<EmbeddedCore>,
    stopping: OnceLock<watch::Receiver<bool>>,
}

impl ServerPages {
    /// From now on there is a server: its store is open, and its modules are loaded.
    pub(crate) fn started(&self, core: Arc<EmbeddedCore>) {
        let stopping = OnceLock::new();
        let _ = self.served.set(Served { core, stopping });
    }

    /// From now on it is known when the server stops.
    pub(crate) fn runs_until(&self, stopping: watch::Receiver<bool>) {
        if let Some(served) = self.served.get() {
            let _ = served.stopping.set(stopping);
        }
    }
}

impl Pages for ServerPages {
    fn metrics(&self) -> Option<String> {
        let served = self.served.get()?;
        match text(served.core.figures()) {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::error!(%error, "the metrics can't be written");
                None
            }
        }
    }

    fn readiness(&self) -> Result<(), String> {
        let Some(served) = self.served.get() else {
            return Err("the server is starting".to_owned());
        };
        if served.stopping.get().is_some_and(|it| *it.borrow()) {
            return Err("the server is stopping".to_owned());
        }
        let writable = served.core.store.check_writable();
        writable.map_err(|error| error.to_string())
    }
}

fn text(figures: Figures) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("luge");
    registry.register_collector(Box::new(Page(figures)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Page(Figures);

/// What labels a value.
type Labels<'a> = Vec<(&'static str, String)>;

/// One family after another.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(figures) = self;
        let mut writer = Writer(encoder);
        write_server(&mut writer, figures)?;
        write_functions(&mut writer, &figures.functions)?;
        write_store(&mut writer, figures)
    }
}

fn write_server(writer: &mut Writer<'_>, figures: &Figures) -> fmt::Result {
    let uptime = seconds(figures.uptime_ms.saturating_mul(1_000_000));
    writer.gauge(
        "uptime",
        "Time since the start",
        Some(Unit::Seconds),
        uptime,
    )?;
    let mut gauge = |name, help, value: u64| writer.gauge(name, help, None, value as f64);
    gauge("connections", "Open connections", figures.connections)?;
    gauge("modules", "Registered modules", figures.modules)?;
    let help = "Requests that run functions";
    gauge("running_calls", help, figures.running_calls)?;
    gauge("streams", "Streams that have not ended", figures.streams)?;
    let requests = figures.requests.iter().map(|(command, result, count)| {
        let labels = vec![
            ("command", (*command).to_owned()),
            ("result", (*result).to_owned()),
        ];
        (labels, *count)
    });
    let help = "Requests that were answered, by command and by ok or the code of the error";
    writer.counters("requests", help, None, requests)?;
    let (received, sent) = figures.traffic;
    let bytes = Some(Unit::Bytes);
    let help = "What came from clients";
    writer.counters("received", help, bytes.clone(), [(vec![], received)])?;
    writer.counters("sent", "What went to clients", bytes, [(vec![], sent)])?;
    let help = "Lines of functions that were dropped, being too many in a second";
    let dropped = [(vec![], figures.dropped_log_lines)];
    writer.counters("guest_log_lines_dropped", help, None, dropped)?;
    let help = "Calls of functions beyond those that are counted by name";
    let uncounted = [(vec![], figures.uncounted_calls)];
    writer.counters("uncounted_function_calls", help, None, uncounted)?;
    let hooks = figures.hooks.iter().map(|(command, times)| {
        let labels = vec![("command", (*command).to_owned())];
        (labels, times)
    });
    let help = "Time that hooks added to a request, all its attempts together";
    writer.times("hooks_added", help, hooks)
}

fn write_functions(writer: &mut Writer<'_>, functions: &[FunctionFigures]) -> fmt::Result {
    let each = || functions.iter().map(|it| (labels(it), &it.counted));
    let help = "Time running of a call";
    let times = each().map(|(labels, it)| (labels, &it.cpu_ns));
    writer.times("function_cpu", help, times)?;
    let fuel = each().map(|(labels, it)| (labels, &it.fuel));
    writer.fuel("function_fuel", "Fuel of a call", fuel)?;
    let errors = each().flat_map(|(labels, it)| {
        let errors = it.errors.iter();
        errors.map(move |(code, count)| {
            let code = ("code", code.name().to_owned());
            ([labels.clone(), vec![code]].concat(), *count)
        })
    });
    let help = "Calls that did not succeed, by code";
    writer.counters("function_errors", help, None, errors)?;
    let help = "Attempts in which it ran and whose commit met a conflict";
    let conflicts = each().map(|(labels, it)| (labels, it.conflicts));
    writer.counters("function_conflicts", help, None, conflicts)?;
    let help = "Calls in attempts behind the first of their request";
    let retries = each().map(|(labels, it)| (labels, it.retries));
    writer.counters("function_retries", help, None, retries)?;
    let help = "The most linear memory that a call had";
    let memory = each().map(|(labels, it)| (labels, it.memory_bytes as f64));
    writer.gauges("function_memory_max", help, Some(Unit::Bytes), memory)
}

fn labels(it: &FunctionFigures) -> Labels<'static> {
    vec![
        ("module", it.module.clone()),
        ("version", it.version.to_string()),
        ("function", it.function.clone()),
        ("kind", it.kind.name().to_owned()),
    ]
}

fn write_store(writer: &mut Writer<'_>, figures: &Figures) -> fmt::Result {
    let store = &figures.store;
    let mut gauge = |name, help, value: u64| writer.gauge(name, help, None, value as f64);
    let help = "The newest commit that is visible";
    gauge("store_sequence", help, store.visible)?;
    let help = "The newest commit that is as durable as it was asked to be";
    gauge("store_acked_sequence", help, store.acked)?;
    let help = "The newest commit that is on disk";
    gauge("store_synced_sequence", help, store.synced)?;
    gauge("store_snapshots", "Open snapshots", store.snapshots)?;
    let writable = u64::from(store.is_writable);
    gauge("store_writable", "Whether writes are taken", writable)?;
    let sizes = [
        (
            "store_unfolded",
            "Writes in memory that the index has not",
            store.unfolded_bytes,
        ),
        (
            "store_history",
            "Replaced values in memory, for snapshots",
            store.history_bytes,
        ),
        (
            "store_cache",
            "Entries of the index in memory",
            store.cached_bytes,
        ),
        ("store_log", "The log's files", store.log_bytes),
    ];
    for (name, help, bytes) in sizes {
        writer.gauge(name, help, Some(Unit::Bytes), bytes as f64)?;
    }
    let help = "Passes that took writes to the index";
    writer.counters("store_folds", help, None, [(vec![], store.folds)])?;
    let help = "Copies of the index that were written";
    writer.counters("store_bases", help, None, [(vec![], store.bases)])
}

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> fmt::Result {
        self.gauges(name, help, unit, [(vec![], value)])
    }

    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            unit,
            MetricType::Gauge,
            values,
            |encoder, value| encoder.encode_gauge(value),
        )
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels<'l>, u64)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            unit,
            MetricType::Counter,
            values,
            |encoder, value| {
                let exemplar: Option<&Exemplar<NoLabelSet, u64>> = None;
                encoder.encode_counter(value, exemplar)
            },
        )
    }

    /// Distributions of nanoseconds, in seconds.
    fn times<'l, 'd>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, &'d Distribution)>,
    ) -> fmt::Result {
        let histogram = MetricType::Histogram;
        self.family(
            name,
            help,
            Some(Unit::Seconds),
            histogram,
            values,
            |encoder, it| {
                let below = it.below(TIME_POWERS.step_by(POWER_STEP));
                let buckets = below.iter().map(|(bound, count)| (seconds(*bound), *count));
                encode_buckets(encoder, seconds(it.total), it.count(), buckets.collect())
            },
        )
    }

    /// Distributions of fuel.
    fn fuel<'l, 'd>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'l>, &'d Distribution)>,
    ) -> fmt::Result {
        self.family(
            name,
            help,
            None,
            MetricType::Histogram,
            values,
            |encoder, it| {
                let below = it.below(FUEL_POWERS.step_by(POWER_STEP));
                let buckets = below.iter().map(|(bound, count)| (*bound as f64, *count));
                encode_buckets(encoder, it.total as f64, it.count(), buckets.collect())
            },
        )
    }

    fn family<'l, V>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        values: impl IntoIterator<Item = (Labels<'l>, V)>,
        encode: impl Fn(&mut MetricEncoder<'_>, &V) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in values {
            if labels.is_empty() {
                encode(&mut family, &value)?;
            } else {
                encode(&mut family.encode_family(&labels)?, &value)?;
            }
        }
        Ok(())
    }
}

/// The library wants counts for each bucket, and adds up those below it itself.
fn encode_buckets(
    encoder: &mut MetricEncoder<'_>,
    sum: f64,
    count: u64,
    below: Vec<(f64, u64)>,
) -> fmt::Result {
    let mut before = 0;
    let mut buckets: Vec<(f64, u64)> = below
        .into_iter()
        .map(|(bound, below)| (bound, below - std::mem::replace(&mut before, below)))
        .collect();
    buckets.push((f64::INFINITY, count - before));
    encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// Whole nanoseconds of a year are exact.
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
