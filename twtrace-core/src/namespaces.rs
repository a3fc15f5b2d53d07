//! Network namespaces: their names, their figures, and their end.

use crate::ending::End;
use crate::engine::Engine;
use crate::input::KernelFacts;
use crate::model::{Coverage, Namespace, Summary};

/// Namespaces kept, those that are gone included. Full: the oldest that is gone makes room.
const NAMESPACES: usize = 2048;

/// Kernel figures kept for the sparkline.
const HISTORY: usize = 120;

impl Summary {
    /// A namespace, if anything is known of it.
    pub fn namespace(&self, netns: u32) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.netns == netns)
    }

    /// The same number, but for 0, which is an unknown one: where there is but one that is it. *Inferred*: another one
    /// may have come up.
    pub(crate) fn place_of(&self, netns: u32) -> u32 {
        if netns == 0 && self.present().all(|namespace| namespace.netns == self.host.netns) {
            self.host.netns
        } else {
            netns
        }
    }

    /// Figures and sysctls of a namespace, once they were read.
    pub fn kernel_of(&self, netns: u32) -> Option<&KernelFacts> {
        let netns = self.place_of(netns);
        // Most rows are in the tracer's own.
        if netns == self.host.netns {
            return Some(&self.kernel);
        }
        self.namespace(netns)?.kernel.as_ref()
    }

    /// Namespaces that exist, as far as is known.
    pub fn present(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter().filter(|namespace| !namespace.gone)
    }

    /// The kernel's count of timewait sockets in all namespaces together.
    pub fn time_wait(&self) -> u64 {
        let others = self.present().filter(|namespace| namespace.netns != self.host.netns);
        let counts = others.filter_map(|namespace| Some(namespace.kernel.as_ref()?.time_wait));
        counts.fold(self.kernel.time_wait, u64::saturating_add)
    }
}

impl Engine {
    /// The entry of a namespace; `None` when there are too many.
    pub(crate) fn place_namespace(&mut self, netns: u32) -> Option<&mut Namespace> {
        let all = &mut self.model.summary.namespaces;
        let at = match all.iter().position(|namespace| namespace.netns == netns) {
            Some(at) => at,
            None => {
                if all.len() >= NAMESPACES {
                    let oldest = all.iter().position(|namespace| namespace.gone)?;
                    all.remove(oldest);
                }
                all.push(Namespace { netns, ..Namespace::default() });
                all.len() - 1
            }
        };
        all.get_mut(at)
    }

    pub(crate) fn kernel(&mut self, netns: u32, facts: KernelFacts) {
        let is_own = netns == self.model.summary.host.netns;
        if is_own {
            self.model.summary.kernel = facts.clone();
        }
        if let Some(namespace) = self.place_namespace(netns) {
            namespace.gone = false;
            namespace.refused = None;
            namespace.kernel = Some(facts);
        }
        if is_own {
            let time_wait = self.model.summary.time_wait();
            let history = &mut self.model.summary.time_wait_history;
            if history.len() == HISTORY {
                history.remove(0);
            }
            history.push(time_wait);
            let now_ns = self.model.summary.window.now_ns;
            if let Some(history) = &mut self.model.history {
                let most = &mut history.at(now_ns).kernel_time_wait;
                *most = (*most).max(Some(time_wait));
            }
        }
    }

    pub(crate) fn namespace(&mut self, netns: u32, name: String, refused: Option<String>) {
        if let Some(namespace) = self.place_namespace(netns) {
            if namespace.gone {
                // The number was given again.
                *namespace = Namespace { netns, ..Namespace::default() };
            }
            namespace.name = name;
            namespace.refused = refused;
        }
    }

    /// The kernel ends a namespace's timewait sockets with it (`inet_twsk_purge`).
    pub(crate) fn namespace_gone(&mut self, netns: u32) {
        self.census.forget(netns);
        // Where ends are told, these are as well.
        if !self.ends_are_told() {
            let mut ended = Vec::new();
            self.model.live.remove_if(|live| live.tuple.netns == netns, |live| ended.push(live));
            for live in &ended {
                self.model.end(live, End::Early);
            }
        }
        for row in self.model.destinations.rows_mut() {
            if matches!(&row.key, crate::model::DestRow::Dest(key) if key.netns == netns) {
                row.established = 0;
            }
        }
        let all = &mut self.model.summary.namespaces;
        if let Some(namespace) = all.iter_mut().find(|namespace| namespace.netns == netns) {
            let name = std::mem::take(&mut namespace.name);
            // Its sysctls still say what its rows' budgets were.
            let kernel = namespace.kernel.take();
            *namespace = Namespace { netns, name, kernel, gone: true, ..Namespace::default() };
        }
        self.sum_up();
    }

    /// Adds up the censuses of all namespaces.
    pub(crate) fn sum_up(&mut self) {
        let mut coverage = Coverage::default();
        let mut oldest = None;
        let mut complete = true;
        for namespace in self.model.summary.present() {
            let Some(at_ns) = namespace.census_at_ns else { continue };
            oldest = Some(oldest.map_or(at_ns, |oldest: u64| oldest.min(at_ns)));
            complete &= namespace.census_complete;
            coverage.census += namespace.coverage.census;
            coverage.attributed += namespace.coverage.attributed;
            coverage.before_start += namespace.coverage.before_start;
            coverage.unattributed += namespace.coverage.unattributed;
        }
        let summary = &mut self.model.summary;
        summary.coverage = coverage;
        summary.census_at_ns = oldest;
        summary.census_complete = complete && oldest.is_some();
    }
}
