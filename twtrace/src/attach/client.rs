//! One connection to an agent, and requests on it.

use super::target::Target;
use super::trust;
use crate::agent::listen::Connection;
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use twtrace_core::snapshot::Snapshot;

/// How long one answer may take: an agent on a busy host with a million sockets needs seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Largest answer. A million sockets are some 70 MB.
const LARGEST: usize = 512 << 20;

/// Largest answer that is an error message.
const LONGEST: usize = 1024;

/// What an agent refuses for good: to ask again does not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

/// An agent, and how to talk to it.
pub(crate) struct Client {
    target: Target,
    token: Option<String>,
    tls: Option<TlsConnector>,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    /// To that agent, with the token in a file and the certificates in another.
    ///
    /// # Errors
    /// The files cannot be read, or something that is needed is missing.
    pub(crate) fn new(target: Target, token: Option<&Path>, authority: Option<&Path>) -> anyhow::Result<Self> {
        let token = match token {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("cannot read the token in {}", path.display()))?;
                Some(text.lines().next().unwrap_or_default().trim().to_owned())
            }
            None => None,
        };
        let tls = match &target {
            Target::Tcp { tls: true, .. } => {
                let path = authority.context(
                    "https needs --ca FILE: the certificate of the agent, or that of the authority that signed it",
                )?;
                Some(TlsConnector::from(Arc::new(trust::config(path)?)))
            }
            _ if token.is_some() && !target.is_local() => {
                bail!("the token would cross the network in the clear: attach to https://{}", target.authority())
            }
            _ => None,
        };
        Ok(Self { target, token, tls, connection: None })
    }

    /// The newest snapshot.
    ///
    /// # Errors
    /// The agent cannot be reached, refuses, or answers with something else.
    pub(crate) async fn snapshot(&mut self, sockets: bool) -> anyhow::Result<Snapshot> {
        let path = if sockets { "/api/v1/image?sockets=all" } else { "/api/v1/image" };
        let image = timeout(PATIENCE, self.get(path)).await;
        let image = image.unwrap_or_else(|_| Err(anyhow!("no answer within {} seconds", PATIENCE.as_secs())));
        if image.is_err() {
            self.connection = None;
        }
        Snapshot::of_image(&image?).map_err(|error| Refused(error.to_string()).into())
    }

    async fn get(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let mut request = Request::get(path).header(HOST, self.target.authority());
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).map_err(|_| Refused("the token is no token".to_owned()))?;
        if self.connection.as_ref().is_none_or(SendRequest::is_closed) {
            let connection = self.connect().await;
            self.connection = Some(connection.context("nothing answers there: is `twtrace agent` running?")?);
        }
        let connection = self.connection.as_mut().context("there is no connection")?;
        connection.ready().await.context("no answer")?;
        let response = connection.send_request(request).await.context("no answer")?;
        let status = response.status();
        let limit = if status.is_success() { LARGEST } else { LONGEST };
        let body = Limited::new(response.into_body(), limit).collect().await;
        if status.is_success() {
            return body.map(Collected::to_bytes).map_err(|error| anyhow!("the answer broke off: {error}"));
        }
        let said = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
        Err(match status {
            StatusCode::UNAUTHORIZED if self.token.is_some() => {
                Refused("the agent has another token than the one in --token-file".to_owned()).into()
            }
            StatusCode::UNAUTHORIZED => Refused("the agent wants its token: add --token-file".to_owned()).into(),
            StatusCode::NOT_FOUND => Refused("it is no agent of this version of twtrace".to_owned()).into(),
            StatusCode::SERVICE_UNAVAILABLE => anyhow!("{said}"),
            _ => Refused(format!("{status}: {said}")).into(),
        })
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        let stream: Box<dyn Connection> = match &self.target {
            Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Target::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                match &self.tls {
                    None => Box::new(stream),
                    Some(tls) => {
                        let name = host.clone().try_into().context("no name for TLS")?;
                        Box::new(tls.connect(name, stream).await.context("TLS failed")?)
                    }
                }
            }
        };
        let (send, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, or with an error that the sender reports.
        tokio::spawn(connection);
        Ok(send)
    }
}
