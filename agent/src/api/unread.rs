//! The limit on responses that clients have not read yet. Clients that receive the same text share it, and it counts
//! once, for the first of them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::Response;
use axum::middleware::Next;
use axum::response::IntoResponse;
use bytes::Bytes;
use discover_core::Result;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::api::problem::Problem;
use crate::net::peer::Peer;
use crate::net::quota::{Quota, QuotaLimits, QuotaPermit};

/// Size of the parts in which a response is written, in bytes. Each connection has a copy of one or two of them;
/// the rest of the text is shared.
const PART_BYTES: usize = 16 * 1024;

/// Texts that are being sent, with the client for which each counts.
pub struct UnreadResponses {
    quota: Arc<Quota>,
    texts: Mutex<HashMap<TextId, UnreadText>>,
}

/// Address and length of a text. No other text has both while the text lives.
type TextId = (usize, usize);

struct UnreadText {
    readers: usize,
    _permit: QuotaPermit,
}

/// A text that one client has not read completely. Dropping it makes room for others.
struct UnreadHold {
    responses: Arc<UnreadResponses>,
    id: TextId,
    /// Keeps the address in use.
    _text: Bytes,
}

impl UnreadResponses {
    /// Creates a limit of `max_bytes`. One client may leave half of it unread.
    pub fn new(max_bytes: usize) -> Arc<UnreadResponses> {
        let limits = QuotaLimits {
            count: None,
            bytes: Some((max_bytes, Some("unread_bytes"))),
        };
        Arc::new(UnreadResponses {
            quota: Quota::new("unread responses", limits),
            texts: Mutex::default(),
        })
    }

    /// Counts a text until it was read. Short texts are not counted.
    fn hold(self: &Arc<UnreadResponses>, peer: Peer, text: &Bytes) -> Result<Option<UnreadHold>> {
        if text.len() <= PART_BYTES {
            return Ok(None);
        }
        let id = (text.as_ptr() as usize, text.len());
        let mut texts = self.texts();
        match texts.get_mut(&id) {
            Some(unread) => unread.readers += 1,
            None => {
                let permit = self.quota.admit(peer, text.len(), None)?;
                let unread = UnreadText {
                    readers: 1,
                    _permit: permit,
                };
                texts.insert(id, unread);
            }
        }
        Ok(Some(UnreadHold {
            responses: self.clone(),
            id,
            _text: text.clone(),
        }))
    }

    fn texts(&self) -> MutexGuard<'_, HashMap<TextId, UnreadText>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnreadHold {
    fn drop(&mut self) {
        let mut texts = self.responses.texts();
        if let Some(unread) = texts.get_mut(&self.id) {
            unread.readers -= 1;
            if unread.readers == 0 {
                texts.remove(&self.id);
            }
        }
    }
}

/// Counts the responses of all routes until their clients have read them, and refuses those beyond the limit.
pub async fn limit(
    State(responses): State<Arc<UnreadResponses>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let (head, body) = next.run(request).await.into_parts();
    let mut counted = CountedBody {
        inner: Some(body),
        text: Bytes::new(),
        hold: None,
        responses: responses.clone(),
        peer,
    };
    // A response of a known size is complete, so it can still be refused.
    if let Some(body) = counted
        .inner
        .take_if(|body| body.size_hint().exact().is_some())
    {
        let collected = body.collect().await.map(|collected| collected.to_bytes());
        let text = collected.unwrap_or_default();
        match responses.hold(peer, &text) {
            Ok(hold) => (counted.text, counted.hold) = (text, hold),
            Err(error) => return Problem::from(error).into_response(),
        }
    }
    Response::from_parts(head, Body::new(counted))
}

/// A body that is counted while it is unread, and written in parts.
struct CountedBody {
    /// The rest of the body, unless `text` is all of it.
    inner: Option<Body>,
    text: Bytes,
    hold: Option<UnreadHold>,
    responses: Arc<UnreadResponses>,
    peer: Peer,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::BoxError>>> {
        if self.text.is_empty() {
            let Some(inner) = &mut self.inner else {
                return Poll::Ready(None);
            };
            let frame = match ready!(Pin::new(inner).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            };
            match frame.into_data() {
                Ok(text) => {
                    // Beyond the limit, the stream ends, and the client reconnects.
                    self.hold = self.responses.hold(self.peer, &text)?;
                    self.text = text;
                }
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
        let length = self.text.len().min(PART_BYTES);
        let part = self.text.split_to(length);
        if self.text.is_empty() {
            self.hold = None;
        }
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            None => SizeHint::with_exact(self.text.len() as u64),
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use discover_core::ErrorKind;

    #[test]
    fn a_text_counts_once_for_all_its_readers() {
        let responses = UnreadResponses::new(4 * PART_BYTES);
        let text = |length| Bytes::from(vec![b'x'; length]);
        let (one, two) = (Peer::User(1), Peer::User(2));
        let shared = text(PART_BYTES * 2);
        let mut readers: Vec<_> = (0..100)
            .map(|_| responses.hold(one, &shared.clone()).unwrap())
            .collect();
        let refused = responses.hold(one, &text(PART_BYTES + 1)).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Resource, "{refused}");
        let other = responses.hold(two, &text(PART_BYTES + 1)).unwrap();
        readers.truncate(1);
        assert!(responses.hold(one, &text(PART_BYTES + 1)).is_err());
        drop((readers, other));
        assert!(responses.texts().is_empty());
        assert_eq!(responses.quota.count(), 0);
    }

    #[tokio::test]
    async fn a_long_text_is_delivered_in_parts() {
        let text = Bytes::from(vec![b'x'; PART_BYTES * 2 + 7]);
        let responses = UnreadResponses::new(usize::MAX);
        let body = CountedBody {
            inner: None,
            hold: responses.hold(Peer::User(1), &text).unwrap(),
            text: text.clone(),
            responses: responses.clone(),
            peer: Peer::User(1),
        };
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        assert_eq!(body.collect().await.unwrap().to_bytes(), text);
        assert!(responses.texts().is_empty());
    }
}
