//! Names of rows. Everything here is clean: see [`text::clean`].

use crate::text;
use std::borrow::Cow;
use twtrace_core::event::{Comm, Owner, ProcessFacts, Role};
use twtrace_core::program;
use twtrace_core::snapshot::{
    DestKey, DestRow, DestinationRow, GroupKey, Namespace, OwnerRef, Row, RunsIn, Snapshot, Summary,
};

/// A command name.
pub fn command(comm: &Comm) -> Cow<'_, str> {
    text::clean_bytes(comm.bytes())
}

/// What an operator calls a process: its script, jar or pool rather than its interpreter. Only its command name if
/// nothing else is known about it.
pub fn program(owner: &Owner, facts: Option<&ProcessFacts>) -> String {
    text::clean(&program_as_it_is(owner, facts)).into_owned()
}

/// The same for machines: only bytes of the command name that are not UTF-8 are escaped.
pub fn program_as_it_is(owner: &Owner, facts: Option<&ProcessFacts>) -> String {
    program_name(&text::lossless(owner.comm.bytes()), facts)
}

fn program_name(command: &str, facts: Option<&ProcessFacts>) -> String {
    let (exe, cmdline) = facts.map_or((None, None), |facts| (facts.exe.as_deref(), facts.cmdline.as_deref()));
    program::of(command, exe, cmdline).name
}

/// What an operator calls a process, by its command if nothing else is known of it.
pub fn program_of_command(command: &str, facts: Option<&ProcessFacts>) -> String {
    text::clean(&program_name(command, facts)).into_owned()
}

/// The same with its PID: `billing.py[1234]`.
pub fn program_and_pid(command: &str, pid: u32, facts: Option<&ProcessFacts>) -> String {
    format!("{}[{pid}]", program_of_command(command, facts))
}

/// What an operator calls the program of a row of processes, for machines; empty if there is none.
pub fn program_of(row: &Row, snapshot: &Snapshot) -> String {
    match (&row.key, &row.owner) {
        (GroupKey::OneShots(kin), _) => kin.program.as_ref().to_owned(),
        (GroupKey::Program(program), _) => program.as_ref().to_owned(),
        (GroupKey::Process(_), Some(owner)) => program_as_it_is(owner, snapshot.facts(owner.key)),
        _ => String::new(),
    }
}

/// A process and its PID: `nginx[1234]`.
pub fn process(comm: &Comm, pid: u32) -> String {
    // No parent was reported; the parent of the first processes has a name.
    if pid == 0 && comm.bytes().is_empty() {
        return "(unknown)".to_owned();
    }
    format!("{}[{pid}]", command(comm))
}

/// The process that started another one.
pub fn parent(owner: &Owner) -> String {
    process(&owner.parent_comm, owner.ppid)
}

/// The process that owns a socket.
pub fn owner(owner: Option<&OwnerRef>) -> String {
    owner.map_or_else(|| "(unknown)".to_owned(), |owner| process(&owner.comm, owner.key.tgid))
}

/// The same by what an operator calls it.
pub fn owning_program(owner: Option<&OwnerRef>, snapshot: &Snapshot) -> String {
    let Some(owner) = owner else { return "(unknown)".to_owned() };
    let command = text::lossless(owner.comm.bytes());
    program_and_pid(&command, owner.key.tgid, snapshot.facts(owner.key))
}

/// A user by name, or else by number.
pub fn user(uid: u32, snapshot: &Snapshot) -> String {
    snapshot.user_name(uid).map_or_else(|| uid.to_string(), |name| text::clean(name).into_owned())
}

/// That unrelated processes opened sockets that the row's process closed, and which process opened most of them.
pub fn opened_by_others(row: &Row) -> Option<String> {
    let strangers = row.strangers.as_deref()?;
    let opener = process(&strangers.opener.comm, strangers.opener.key.tgid);
    Some(format!("{} opened by {opener}", text::count(strangers.sockets)))
}

/// The command line of a row's process, after what must be known of its sockets: the end of a long line is cut off. The
/// folder of the program says little, and is left out.
pub fn command_line(row: &Row, snapshot: &Snapshot) -> String {
    let facts = row.owner.and_then(|owner| snapshot.facts(owner.key));
    let line = facts.and_then(|facts| facts.cmdline.as_deref()).unwrap_or_default();
    let program = line.split(' ').next().unwrap_or_default();
    let folder = program.rfind('/').filter(|slash| program.starts_with('/') && slash + 1 < program.len());
    let line = text::clean(folder.map_or(line, |slash| &line[slash + 1..]));
    opened_by_others(row).map_or_else(|| line.to_string(), |opened| format!("({opened}) {line}"))
}

/// A row of any grouping.
pub fn group(row: &Row, snapshot: &Snapshot) -> String {
    match &row.key {
        GroupKey::Process(_) => {
            row.owner.as_ref().map_or_else(|| "(unnamed)".to_owned(), |owner| program(owner, snapshot.facts(owner.key)))
        }
        GroupKey::OneShots(kin) => text::clean(&kin.program).into_owned(),
        GroupKey::Program(name) => text::clean(name).into_owned(),
        GroupKey::Named(name) => text::clean(short(name)).into_owned(),
        GroupKey::Command(comm) => command(comm).into_owned(),
        GroupKey::Parent(pid, comm) => process(comm, *pid),
        GroupKey::User(uid) => user(*uid, snapshot),
        GroupKey::Cgroup(id) => {
            let of_row = row.owner.and_then(|owner| snapshot.facts(owner.key));
            let of_any = of_row.or_else(|| snapshot.facts_of_cgroup(*id));
            cgroup(snapshot.runs_in(of_any)).unwrap_or_else(|| format!("cgroup {id}"))
        }
        GroupKey::Netns(netns) => namespace(snapshot.summary(), *netns),
        GroupKey::Destination(key) => place(key),
        GroupKey::None => "(none)".to_owned(),
        GroupKey::Unknown => "(unknown)".to_owned(),
        GroupKey::Other => format!("(other: {} rows)", text::count(row.folded)),
    }
}

/// The container, else the unit, else the path of a cgroup.
pub fn cgroup(of: RunsIn<'_>) -> Option<String> {
    let facts = of.facts?;
    if let Some(container) = of.container() {
        return Some(format!("container {}", text::clean(short(&container))));
    }
    facts.unit.as_ref().or(facts.cgroup.as_ref()).map(|name| text::clean(name).into_owned())
}

/// Where a process runs, by what is known of it, or else of its cgroup.
pub fn runs_in<'a>(owner: &Owner, snapshot: &'a Snapshot) -> RunsIn<'a> {
    snapshot.runs_in(snapshot.facts(owner.key).or_else(|| snapshot.facts_of_cgroup(owner.cgroup)))
}

/// The same of a row's process.
pub fn cgroup_of(row: &Row, snapshot: &Snapshot) -> Option<String> {
    let owner = row.owner.as_ref()?;
    cgroup(runs_in(owner, snapshot))
}

/// Container ids are 64 hexadecimal digits, of which people use the first twelve.
fn short(container: &str) -> &str {
    let is_id = container.len() >= 32 && container.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { &container[..12] } else { container }
}

/// A destination: the service that is connected to, or the port that is listened on.
pub fn destination(key: &DestRow, folded: u64) -> String {
    match key {
        DestRow::Other => format!("(other: {} rows)", text::count(folded)),
        // Binds that failed are together, whatever their ports were.
        DestRow::Dest(DestKey { role: Role::Passive, port: 0, local_addr, .. }) => format!("bind on {local_addr}"),
        DestRow::Dest(key) => place(key),
    }
}

/// A destination with its role: the same address may be connected to and accepted on.
pub fn destination_and_role(row: &DestinationRow) -> String {
    let name = destination(&row.key, row.folded);
    match row.key {
        DestRow::Dest(key) => format!("{name} {}", role(key.role)),
        DestRow::Other => name,
    }
}

/// The same for one that is not folded.
pub fn place(key: &DestKey) -> String {
    text::address(key.remote_addr.unwrap_or(key.local_addr), key.port)
}

/// The network namespace of a destination; `None` if it is not known.
pub fn netns(row: &DestinationRow, snapshot: &Snapshot) -> Option<String> {
    match row.key {
        DestRow::Dest(key) if key.netns != 0 => Some(namespace(snapshot.summary(), key.netns)),
        _ => None,
    }
}

/// A network namespace by name, or else by its inode number.
pub fn namespace(summary: &Summary, netns: u32) -> String {
    match summary.namespace(netns) {
        _ if netns == 0 => "(unknown)".to_owned(),
        Some(Namespace { name, .. }) if !name.is_empty() => text::clean(name).into_owned(),
        _ => match summary.inode(netns) {
            0 => "(unknown)".to_owned(),
            inode => inode.to_string(),
        },
    }
}

/// A role in a word, as in JSON.
pub fn role(role: Role) -> &'static str {
    role.into()
}
