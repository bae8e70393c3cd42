//! A body that is refused before all of it was read. Who still sends does not hear an answer: their next bytes meet a closed
//! connection, and all that they learn is a broken pipe. So the rest is read and thrown away, within bounds, and unless somebody
//! wants the room.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::BODY_MAX;
use super::server::{Ends, Turn};

/// For how long the rest is read.
const REST_WITHIN: Duration = Duration::from_secs(5);
/// How much of it, in bytes: of a mistake all, of a flood not.
const REST_MAX: usize = 4 * BODY_MAX;

/// The body of a request, of which the rest is read when nobody wants it any more.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// Empty only once it is dropped.
    body: Option<Incoming>,
    /// Whether the caller sends it only once they are told to.
    waits: bool,
    /// Lasts until it is read.
    turn: Arc<Turn>,
    ends: Ends,
}

impl RequestBody {
    /// `waits`: whether the caller is to be told to go on before they send it; until the first look at it they send nothing, and
    /// need not.
    pub fn new(body: Incoming, waits: bool, (turn, ends): (Arc<Turn>, Ends)) -> Self {
        Self { body: Some(body), waits, turn, ends }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let (Some(mut body), Ok(runtime)) = (self.body.take(), tokio::runtime::Handle::try_current()) else { return };
        if self.waits || body.is_end_stream() {
            return;
        }
        let (turn, ends) = (Arc::clone(&self.turn), self.ends.clone());
        runtime.spawn(async move {
            tokio::select! {
                biased;
                () = throw_away(&mut body) => {}
                () = ends.wanted() => {}
                () = tokio::time::sleep(REST_WITHIN) => {}
            }
            drop((body, turn));
        });
    }
}

/// Reads on, and keeps nothing.
async fn throw_away(body: &mut Incoming) {
    let mut read = 0;
    while read <= REST_MAX
        && let Some(Ok(frame)) = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}
