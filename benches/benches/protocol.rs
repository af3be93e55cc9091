//! Frames and bodies: what a request and its reply cost to read and write.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use luge_protocol::{Command, Found, FrameCodec, Get, Reply, Request, Response, Set};
use std::hint::black_box;
use tokio_util::codec::{Decoder, Encoder};

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol");
    group.throughput(Throughput::Elements(1));
    let mut codec = FrameCodec {
        max_frame_bytes: 16 << 20,
    };
    let value = [b'v'; 64];
    let set = Request::new(
        7,
        Command::Set(Set {
            key: b"user:1234567890".into(),
            value: (&value).into(),
            ttl_ms: None,
            keep_ttl: None,
            condition: None,
            return_old: None,
        }),
    )
    .encode();
    let get = Request::new(
        7,
        Command::Get(Get {
            key: b"user:1234567890".into(),
        }),
    )
    .encode();
    group.bench_function("frame, encoded and decoded", |bencher| {
        let mut buffer = BytesMut::with_capacity(4096);
        bencher.iter(|| {
            codec.encode(black_box(&set), &mut buffer).expect("it fits");
            codec.decode(&mut buffer).expect("a frame")
        });
    });
    group.bench_function("get request, decoded", |bencher| {
        bencher.iter(|| Request::decode(black_box(&get)).expect("a request").id);
    });
    group.bench_function("set request, decoded", |bencher| {
        bencher.iter(|| Request::decode(black_box(&set)).expect("a request").id);
    });
    group.bench_function("get reply, encoded", |bencher| {
        let response = Response {
            id: 7,
            outcome: Ok(Reply::Get(Some(Found(Bytes::copy_from_slice(&value), 9)))),
        };
        let mut body = Vec::with_capacity(256);
        bencher.iter(|| {
            body.clear();
            black_box(&response).encode(&mut body).expect("it encodes");
        });
    });
    group.finish();
}

criterion_group!(benches, round_trip);
criterion_main!(benches);
