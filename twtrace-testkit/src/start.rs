//! The beginning of a trace.

use crate::{NETNS, START_UNIX_NS};
use twtrace_core::event::{Event, Hook, HostFacts, Tier, TracingFacts};

/// Builds the event that a trace began.
#[derive(Clone, Debug)]
pub struct StartBuilder {
    at_ns: u64,
    unix_ns: i128,
    host: HostFacts,
    tracing: TracingFacts,
}

/// A trace that began at `at_ns`, monotonic nanoseconds: on the host `host`, whose kernel and boot have no names, in
/// the cookie tier, without hooks, at [`START_UNIX_NS`] of the wall clock.
pub fn start(at_ns: u64) -> StartBuilder {
    let host = HostFacts { hostname: "host".to_owned(), netns: NETNS, ..HostFacts::default() };
    StartBuilder { at_ns, unix_ns: START_UNIX_NS, host, tracing: TracingFacts::default() }
}

/// An attached hook, and its program type.
pub fn hook(name: &str, kind: &str) -> Hook {
    Hook { name: name.to_owned(), kind: kind.to_owned(), attached: true, reason: None }
}

/// A hook that is not attached, its program type, and why.
pub fn refused_hook(name: &str, kind: &str, reason: &str) -> Hook {
    Hook { attached: false, reason: Some(reason.to_owned()), ..hook(name, kind) }
}

impl StartBuilder {
    /// The wall clock at that time, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn unix(self, unix_ns: i128) -> Self {
        Self { unix_ns, ..self }
    }

    /// Names of the host, of its kernel's release and of its boot.
    #[must_use]
    pub fn host(self, hostname: &str, kernel: &str, boot_id: &str) -> Self {
        let host = HostFacts {
            hostname: hostname.to_owned(),
            kernel: kernel.to_owned(),
            boot_id: boot_id.to_owned(),
            netns: self.host.netns,
        };
        Self { host, ..self }
    }

    /// The tier in force.
    #[must_use]
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tracing.tier = tier;
        self
    }

    /// The hooks, attached or not.
    #[must_use]
    pub fn hooks(mut self, hooks: impl Into<Vec<Hook>>) -> Self {
        self.tracing.hooks = hooks.into();
        self
    }

    /// On a kernel without BTF: sockets are distinguished by their addresses.
    #[must_use]
    pub fn without_btf(mut self) -> Self {
        self.tracing = TracingFacts { tier: Tier::Tuple, by_tuple: true, no_btf: true, ..self.tracing };
        self
    }

    /// The event.
    pub fn event(self) -> Event {
        let Self { at_ns, unix_ns, host, tracing } = self;
        Event::Start { at_ns, unix_ns, host, tracing }
    }
}
