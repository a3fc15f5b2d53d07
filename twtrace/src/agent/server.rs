//! Accepts connections and answers requests, within bounds.

use super::listen::{Connection, Listener};
use super::routes::{self, Request, Site};
use super::timed::Timed;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

pub(crate) use super::routes::Site as Answers;

/// Connections at a time; further ones are closed at once. Each takes at most some 40 KiB, besides answers that all clients of
/// a second share.
pub(crate) const CONNECTIONS: usize = 512;

/// Streams of events at a time.
pub(crate) const STREAMS: usize = 64;

/// Answers at a time that are long and made for one client: tens of megabytes on a host with many sockets.
pub(crate) const LARGE: usize = 4;

/// Time for the head of a request, and for what comes before it in TLS.
const HEAD: Duration = Duration::from_secs(5);

/// Largest head of a request, bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// Pause after an accept that failed: most likely there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is dropped.
pub(crate) async fn serve(listener: Listener, tls: Option<TlsAcceptor>, site: Site, connections: Arc<Semaphore>) {
    loop {
        let Ok(stream) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        // A client that finds no room is better off with an error at once than with none later.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
        let (tls, site) = (tls.clone(), site.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let stream = Timed::new(stream);
            match tls {
                None => connection(stream, site).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(HEAD, tls.accept(stream)).await {
                        connection(stream, site).await;
                    }
                }
            }
        });
    }
}

async fn connection(stream: impl Connection + 'static, site: Site) {
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let site = site.clone();
        async move {
            let uri = request.uri();
            let (method, headers) = (request.method(), request.headers());
            let head = Request { method, path: uri.path(), query: uri.query().unwrap_or_default(), headers };
            Ok::<_, Infallible>(routes::answer(&site, &head).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    // What a client does wrong is answered, or ends its connection alone.
    let _ = served.await;
}
