//! One request to a runtime's Unix socket, bounded in time and size.

use super::runtime::{ANSWER_BYTES, Failure};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// The host that requests name: servers reject what is no host name, such as the path of a socket.
const HOST: &str = "localhost";

/// Longest head of an answer, bytes.
const HEAD_BYTES: u32 = 16 << 10;

/// What a server says of itself in an error, characters.
const MESSAGE: usize = 400;

/// Runs a conversation to its end, at most for so long. What it has started ends with it.
///
/// # Errors
/// It failed, or took too long.
pub fn within<T>(patience: Duration, conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let unreachable = |error: io::Error| Failure::Unreachable(error.to_string());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(unreachable)?;
    let late = || Failure::Unreachable(format!("it did not answer within {} s", patience.as_secs()));
    runtime.block_on(async { tokio::time::timeout(patience, conversation).await.unwrap_or_else(|_| Err(late())) })
}

async fn connect(socket: &Path) -> Result<TokioIo<UnixStream>, Failure> {
    match UnixStream::connect(socket).await {
        Ok(stream) => Ok(TokioIo::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::Absent),
        Err(error) => Err(Failure::Unreachable(error.to_string())),
    }
}

/// The body of what HTTP/1 answers to a GET.
pub(super) async fn get(socket: &Path, path: &'static str) -> Result<Bytes, Failure> {
    let stream = connect(socket).await?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES as usize).handshake(stream).await.map_err(other)?;
    tokio::spawn(connection);
    let request = Request::get(Uri::from_static(path)).header("host", HOST).header("connection", "close");
    let request = request.body(Full::<Bytes>::default()).map_err(other)?;
    let answer = sender.send_request(request).await.map_err(other)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(other)?.to_bytes();
    if status != StatusCode::OK {
        return Err(Failure::Other(format!("it answers {status}: {}", message(&body))));
    }
    Ok(body)
}

/// A connection that gRPC calls are made on.
pub struct Grpc {
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Grpc {
    /// Connects.
    ///
    /// # Errors
    /// There is no such socket, it refuses, or does not speak HTTP/2.
    pub async fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = connect(socket).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(HEAD_BYTES);
        let (sender, connection) = builder.handshake(stream).await.map_err(other)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// The message that answers `request`, a message without its length. `method` is the whole path, such as
    /// `/runtime.v1.RuntimeService/ListContainers`.
    ///
    /// # Errors
    /// The call failed, or its answer is not what gRPC has.
    pub async fn call(&mut self, method: &str, metadata: &[(&str, &str)], request: &[u8]) -> Result<Bytes, Failure> {
        // Not compressed, and its length (gRPC over HTTP2, "Length-Prefixed-Message").
        let mut body = BytesMut::with_capacity(5 + request.len());
        body.put_u8(0);
        body.put_u32(u32::try_from(request.len()).map_err(other)?);
        body.put_slice(request);
        let mut builder = Request::post(format!("http://{HOST}{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            builder = builder.header(*name, *value);
        }
        self.sender.ready().await.map_err(other)?;
        let request = builder.body(Full::new(body.freeze())).map_err(other)?;
        let answer = self.sender.send_request(request).await.map_err(other)?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::Other(format!("it answers {}", answer.status())));
        }
        message_of(answer).await
    }
}

async fn message_of(answer: Response<hyper::body::Incoming>) -> Result<Bytes, Failure> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(other)?;
    // A call that fails at once has its status in the head.
    let of = |name: &str| body.trailers().and_then(|trailers| trailers.get(name)).or_else(|| head.headers.get(name));
    let status = of("grpc-status").and_then(|status| status.to_str().ok());
    if status != Some("0") {
        let text = of("grpc-message").map(|text| message(text.as_bytes())).unwrap_or_default();
        return Err(Failure::Other(match status {
            Some("12") => "it does not have the Container Runtime Interface".to_owned(),
            status => format!("its status is {}: {text}", status.unwrap_or("missing")),
        }));
    }
    let mut body = body.to_bytes();
    let is_whole = body.len() >= 5 && body[0] == 0 && body[1..5] == u32::to_be_bytes((body.len() - 5) as u32);
    if !is_whole {
        return Err(Failure::Other("its message is damaged".to_owned()));
    }
    Ok(body.split_off(5))
}

/// What a server said of an error, on one line.
fn message(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MESSAGE)]);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MESSAGE).collect::<String>().trim().to_owned()
}

/// What went wrong, with its causes.
pub(super) fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    let error = error.into();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Failure::Other(message(text.as_bytes()))
}
