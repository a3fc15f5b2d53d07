//! What is learned about processes and users.

use twtrace_core::event::{ContainerFacts, Event, Owner, ProcessFacts};

/// What `/proc` shows for a process with this command line: its first word is the executable, the rest is unknown.
pub fn process_facts(cmdline: &str) -> ProcessFacts {
    ProcessFacts {
        exe: cmdline.split(' ').next().map(str::to_owned),
        cmdline: Some(cmdline.to_owned()),
        ..ProcessFacts::default()
    }
}

/// A process was looked up.
pub fn process(who: &Owner, facts: ProcessFacts) -> Event {
    Event::Process { key: who.key, facts }
}

/// A runtime said this of a container.
pub fn container(id: &str, facts: ContainerFacts) -> Event {
    Event::Container { id: id.to_owned(), facts }
}

/// A user's name was looked up.
pub fn user(uid: u32, name: &str) -> Event {
    Event::User { uid, name: name.to_owned() }
}
