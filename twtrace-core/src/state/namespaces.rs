//! Network namespaces: their names, their figures, and their end.

use super::State;
use super::ends::End;
use crate::event::{ContainerFacts, KernelFacts};

/// Kernel figures kept for the sparkline.
const HISTORY: usize = 120;

impl State {
    pub(super) fn kernel(&mut self, netns: u32, mut facts: KernelFacts) {
        facts.time_wait_s = facts.time_wait_s.or(self.summary.namespace(netns).and_then(|of| of.measured_s));
        let is_own = netns == self.summary.host.netns;
        if is_own {
            self.summary.kernel = facts.clone();
        }
        // As many as this namespace may have, and those that the others have.
        self.time_wait.allow(facts.max_tw_buckets.saturating_add(self.summary.time_wait()));
        if let Some(namespace) = self.summary.place_namespace(netns) {
            namespace.gone = false;
            namespace.refused = None;
            namespace.first = namespace.first.or(&facts.figures);
            namespace.kernel = Some(facts);
        }
        if is_own {
            let time_wait = self.summary.time_wait();
            let history = &mut self.summary.time_wait_history;
            if history.len() == HISTORY {
                history.remove(0);
            }
            history.push(time_wait);
            let now_ns = self.summary.window.now_ns;
            if let Some(history) = &mut self.history {
                let most = &mut history.at(now_ns).kernel_time_wait;
                *most = (*most).max(Some(time_wait));
            }
        }
    }

    /// The name of a namespace: of one that is named after a container, what a runtime calls that.
    pub(super) fn namespace_name(&self, name: String) -> String {
        let said = self.containers.all().get(name.as_str());
        said.and_then(|said| said.place()).map_or(name, std::borrow::Cow::into_owned)
    }

    /// A runtime said what it calls a container.
    pub(super) fn rename_namespaces(&mut self, id: &str, facts: &ContainerFacts) {
        let Some(name) = facts.place() else { return };
        for namespace in self.summary.namespaces.iter_mut().filter(|namespace| namespace.name == id) {
            namespace.name = name.clone().into_owned();
        }
    }

    /// The kernel ends a namespace's TIME_WAIT sockets with it (`inet_twsk_purge`).
    pub(super) fn namespace_gone(&mut self, netns: u32) {
        self.census.forget(netns);
        // Where ends are reported, these are as well.
        if !self.ends_are_reported() {
            let mut ended = Vec::new();
            self.time_wait.remove_if(|live| live.tuple.netns == netns, |live| ended.push(live));
            for live in &ended {
                self.end(live, End::Early);
            }
        }
        for row in self.accounts.destinations.rows_mut() {
            if matches!(&row.key, crate::keys::DestRow::Dest(key) if key.netns == netns) {
                row.established = 0;
            }
        }
        self.summary.forget(netns);
    }
}
