//! What the agent answers, path by path.

use super::access::{Access, TOKEN_COOKIE};
use super::published::{Board, Form as List, Health, Published};
use super::stream::{self, Form};
use bytes::Bytes;
use futures_util::stream::once;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    LOCATION, REFERRER_POLICY, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{HeaderMap, Method, Response, StatusCode};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use twtrace_core::snapshot::GroupBy;
use twtrace_view::json;
use twtrace_view::metrics::Dialect;
use twtrace_view::order::Sort;

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";

/// What answers need.
#[derive(Clone)]
pub(crate) struct Site {
    /// The newest snapshot.
    pub(crate) board: Arc<Board>,
    /// Who may ask.
    pub(crate) access: Arc<Access>,
    /// Streams of events at a time.
    pub(crate) streams: Arc<Semaphore>,
    /// Answers at a time that are long and made for one client.
    pub(crate) large: Arc<Semaphore>,
    /// It is reached by TLS alone.
    pub(crate) is_tls: bool,
}

/// The head of a request. Bodies are never read.
pub(super) struct Request<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl Request<'_> {
    /// The value of a parameter, as it stands: ours need no escapes.
    fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// The answer to a request.
pub(super) async fn answer(site: &Site, request: &Request<'_>) -> Response<Body> {
    let mut response = route(site, request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if request.method == Method::HEAD {
        let (head, _) = response.into_parts();
        return Response::from_parts(head, full(Bytes::new()));
    }
    response
}

async fn route(site: &Site, request: &Request<'_>) -> Response<Body> {
    if !site.access.knows_name(request.headers) {
        return say(StatusCode::MISDIRECTED_REQUEST, "the Host header names another server");
    }
    if request.method != Method::GET && request.method != Method::HEAD {
        let response = say(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        return with(response, ALLOW, "GET, HEAD");
    }
    // A load balancer asks without a token, and learns nothing else.
    if request.path == "/healthz" {
        return health(&site.board);
    }
    if !site.access.allows(request.headers) {
        return refuse_or_welcome(site, request);
    }
    let Some(newest) = site.board.newest() else {
        return say(StatusCode::SERVICE_UNAVAILABLE, "the trace has just begun: ask again in a second");
    };
    match request.path {
        "/" => page(site, &newest),
        "/metrics" => {
            let accept = request.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let dialect = Dialect::of_accept(accept);
            content(dialect.content_type(), site.board.metrics(&newest, dialect))
        }
        "/api/v1/snapshot" => snapshot(site, &newest, request),
        "/api/v1/findings" => written(|out| json::write_findings(&newest.snapshot, out)),
        "/api/v1/sockets" => listed(site, JSON, List::Json).await,
        "/api/v1/image" if request.parameter("sockets").is_some() => listed(site, BYTES, List::Image).await,
        "/api/v1/image" => match Board::image(&newest) {
            Ok(image) => content(BYTES, image),
            Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        },
        "/events" => events(site, request),
        _ => say(
            StatusCode::NOT_FOUND,
            "there are /, /metrics, /events, /healthz, and /api/v1/ snapshot, findings, sockets and image",
        ),
    }
}

/// A list of sockets.
async fn listed(site: &Site, kind: &'static str, list: List) -> Response<Body> {
    let Ok(permit) = Arc::clone(&site.large).try_acquire_owned() else { return busy() };
    match site.board.sockets(list).await {
        Some(bytes) => large(kind, bytes, permit),
        None => say(StatusCode::SERVICE_UNAVAILABLE, "the trace has ended, or the host is too busy"),
    }
}

/// Without the token: a browser may bring it in the address of the page, once.
fn refuse_or_welcome(site: &Site, request: &Request<'_>) -> Response<Body> {
    if let Some(token) = request.parameter("token").filter(|token| request.path == "/" && site.access.is_token(token)) {
        let secure = if site.is_tls { "; Secure" } else { "" };
        let cookie = format!("{TOKEN_COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
        let response = with(say(StatusCode::SEE_OTHER, "see /"), LOCATION, "/");
        return with(response, SET_COOKIE, &cookie);
    }
    let response =
        say(StatusCode::UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN, or /?token=TOKEN in a browser");
    with(response, WWW_AUTHENTICATE, "Bearer")
}

fn health(board: &Board) -> Response<Body> {
    // A restart helps against a tracer that is stuck, and not against a full disk.
    let Health { recording_failed, .. } = board.health();
    match (board.newest(), recording_failed) {
        (None, _) => say(StatusCode::SERVICE_UNAVAILABLE, "the trace has just begun"),
        (Some(newest), _) if newest.is_old() => say(StatusCode::INTERNAL_SERVER_ERROR, "the tracer is stuck"),
        (_, Some(why)) => say(StatusCode::OK, &format!("tracing, but not recording: {why}")),
        _ => say(StatusCode::OK, "ok"),
    }
}

fn page(site: &Site, newest: &Published) -> Response<Body> {
    let response = content("text/html; charset=utf-8", site.board.page(newest).into());
    // The page says itself what it may load; this is for what only a header can forbid.
    with(response, CONTENT_SECURITY_POLICY, "frame-ancestors 'none'")
}

fn snapshot(site: &Site, newest: &Published, request: &Request<'_>) -> Response<Body> {
    if request.query.is_empty() {
        return match Board::json(newest) {
            Ok(json) => content(JSON, json),
            Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
    }
    let by = match request.parameter("by").map(|name| (name, GroupBy::of(name))) {
        Some((name, None)) => return say(StatusCode::BAD_REQUEST, &format!("there is no grouping {name:?}")),
        Some((_, Some(by))) => by,
        None => GroupBy::default(),
    };
    let limit = match request.parameter("limit").map(str::parse::<usize>) {
        Some(Err(_)) => return say(StatusCode::BAD_REQUEST, "limit must be a number"),
        Some(Ok(limit)) => Some(limit),
        None => None,
    };
    let sort = match request.parameter("sort").map(|name| (name, Sort::of(name))) {
        Some((name, None)) => return say(StatusCode::BAD_REQUEST, &format!("there is no order {name:?}")),
        Some((_, Some(sort))) => sort.where_it_exists(by),
        None => Sort::default(),
    };
    let Ok(permit) = Arc::clone(&site.large).try_acquire_owned() else { return busy() };
    let mut out = Vec::new();
    match json::write(&newest.snapshot, json::Options { by, sort, limit }, &mut out) {
        Ok(()) => large(JSON, out.into(), permit),
        Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn events(site: &Site, request: &Request<'_>) -> Response<Body> {
    let form = match request.parameter("form") {
        None | Some("json") => Form::Json,
        Some("html") => Form::Html,
        Some(_) => return say(StatusCode::BAD_REQUEST, "form is json or html"),
    };
    let Ok(permit) = Arc::clone(&site.streams).try_acquire_owned() else {
        return say(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many clients follow already: ask for /api/v1/snapshot instead",
        );
    };
    // What is asked for by HEAD has no body that would hold the permit.
    let body = stream::body(Arc::clone(&site.board), form, permit).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn busy() -> Response<Body> {
    say(StatusCode::SERVICE_UNAVAILABLE, "too many clients ask for long answers: ask again in a second")
}

/// An answer that counts as long until it is read.
fn large(kind: &'static str, bytes: Bytes, permit: OwnedSemaphorePermit) -> Response<Body> {
    let length = bytes.len();
    let body = StreamBody::new(once(async move {
        let _permit = permit;
        Ok(Frame::data(bytes))
    }));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed_unsync()
}

fn content(kind: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Response<Body> {
    let mut out = Vec::new();
    match write(&mut out) {
        Ok(()) => content(JSON, out.into()),
        Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// A line of text.
pub(super) fn say(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = content(TEXT, format!("{text}\n").into());
    *response.status_mut() = status;
    response
}

fn with(mut response: Response<Body>, name: HeaderName, value: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}
