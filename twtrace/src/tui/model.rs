//! What a screen can show, what a key can request, and what a user can choose: data alone.

use std::time::Duration;
use strum::{IntoStaticStr, VariantArray};

/// One of the views, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum Tab {
    /// Processes or groups.
    Processes,
    /// Destinations.
    Destinations,
    /// Single sockets.
    Sockets,
    /// Findings.
    Findings,
}

/// What a list shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Rows of the grouping, and what they open into.
    Groups,
    /// All destinations, and what they open into.
    Destinations,
    /// Live sockets.
    Sockets,
    /// Findings.
    Findings,
    /// The finding with this id, as text.
    Finding(u64),
}

/// Whether a line of a list is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// It has nothing to open into.
    Leaf,
    /// What it opens into is not shown.
    Closed,
    /// What it opens into is shown below it.
    Open,
}

/// A line of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The same from frame to frame.
    pub id: u64,
    /// The line that it is below, by its place in the list.
    pub parent: Option<usize>,
    /// Whether it is open.
    pub fold: Fold,
}

impl Entry {
    /// A line of a list in which nothing opens.
    pub fn flat(id: u64) -> Self {
        Self { id, parent: None, fold: Fold::Leaf }
    }
}

/// A list and the position in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// What it shows.
    pub what: What,
    /// Id of the selected row; `None` stays with the first row, whichever that is.
    pub selected: Option<u64>,
    /// Its position when last drawn.
    pub row: usize,
    /// First row on the screen.
    pub top: usize,
}

impl Level {
    /// At the beginning of a list.
    pub fn new(what: What) -> Self {
        Self { what, selected: None, row: 0, top: 0 }
    }
}

/// Order of the sockets tab. Keys go through them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub enum SocketSort {
    /// Newest first.
    Newest,
    /// Soonest to end first.
    Left,
    /// By remote address and port.
    Remote,
    /// By local address and port.
    Local,
    /// By the closer's command and PID.
    Closer,
}

/// What a key requests from the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Only a redraw.
    Done,
    /// End.
    Quit,
    /// Keep the current snapshot and draw from it.
    Freeze,
    /// Draw from the model again.
    Thaw,
    /// Take a snapshot this often from now on.
    Interval(Duration),
    /// Start a recording, or end the one that was started.
    Record,
    /// Keep the snapshot on the screen, to compare others with it.
    Mark,
    /// Put a command on the clipboard of the terminal.
    Copy(String),
    /// Write a finding as Markdown to a file of that name, and put it on the clipboard.
    Export {
        /// Name of the file, without its extension.
        name: String,
        /// Its text.
        text: String,
    },
}

/// What a key requests from the list, which needs the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing.
    None,
    /// Into the chosen row.
    Enter,
    /// Complete the filter.
    Complete,
    /// Show a column of the list, or hide it.
    Column(usize),
    /// The setting of the visible columns, for the clipboard.
    Columns,
    /// The command of the chosen finding.
    Command,
    /// The chosen finding, as Markdown.
    Markdown,
    /// A request to the caller.
    Caller(Outcome),
}

/// A recording that was started from the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Name of its directory.
    pub name: String,
    /// It has ended, and its end is being written.
    pub is_sealing: bool,
}

/// What lies over the screen, and the line that it begins with or that is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// Keys, columns, and everything that the trace could not see.
    Help(usize),
    /// Columns to show or hide.
    Columns(usize),
    /// What was lost, and when.
    Losses(usize),
    /// The marked moment beside the one on the screen.
    Compare(usize),
}

/// Visible columns, by their headings; `None` for the default ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Of processes and other groups.
    pub processes: Option<Vec<String>>,
    /// Of destinations.
    pub destinations: Option<Vec<String>>,
}

impl Columns {
    /// Those of a list.
    pub(super) fn of(&self, list: &What) -> Option<&[String]> {
        match list {
            What::Groups => self.processes.as_deref(),
            What::Destinations => self.destinations.as_deref(),
            What::Sockets | What::Findings | What::Finding(_) => None,
        }
    }

    /// Chooses those of a list.
    pub(super) fn set(&mut self, list: &What, chosen: Option<Vec<String>>) {
        match list {
            What::Groups => self.processes = chosen,
            What::Destinations => self.destinations = chosen,
            What::Sockets | What::Findings | What::Finding(_) => {}
        }
    }
}
