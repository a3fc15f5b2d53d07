//! `/events`: each new snapshot as a server-sent event. A client that is late misses snapshots in between, and costs no memory.

use super::published::{Board, Published};
use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use http_body_util::StreamBody;
use hyper::body::Frame;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

/// A comment is sent when there is nothing else for so long: proxies end connections that are silent.
const SILENCE: Duration = Duration::from_secs(15);

/// What an event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The JSON of `top --json`.
    Json,
    /// The content of the live page, as a JSON string.
    Html,
}

struct Follower {
    board: Arc<Board>,
    newest: watch::Receiver<Option<Arc<Published>>>,
    form: Form,
    /// Streams are counted.
    _permit: OwnedSemaphorePermit,
}

/// The body of the answer.
pub(super) fn body(
    board: Arc<Board>,
    form: Form,
    permit: OwnedSemaphorePermit,
) -> StreamBody<impl Stream<Item = Result<Frame<Bytes>, Infallible>>> {
    let mut newest = board.follow();
    // The one that is there already is the first event.
    newest.mark_changed();
    let follower = Follower { board, newest, form, _permit: permit };
    StreamBody::new(unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(Frame::data(event)), follower))
    }))
}

impl Follower {
    /// The next event, or a comment; `None` when there will be no more.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match timeout(SILENCE, self.newest.changed()).await {
                Err(_) => return Some(Bytes::from_static(b": nothing new\n\n")),
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
            }
            let newest = self.newest.borrow_and_update().clone();
            if let Some(event) = newest.and_then(|published| self.event(&published)) {
                return Some(event);
            }
        }
    }

    fn event(&self, published: &Published) -> Option<Bytes> {
        let data = match self.form {
            // One line by itself.
            Form::Json => Board::json(published).ok()?,
            Form::Html => {
                let main = self.board.main(published);
                serde_json::to_string(std::str::from_utf8(&main).ok()?).ok()?.into()
            }
        };
        let head = format!("event: snapshot\nid: {}\ndata: ", published.number);
        let mut event = Vec::with_capacity(head.len() + data.len() + 2);
        event.extend_from_slice(head.as_bytes());
        event.extend_from_slice(data.trim_ascii_end());
        event.extend_from_slice(b"\n\n");
        Some(event.into())
    }
}
