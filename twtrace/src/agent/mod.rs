//! The HTTP side of `twtrace agent`: the newest snapshot for its clients.
//!
//! It runs beside the event loop on the main thread, and never touches the thread that traces: it reads snapshots that
//! have been published. What is bounded, and where: connections and streams ([`server`]), the head of a request and the
//! time that it may take ([`server`]), the time that a client may leave an answer unread ([`timed`]), series
//! (`twtrace_view::metrics`).

pub(crate) mod access;
pub(crate) mod freezing;
pub(crate) mod listen;
mod published;
mod routes;
pub(crate) mod server;
mod stream;
mod timed;

pub(crate) use published::Board;
