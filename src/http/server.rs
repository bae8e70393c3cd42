//! Connections: how many, and how long each may keep us waiting.
//!
//! Whoever has connected has to say what they want within a few seconds, and once they begin to say it, in as many. Between two
//! requests a connection may rest for as long as the proxies of Google Cloud keep theirs: one that we closed first would now
//! and then be closed upon a request. While somebody waits for room, whoever rests makes it, and everybody else makes it
//! after their next answer: nobody keeps others out by doing nothing, nor by asking again and again. How long a body may take is for
//! those who read it to say.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::IntoResponse as _;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tower::ServiceExt as _;

use super::problem::Problem;
use super::unread::RequestBody;
use crate::fault::caught;

/// Bytes of a request's first line and headers.
const HEAD_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 100;
/// Nobody can be let in for the moment; after this long it is tried again.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many there may be; more wait.
    pub connections: usize,
    /// How long a request's first line and headers may take.
    pub head: Duration,
    /// How long a connection may rest between two requests.
    pub rest: Duration,
    /// How long nothing of an answer may be taken.
    pub taken: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Google's load balancers keep theirs for 600 s.
        Self {
            connections: 256,
            head: Duration::from_secs(10),
            rest: Duration::from_secs(620),
            taken: Duration::from_secs(30),
        }
    }
}

/// What is told of a fault of ours.
const FAULT: &str = "tipoff has a fault here: its log has a line that begins with `a panic`, which is worth reporting";

/// How often those that are connected are asked for room while somebody waits for it.
const CROWDED_EVERY: Duration = Duration::from_millis(100);
/// Whoever has come, or has been answered, a shorter time ago is probably about to ask.
const REST_MIN: Duration = Duration::from_secs(1);

/// From where a request comes, as its connection says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer(pub SocketAddr);

/// Serves `router` until `stopping` turns true, and then until every request under way is answered.
pub async fn serve(listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>, limits: Limits) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let (crowd, crowded) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = async {
                let accepted = listener.accept().await?;
                loop {
                    match tokio::time::timeout(CROWDED_EVERY, Arc::clone(&places).acquire_owned()).await {
                        Ok(place) => break Ok((accepted, place)),
                        Err(_) => crowd.send_replace(()),
                    };
                }
            } => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(((stream, peer), Ok(place))) => {
                let (router, mut ends) =
                    (router.clone(), Ends { stopping: stopping.clone(), crowded: crowded.clone() });
                ends.crowded.mark_unchanged();
                connections.spawn(async move {
                    connection(stream, Peer(peer), router, ends, limits).await;
                    drop(place);
                });
            }
            Err::<_, io::Error>(error) => {
                tracing::warn!("no connection can be accepted: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
            // Nobody ends the places.
            Ok((_, Err(_))) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Whether a caller sends their body only once they are told to.
fn is_told_to_go_on(request: &Request<Incoming>) -> bool {
    let expect = request.headers().get(header::EXPECT).map(HeaderValue::as_bytes).unwrap_or_default();
    request.version() == Version::HTTP_11 && expect.eq_ignore_ascii_case(b"100-continue")
}

/// What ends a connection as soon as it rests.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// The service stops.
    stopping: watch::Receiver<bool>,
    /// Somebody waits for room.
    crowded: watch::Receiver<()>,
}

impl Ends {
    /// Waits until somebody wants the room, or all of it ends.
    pub(super) async fn wanted(mut self) {
        self.crowded.mark_unchanged();
        tokio::select! {
            // A sender that has gone is an end, too.
            _ = self.stopping.wait_for(|stop| *stop) => {}
            _ = self.crowded.changed() => {}
        }
    }

    /// Waits for it. Whether what is under way may still be answered: whoever has asked for nothing has nothing under way.
    async fn come(&mut self, turns: &Turns) -> bool {
        loop {
            tokio::select! {
                // A sender that has gone is an end, too.
                _ = self.stopping.wait_for(|stop| *stop) => return true,
                changed = self.crowded.changed() => {
                    if changed.is_err() || turns.rested() >= REST_MIN {
                        return turns.count() > 0;
                    }
                    turns.is_last.store(true, Ordering::Release);
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: Peer, router: Router, mut end: Ends, limits: Limits) {
    // An answer is written at once, so there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let turns = Arc::new(Turns::default());
    let answer = {
        let (turns, ends) = (Arc::clone(&turns), end.clone());
        service_fn(move |request: Request<Incoming>| {
            let turn = Turn::begin(&turns);
            let waits = is_told_to_go_on(&request);
            let mut request =
                request.map(|body| Body::new(RequestBody::new(body, waits, (Arc::clone(&turn), ends.clone()))));
            request.extensions_mut().insert(peer);
            let answered = router.clone().oneshot(request);
            async move {
                // The panic is in the log; whoever asked gets an answer, and the connection goes on.
                let mut answer = match caught(answered).await {
                    Ok(answer) => answer?,
                    Err(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", FAULT).into_response(),
                };
                if turn.0.is_last.load(Ordering::Acquire) {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer.map(|body| Answered { body, _turn: turn }))
            }
        })
    };
    let stream =
        Patient { stream, turns: Arc::clone(&turns), seen: 0, waiting: Waiting::Not, timer: None, taken: None, limits };
    let mut builder = http1::Builder::new();
    builder.max_header_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let mut ends = false;
    loop {
        tokio::select! {
            // A request that has come is read before it is said that none has.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection has ended");
                }
                return;
            }
            gently = end.come(&turns), if !ends => {
                if !gently {
                    return;
                }
                ends = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Counts up when a request has come, and when it is answered and read: odd while there is one.
#[derive(Debug)]
struct Turns {
    count: AtomicUsize,
    /// Whether the connection ends with its next answer, since somebody waits for room.
    is_last: AtomicBool,
    /// The connection, where it has looked for a request while another was being answered: from the answer on it is waited for,
    /// and nobody else would wake it for that.
    reader: Mutex<Option<Waker>>,
    /// When the last answer ended; before the first, when the connection began.
    answered: Mutex<Instant>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            count: AtomicUsize::new(0),
            is_last: AtomicBool::new(false),
            reader: Mutex::default(),
            answered: Mutex::new(Instant::now()),
        }
    }
}

impl Turns {
    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// For how long nothing has been asked.
    fn rested(&self) -> Duration {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if self.count().is_multiple_of(2) { answered.elapsed() } else { Duration::ZERO }
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's turn, which ends with its answer and its body, however these end.
#[derive(Debug)]
pub(super) struct Turn(Arc<Turns>);

impl Turn {
    fn begin(turns: &Arc<Turns>) -> Arc<Self> {
        turns.count.fetch_add(1, Ordering::AcqRel);
        Arc::new(Self(Arc::clone(turns)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.count.fetch_add(1, Ordering::AcqRel);
        let reader = self.0.reader().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The body of an answer, as long as it lasts.
struct Answered {
    body: Body,
    _turn: Arc<Turn>,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that is not waited for for ever.
struct Patient {
    stream: TcpStream,
    turns: Arc<Turns>,
    /// The turn in which we last waited.
    seen: usize,
    waiting: Waiting,
    timer: Option<Pin<Box<Sleep>>>,
    /// Until when something of what is written has to be taken.
    taken: Option<Pin<Box<Sleep>>>,
    limits: Limits,
}

/// For what we wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Not,
    /// For the first byte of a request.
    Begin,
    /// For the rest of it.
    Rest,
}

impl Patient {
    /// Begins to wait for so long.
    fn wait(&mut self, waiting: Waiting, span: Duration) {
        self.waiting = waiting;
        let until = Instant::now() + span;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(until),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(until))),
        }
    }
}

impl Patient {
    /// What became of writing, which may not stand for ever.
    fn written<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.taken = None;
            return written;
        }
        let span = self.limits.taken;
        let timer = self.taken.get_or_insert_with(|| Box::pin(tokio::time::sleep(span)));
        timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut turn = this.turns.count();
        if turn % 2 == 1 {
            *this.turns.reader() = Some(context.waker().clone());
            // It may have been answered in between.
            turn = this.turns.count();
        }
        let had = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if turn % 2 == 1 {
            this.waiting = Waiting::Not;
            return read;
        }
        if this.waiting == Waiting::Not || this.seen != turn {
            this.seen = turn;
            let span = if turn == 0 { this.limits.head } else { this.limits.rest };
            this.wait(Waiting::Begin, span);
        }
        if this.waiting == Waiting::Begin && buffer.filled().len() > had {
            let span = this.limits.head;
            this.wait(Waiting::Rest, span);
        }
        if read.is_pending() && this.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(written, context)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
