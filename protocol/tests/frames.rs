//! The frame codec, on whole streams and on streams in pieces.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that can't go on should say where"
)]

mod common;

use bytes::{Bytes, BytesMut};
use common::cases;
use luge_protocol::{FRAME_HEADER_BYTES, FrameCodec, FrameError};
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

const CODEC: FrameCodec = FrameCodec {
    max_frame_bytes: 1 << 20,
};

/// Feeds the pieces one by one, and takes every frame as soon as it is there.
fn decode_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let mut codec = CODEC;
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(frame) = codec
            .decode(&mut buffer)
            .expect("the stream is well formed")
        {
            frames.push(frame);
        }
    }
    assert!(buffer.is_empty(), "nothing is left over");
    frames
}

fn stream_of(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = BytesMut::new();
    for body in bodies {
        CODEC
            .clone()
            .encode(body, &mut stream)
            .expect("the body is short");
    }
    stream.to_vec()
}

#[test]
fn a_stream_of_all_golden_frames_decodes_alike_split_at_every_byte() {
    let bodies: Vec<Vec<u8>> = cases::all().into_iter().map(|case| case.body).collect();
    let stream = stream_of(&bodies);
    for place in 0..=stream.len() {
        let (head, tail) = stream.split_at(place);
        assert_eq!(decode_pieces([head, tail]), bodies, "split at {place}");
    }
}

#[test]
fn a_stream_decodes_alike_in_pieces_of_every_size() {
    let bodies: Vec<Vec<u8>> = cases::all().into_iter().map(|case| case.body).collect();
    let stream = stream_of(&bodies);
    for size in 1..64 {
        assert_eq!(
            decode_pieces(stream.chunks(size)),
            bodies,
            "pieces of {size}"
        );
    }
}

#[test]
fn an_empty_body_is_a_frame() {
    assert_eq!(decode_pieces([&[0, 0, 0, 0][..]]), [Bytes::new()]);
}

#[test]
fn a_length_of_4_gib_is_refused_from_its_header_and_nothing_is_reserved() {
    let mut buffer = BytesMut::with_capacity(16);
    buffer.extend_from_slice(&[0xff; 4]);
    let error = CODEC.clone().decode(&mut buffer).unwrap_err();
    let FrameError::TooLarge {
        announced,
        limit,
        header,
    } = error
    else {
        panic!("not {error:?}");
    };
    assert_eq!(announced, u32::MAX as usize);
    assert_eq!((limit, header), (1 << 20, [0xff; 4]));
    assert!(buffer.capacity() <= 16);
}

#[test]
fn the_error_of_a_long_frame_names_both_lengths() {
    let mut buffer = BytesMut::from(&(1_048_577_u32).to_be_bytes()[..]);
    let error = CODEC.clone().decode(&mut buffer).unwrap_err();
    let sentence = "frame of 1048577 bytes exceeds the limit of 1048576";
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    let mut codec = FrameCodec { max_frame_bytes: 8 };
    let mut stream = BytesMut::new();
    codec.encode(&[7; 8], &mut stream).unwrap();
    assert_eq!(codec.decode(&mut stream).unwrap().unwrap(), &[7; 8][..]);
    assert!(codec.encode(&[7; 9], &mut stream).is_err());
    assert!(stream.is_empty(), "a refused body leaves no bytes behind");
}

#[test]
fn an_announced_length_reserves_nothing_before_it_arrives() {
    let mut codec = CODEC;
    let mut buffer = BytesMut::with_capacity(64);
    buffer.extend_from_slice(&(1_u32 << 20).to_be_bytes());
    buffer.extend_from_slice(&[0; 10]);
    assert!(codec.decode(&mut buffer).unwrap().is_none());
    assert!(buffer.capacity() <= 64);
}

proptest! {
    #[test]
    fn any_bodies_survive_any_split(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let stream = stream_of(&bodies);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        places.sort_unstable();
        let mut pieces = Vec::new();
        let mut begin = 0;
        for place in places {
            pieces.push(&stream[begin..place]);
            begin = place;
        }
        pieces.push(&stream[begin..]);
        prop_assert_eq!(decode_pieces(pieces), bodies);
    }

    #[test]
    fn any_bytes_give_frames_or_an_error_and_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut codec = FrameCodec { max_frame_bytes: 64 };
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut taken = 0;
        while let Ok(Some(frame)) = codec.decode(&mut buffer) {
            prop_assert!(frame.len() <= 64);
            taken += frame.len() + FRAME_HEADER_BYTES;
        }
        prop_assert_eq!(taken + buffer.len(), bytes.len());
    }
}
