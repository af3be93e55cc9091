//! What is fed with any bytes: each takes them, and answers or refuses, without a panic. `fuzz/` has a
//! program for each; a test feeds the bytes that are kept there.

use std::sync::OnceLock;
use std::time::Instant;

use bytes::BytesMut;
use luge_protocol::{
    Command, FrameCodec, ModuleName, ModulePush, Options, PlainRequest, Request, Response,
    is_last_of_stream, response_id,
};
use luge_server::function::{Changes, Described, Exports, describe};
use luge_server::store::MemoryStore;
use luge_server::store::embedded::log::{BlockHead, Commits};
use serde::de::IgnoredAny;
use tokio::runtime::Runtime;
use tokio_util::codec::Decoder;

use crate::{BenchSession, encode, memory_core, session};

/// A target, and the folder of its bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("frames", frames),
    ("requests", requests),
    ("responses", responses),
    ("describers", describers),
    ("blocks", blocks),
    ("modules", modules),
];

const MAX_FRAME_BYTES: usize = 1 << 16;

/// A stream of frames, each of them read as a request, too.
///
/// # Panics
/// A frame is larger than what it came in.
pub fn frames(bytes: &[u8]) {
    let mut codec = FrameCodec {
        max_frame_bytes: MAX_FRAME_BYTES,
    };
    let mut stream = BytesMut::from(bytes);
    while let Ok(Some(body)) = codec.decode(&mut stream) {
        assert!(body.len() <= bytes.len() && body.len() <= MAX_FRAME_BYTES);
        requests(&body);
    }
}

/// The body of a request.
///
/// # Panics
/// What is written anew reads differently, or a plain request is read as another one.
pub fn requests(bytes: &[u8]) {
    let plain = PlainRequest::decode(bytes);
    let Ok(request) = Request::decode(bytes) else {
        assert_eq!(plain, None);
        return;
    };
    if let Some(plain) = plain {
        assert_eq!(
            (plain.id, &Options::default()),
            (request.id, &request.options)
        );
        let key = match &request.command {
            Command::Get(get) => &get.key,
            Command::Set(set) => &set.key,
            other => panic!("{} is read as a plain request", other.name()),
        };
        assert_eq!(plain.key, &key[..]);
    }
    let again = request.encode();
    assert_eq!(Request::decode(&again).as_ref(), Ok(&request));
}

/// The body of a response.
pub fn responses(bytes: &[u8]) {
    let _ = response_id(bytes);
    let _ = is_last_of_stream(bytes);
    let _ = Response::<IgnoredAny>::decode(bytes);
}

/// What a module says of itself.
pub fn describers(bytes: &[u8]) {
    let exports = Exports {
        callable: ["metadata", "run", "check"].map(str::to_owned).into(),
        others: vec![("other".to_owned(), "(i32) -> ()".to_owned())],
        has_hook_imports: true,
        large_memory: None,
    };
    let _ = describe(Described::Lines(bytes), &exports, Changes::default(), 1_024);
}

/// The commits in a block of the log, behind the block's last sequence and their count.
pub fn blocks(bytes: &[u8]) {
    let Some((last, rest)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let Some((count, payload)) = rest.split_first_chunk::<4>() else {
        return;
    };
    let head = BlockHead {
        last: u64::from_le_bytes(*last),
        count: u32::from_le_bytes(*count),
        ..BlockHead::default()
    };
    for (_, writes) in Commits::new(&head, payload).map_while(Result::ok) {
        writes.for_each(drop);
    }
}

/// The binary of a module, pushed and removed.
///
/// # Panics
/// There are no threads to run a server on.
pub fn modules(bytes: &[u8]) {
    static THREADS: OnceLock<Runtime> = OnceLock::new();
    static SESSION: OnceLock<tokio::sync::Mutex<BenchSession<MemoryStore>>> = OnceLock::new();
    let threads = THREADS.get_or_init(|| Runtime::new().expect("threads"));
    let session = SESSION.get_or_init(|| {
        let greeted = threads.block_on(session(&memory_core()));
        tokio::sync::Mutex::new(greeted)
    });
    threads.block_on(async {
        let mut session = session.lock().await;
        let push = encode(Command::ModulePush(Box::new(ModulePush {
            name: "any".into(),
            wasm: bytes.into(),
            config: None,
            limits: None,
            overrides: None,
            inactive: None,
            dry_run: None,
            grant: None,
            isolation: None,
        })));
        let name = "any".into();
        let remove = encode(Command::ModuleRemove(ModuleName { name }));
        for body in [push, remove] {
            session.handle(&body, Instant::now()).await;
        }
    });
}
