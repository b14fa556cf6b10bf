//! As much of etcd's messages as is read and written here, and how gRPC frames them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

/// A flag and four bytes of length stand before each message.
const FRAME: usize = 5;

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Header {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
    #[prost(uint64, tag = "4")]
    pub(super) raft_term: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(super) create_revision: i64,
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    #[prost(int64, tag = "4")]
    pub(super) version: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
    #[prost(int64, tag = "4")]
    pub(super) revision: i64,
    #[prost(bool, tag = "8")]
    pub(super) keys_only: bool,
    #[prost(bool, tag = "9")]
    pub(super) count_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
    #[prost(int64, tag = "4")]
    pub(super) count: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) create: Option<Create>,
    #[prost(message, optional, tag = "2")]
    pub(super) cancel: Option<Cancel>,
    #[prost(message, optional, tag = "3")]
    pub(super) progress: Option<Progress>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Create {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(int64, tag = "7")]
    pub(super) watch_id: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Cancel {
    #[prost(int64, tag = "1")]
    pub(super) watch_id: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Progress {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    #[prost(int64, tag = "2")]
    pub(super) watch_id: i64,
    #[prost(bool, tag = "3")]
    pub(super) created: bool,
    #[prost(bool, tag = "4")]
    pub(super) canceled: bool,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<Event>,
}

/// An event; its default type is a put.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    #[prost(message, optional, tag = "2")]
    pub(super) kv: Option<KeyValue>,
}

/// Appends a message in its frame.
pub(super) fn frame(message: &impl Message, to: &mut BytesMut) {
    let length = message.encoded_len();
    to.reserve(FRAME + length);
    to.put_u8(0);
    to.put_u32(length as u32);
    // There is room.
    let _ = message.encode(to);
}

/// A message in its frame, alone.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    frame(message, &mut bytes);
    bytes.freeze()
}

/// Takes the first message out of what came, if it is there whole.
pub(super) fn unframe<M: Message + Default>(from: &mut BytesMut) -> Result<Option<M>, String> {
    let Some(length) = from.get(1..FRAME) else {
        return Ok(None);
    };
    let length = length.iter().fold(0, |sum, b| sum << 8 | usize::from(*b));
    if from.len() < FRAME + length {
        return Ok(None);
    }
    from.advance(FRAME);
    let message = M::decode(from.split_to(length)).map_err(|e| e.to_string())?;
    Ok(Some(message))
}
