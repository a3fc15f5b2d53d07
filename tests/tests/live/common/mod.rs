//! What several tests share.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread;

use twtrace_core::event::Event;
use twtrace_core::source::Source as _;
use twtrace_probe::source::kernel_source::KernelSource;
use twtrace_tests::tracer::{PUMP, Place, program};

pub(crate) mod python;
pub(crate) mod recorded;

/// Runs a command of the workload generator in a place, and traces until it has ended. Returns what it printed, and all
/// events, with network namespaces by their inode numbers.
///
/// # Panics
/// If one of them fails.
pub(crate) fn traced(live: &mut KernelSource, place: &Place, command: &str) -> (String, Vec<Event>) {
    let mut generator = Command::new(program("twtrace-workload"));
    generator.arg(command).stdout(Stdio::piped());
    let mut generator = place.spawn(generator);
    let mut output = generator.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let mut events = Vec::new();
    while !reader.is_finished() {
        live.pump(&mut |event| events.push(event)).unwrap();
        thread::sleep(PUMP);
    }
    let text = reader.join().unwrap().unwrap();
    assert!(generator.wait().unwrap().success(), "the generator failed");
    live.final_pump(&mut |event| events.push(event)).unwrap();
    name_by_inode(&mut events);
    (text, events)
}

/// Puts inode numbers in the place of ids, which differ once a number has belonged to two namespaces.
fn name_by_inode(events: &mut [Event]) {
    let mut inodes = BTreeMap::new();
    for event in events {
        let tuple = match event {
            Event::Namespace { netns, inode, .. } => {
                inodes.insert(*netns, *inode);
                continue;
            }
            Event::Connection(connection) => &mut connection.tuple,
            Event::ConnectFailed(failed) => &mut failed.tuple,
            Event::BindFailed(failed) => &mut failed.tuple,
            Event::TimewaitEnd(end) => &mut end.tuple,
            Event::BoundConnect { tuple, .. } | Event::ResetSent { tuple, .. } => tuple,
            _ => continue,
        };
        tuple.netns = inodes.get(&tuple.netns).copied().unwrap_or(tuple.netns);
    }
}
