//! The port for those who look after the server: three pages over HTTP, and nothing that anybody can
//! change.
//!
//! It is a port of its own, so that it can be looked at while all places of the other are taken. Each
//! connection has one request, a small buffer, and little time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections at once. More wait in the kernel: whoever scrapes has one, and a page of metrics may take
/// some MiB.
const MAX_CONNECTIONS: usize = 8;

/// A request's line and headers, in bytes: none of the pages needs more than a line.
const MAX_HEADER_BYTES: usize = 8 << 10;

const MAX_HEADERS: usize = 64;

/// How long a request's headers may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take as a whole; scrapers give up after 10 s themselves.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// How long to wait after the operating system refuses to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What the pages tell.
pub trait Pages: Send + Sync + 'static {
    /// The metrics as text; none while the server starts. It may take its time.
    fn metrics(&self) -> Option<String>;

    /// Whether the server can do what clients ask for.
    ///
    /// # Errors
    /// Why not, in one sentence.
    fn readiness(&self) -> Result<(), String>;
}

/// Serves the pages until it is dropped.
pub async fn serve_pages(listener: TcpListener, pages: Arc<dyn Pages>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // One text at a time is made of all that is counted.
    let turn = Arc::new(Semaphore::new(1));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((socket, _)) => {
                let (pages, turn) = (Arc::clone(&pages), Arc::clone(&turn));
                connections.spawn(async move {
                    let _place = place;
                    serve_one(socket, pages, turn).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection for metrics");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(socket: TcpStream, pages: Arc<dyn Pages>, turn: Arc<Semaphore>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (pages, turn) = (Arc::clone(&pages), Arc::clone(&turn));
        async move { Ok::<_, Infallible>(answer(&request, pages, &turn).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    // Whoever sends no HTTP, or goes away, is nobody's concern.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

async fn answer<B>(
    request: &Request<B>,
    pages: Arc<dyn Pages>,
    turn: &Semaphore,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let methods = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, methods);
        return refusal;
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match pages.readiness() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => metrics(pages, turn).await,
        _ => text(
            StatusCode::NOT_FOUND,
            "the pages are /metrics, /healthz and /readyz\n",
        ),
    }
}

async fn metrics(pages: Arc<dyn Pages>, turn: &Semaphore) -> Response<Full<Bytes>> {
    let _turn = turn.acquire().await;
    // The store's figures lie behind its locks, which others may hold while they write.
    let made = tokio::task::spawn_blocking(move || pages.metrics()).await;
    match made.ok().flatten() {
        Some(made) => {
            let mut response = text(StatusCode::OK, made);
            response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
            response
        }
        None => text(StatusCode::SERVICE_UNAVAILABLE, "the server is starting\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}
