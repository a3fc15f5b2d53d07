//! Where inputs come from.

pub mod live;

use std::os::fd::{AsRawFd as _, BorrowedFd};
use twtrace_core::input::Input;

/// What a command reads from: the running kernel, or inputs that were saved or made up.
pub trait Feed {
    /// Hands over what there is. Never waits.
    ///
    /// # Errors
    /// Nothing more can be read.
    fn pump(&mut self, sink: &mut dyn FnMut(Input)) -> anyhow::Result<()>;

    /// Hands over everything until now; nothing is asked for afterwards.
    ///
    /// # Errors
    /// As [`Self::pump`].
    fn final_pump(&mut self, sink: &mut dyn FnMut(Input)) -> anyhow::Result<()>;

    /// Becomes readable when it is time to pump; `None` when only time tells.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

impl Feed for live::Live {
    fn pump(&mut self, sink: &mut dyn FnMut(Input)) -> anyhow::Result<()> {
        twtrace_core::source::Source::pump(self, sink)
    }
    fn final_pump(&mut self, sink: &mut dyn FnMut(Input)) -> anyhow::Result<()> {
        twtrace_core::source::Source::final_pump(self, sink)
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the descriptor is the ring buffer's, which stays open as long as `self` is borrowed.
        Some(unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) })
    }
}
