//! What a recording that begins in the middle of a trace has to know first.

use super::State;
use crate::event::Event;

impl State {
    /// Events that another state needs to understand those that follow: the host, its namespaces, and names of processes and
    /// users. Live sockets are not among them: the next whole censuses list those.
    pub fn preface(&self) -> Vec<Event> {
        // A recording has everything, whatever the filter shows.
        let all = self.whole.as_deref().unwrap_or(self);
        let summary = &all.summary;
        let window = summary.window;
        let (at_ns, passed_ns) = (window.now_ns, window.now_ns.saturating_sub(window.start_ns));
        let mut events = vec![Event::Start {
            at_ns,
            unix_ns: window.start_unix_ns.saturating_add(passed_ns.into()),
            host: summary.host.clone(),
            tracing: summary.tracing.clone(),
        }];
        events.push(Event::Kernel { netns: summary.host.netns, facts: summary.kernel.clone() });
        for namespace in summary.namespaces.iter().filter(|namespace| !namespace.gone) {
            let netns = namespace.netns;
            let (inode, name, refused) = (namespace.inode, namespace.name.clone(), namespace.refused.clone());
            // Figures say that a namespace can be entered.
            events.extend(namespace.kernel.clone().map(|facts| Event::Kernel { netns, facts }));
            events.push(Event::Namespace { netns, inode, name, refused });
        }
        if summary.namespaces_left_out > 0 {
            events.push(Event::NamespacesLeftOut(summary.namespaces_left_out));
        }
        let names = all.users.iter().map(|(uid, name)| Event::User { uid: *uid, name: name.clone() });
        events.extend(names);
        let containers = all.containers.all().iter();
        events.extend(containers.map(|(id, facts)| Event::Container { id: id.to_string(), facts: (**facts).clone() }));
        let facts = all.accounts.facts.processes().iter();
        events.extend(facts.map(|(key, facts)| Event::Process { key: *key, facts: (**facts).clone() }));
        events
    }
}
