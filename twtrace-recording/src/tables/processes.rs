//! Processes: those that own connections, what `/proc` said about them, what runtimes said of their containers, and users.

use crate::columns::{Bool, Bytes, Columns, Flag, Num, Opt, OptReader, Text, table};
use crate::dictionary::{DecodedDict, Meanings, Words};
use crate::remembered::{HasText, Remembered};
use crate::table::{Read, Reading, TableWriter, Writing};
use anyhow::Context as _;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{BinaryArray, RecordBatch};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use twtrace_core::event::{Comm, ContainerFacts, Event, Owner, ProcessFacts, ProcessKey};

table! {
    /// One row for each process at a time, and for each fact learned about processes, containers and users.
    Builder, Rows {
        /// Number of its event; of a process, the first that names it.
        seq: Num<UInt64Type>,
        /// Reported before: repeated for a reader that begins here.
        restated: Bool,
        kind: Words<&'static str>,
        /// Its number in `connections`.
        id: Opt<UInt32Type>,
        pid: Opt<UInt32Type>,
        start_ns: Opt<UInt64Type>,
        uid: Opt<UInt32Type>,
        ppid: Opt<UInt32Type>,
        cgroup_id: Opt<UInt64Type>,
        command: Words<Comm>,
        /// All 16 bytes, if the text does not represent them.
        command_raw: Bytes,
        parent_command: Words<Comm>,
        parent_command_raw: Bytes,
        kthread: Flag,
        exiting: Flag,
        exe: Text,
        cmdline: Text,
        cgroup: Text,
        container: Text,
        unit: Text,
        ancestor: Text,
        /// Name of a user, or of a container.
        name: Text,
        pod_uid: Text,
        /// What a runtime said of the container.
        image: Text,
        pod: Text,
        pod_namespace: Text,
        workload: Text,
    }
}

impl Builder {
    fn push(
        &mut self,
        seq: u64,
        restated: bool,
        kind: &'static str,
        key: Option<ProcessKey>,
        uid: Option<u32>,
        name: Option<&str>,
    ) {
        self.seq.push(seq);
        self.restated.push(restated);
        self.kind.push_word(Some(kind));
        self.pid.push(key.map(|key| key.tgid));
        self.start_ns.push(key.map(|key| key.start_ns));
        self.uid.push(uid);
        self.name.push(name);
    }

    fn ownership(&mut self, owner: Option<(u32, &Owner)>) {
        self.id.push(owner.map(|(id, _)| id));
        self.ppid.push(owner.map(|(_, owner)| owner.ppid));
        self.cgroup_id.push(owner.map(|(_, owner)| owner.cgroup));
        self.kthread.push(owner.map(|(_, owner)| owner.kthread));
        self.exiting.push(owner.map(|(_, owner)| owner.exiting));
        for (column, raw, comm) in [
            (&mut self.command, &mut self.command_raw, owner.map(|(_, owner)| &owner.comm)),
            (&mut self.parent_command, &mut self.parent_command_raw, owner.map(|(_, owner)| &owner.parent_comm)),
        ] {
            match comm {
                Some(comm) => column.push(comm, |out| out.append_value(String::from_utf8_lossy(comm.bytes()))),
                None => column.push_null(),
            }
            let is_text = |comm: &&Comm| str::from_utf8(comm.bytes()).ok().and_then(from_text) == Some(**comm);
            raw.push(comm.filter(|comm| !is_text(comm)).map(|comm| comm.0));
        }
    }

    fn facts(&mut self, facts: Option<&ProcessFacts>) {
        self.exe.push(facts.and_then(|facts| facts.exe.as_ref()));
        self.cmdline.push(facts.and_then(|facts| facts.cmdline.as_ref()));
        self.cgroup.push(facts.and_then(|facts| facts.cgroup.as_ref()));
        self.container.push(facts.and_then(|facts| facts.container.as_ref()));
        self.unit.push(facts.and_then(|facts| facts.unit.as_ref()));
        self.ancestor.push(facts.and_then(|facts| facts.ancestor.as_ref()));
        self.pod_uid.push(facts.and_then(|facts| facts.pod_uid.as_ref()));
    }

    fn place(&mut self, container: Option<&ContainerFacts>) {
        self.image.push(container.and_then(|said| said.image.as_ref()));
        self.pod.push(container.and_then(|said| said.pod.as_ref()));
        self.pod_namespace.push(container.and_then(|said| said.pod_namespace.as_ref()));
        self.workload.push(container.and_then(|said| said.workload.as_ref()));
    }

    fn process(&mut self, seq: u64, id: u32, owner: &Owner) {
        self.push(seq, false, "process", Some(owner.key), Some(owner.uid), None);
        self.ownership(Some((id, owner)));
        self.facts(None);
        self.place(None);
    }

    fn learned(&mut self, seq: u64, key: ProcessKey, facts: &ProcessFacts, restated: bool) {
        self.push(seq, restated, "facts", Some(key), None, None);
        self.ownership(None);
        self.facts(Some(facts));
        self.place(None);
    }

    fn container(&mut self, seq: u64, id: &str, said: &ContainerFacts, restated: bool) {
        self.push(seq, restated, "container", None, None, said.name.as_deref());
        self.ownership(None);
        self.facts(Some(&ProcessFacts { container: Some(id.to_owned()), ..ProcessFacts::default() }));
        self.place(Some(said));
    }

    fn user(&mut self, seq: u64, uid: u32, name: &str, restated: bool) {
        self.push(seq, restated, "user", None, Some(uid), Some(name));
        self.ownership(None);
        self.facts(None);
        self.place(None);
    }
}

/// Writes processes, facts about them, and users.
#[derive(Default)]
pub(crate) struct Writer {
    columns: Builder,
    /// The numbers of the processes that the segment has named.
    numbers: HashMap<Owner, u32, FixedState>,
    next: u32,
    /// Number of the segment's first event.
    first_seq: u64,
    /// What later segments repeat. Facts have the number of the event that reported them last.
    users: Remembered<u32, String>,
    containers: Remembered<String, ContainerFacts>,
    facts: Remembered<ProcessKey, (u64, ProcessFacts)>,
}

impl HasText for (u64, ProcessFacts) {
    fn text_bytes(&self) -> usize {
        self.1.text_bytes()
    }
}

impl HasText for ContainerFacts {
    fn text_bytes(&self) -> usize {
        self.text_bytes()
    }
}

impl Writer {
    /// The numbers of an event's processes in this segment. Processes without a number get one and are written.
    fn name(&mut self, who: [Option<&Owner>; 2], writing: &mut Writing) {
        let numbers = who.map(|owner| self.numbers.get(owner?).copied());
        let is_new = |(owner, number): (&Option<&Owner>, &Option<u32>)| owner.is_some() && number.is_none();
        [writing.opener, writing.closer] = numbers;
        if !who.iter().zip(&numbers).any(is_new) {
            return;
        }
        // Repeated rows come before all others with the same number.
        for owner in who.into_iter().flatten() {
            if !self.numbers.contains_key(owner) {
                self.repeat_facts(writing.seq, owner.key);
            }
        }
        [writing.opener, writing.closer] = who.map(|owner| Some(self.number(writing.seq, owner?)));
        writing.processes = self.numbers.len();
    }

    fn number(&mut self, seq: u64, owner: &Owner) -> u32 {
        if let Some(number) = self.numbers.get(owner) {
            return *number;
        }
        let number = self.next;
        // A segment ends long before numbers wrap around.
        self.next = self.next.wrapping_add(1);
        self.numbers.insert(*owner, number);
        self.columns.process(seq, number, owner);
        number
    }

    fn repeat_facts(&mut self, seq: u64, key: ProcessKey) {
        if let Some((reported, facts)) = self.facts.get_mut(&key)
            && *reported < self.first_seq
        {
            self.columns.learned(seq, key, facts, true);
            *reported = seq;
        }
    }
}

impl TableWriter for Writer {
    fn columns(&mut self) -> &mut dyn Columns {
        &mut self.columns
    }

    fn push(&mut self, event: &Event, writing: &mut Writing) -> anyhow::Result<()> {
        match event {
            Event::Connection(connection) => {
                self.name([connection.opener.as_ref(), connection.closer.as_ref()], writing);
            }
            Event::ConnectFailed(failed) => self.name([Some(&failed.opener), None], writing),
            Event::BindFailed(failed) => self.name([Some(&failed.owner), None], writing),
            Event::Process { key, facts } => {
                self.columns.learned(writing.seq, *key, facts, false);
                self.facts.insert(*key, (writing.seq, facts.clone()));
            }
            Event::Container { id, facts } => {
                self.columns.container(writing.seq, id, facts, false);
                self.containers.insert(id.clone(), facts.clone());
            }
            Event::User { uid, name } => {
                self.columns.user(writing.seq, *uid, name, false);
                self.users.insert(*uid, name.clone());
            }
            _ => {}
        }
        Ok(())
    }

    fn begin_segment(&mut self, writing: &mut Writing) -> anyhow::Result<()> {
        self.numbers.clear();
        writing.processes = 0;
        self.first_seq = writing.seq;
        for (uid, name) in self.users.iter() {
            self.columns.user(writing.seq, *uid, name, true);
        }
        for (id, facts) in self.containers.iter() {
            self.columns.container(writing.seq, id, facts, true);
        }
        Ok(())
    }
}

/// The `Comm` of its text.
fn from_text(text: &str) -> Option<Comm> {
    let mut comm = Comm::default();
    comm.0.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(comm)
}

/// What the words of this table mean.
#[derive(Default)]
pub(crate) struct Dictionary {
    kind: Meanings<Kind>,
    command: Meanings<Lossy>,
    parent_command: Meanings<Lossy>,
}

/// A command from its text; `None` if the text is too long for a command: then the row has its bytes too.
type Lossy = Option<Comm>;

#[derive(Clone, Copy)]
enum Kind {
    Process,
    Facts,
    Container,
    User,
}

/// A batch that is being read.
pub(crate) struct Batch {
    rows: Rows,
    kind: DecodedDict<Kind>,
    command: DecodedDict<Lossy>,
    parent_command: DecodedDict<Lossy>,
}

impl crate::table::Batch for Batch {
    type Words = Dictionary;

    fn new(batch: &RecordBatch, words: &mut Dictionary) -> anyhow::Result<Self> {
        let mut rows = Rows::of(batch)?;
        let kind = words.kind.of(rows.kind.take(), |word| match word {
            "process" => Some(Kind::Process),
            "facts" => Some(Kind::Facts),
            "container" => Some(Kind::Container),
            "user" => Some(Kind::User),
            _ => None,
        });
        let command = words.command.of(rows.command.take(), |text| Some(from_text(text)));
        let parent_command = words.parent_command.of(rows.parent_command.take(), |text| Some(from_text(text)));
        Ok(Self { rows, kind, command, parent_command })
    }

    fn read(&self, row: usize, reading: &mut Reading) -> anyhow::Result<Read> {
        let rows = &self.rows;
        let number = |number: Option<u32>| number.context("a number is missing");
        let key = || {
            let start_ns = rows.start_ns.get(row).context("the start of a process is missing")?;
            anyhow::Ok(ProcessKey { tgid: number(rows.pid.get(row))?, start_ns })
        };
        Ok(match self.kind.need(row)? {
            Kind::Process => {
                let owner = Owner {
                    key: key()?,
                    uid: number(rows.uid.get(row))?,
                    ppid: number(rows.ppid.get(row))?,
                    cgroup: rows.cgroup_id.get(row).context("a cgroup is missing")?,
                    comm: comm(&self.command, &rows.command_raw, row)?,
                    parent_comm: comm(&self.parent_command, &rows.parent_command_raw, row)?,
                    kthread: rows.kthread.get(row).unwrap_or(false),
                    exiting: rows.exiting.get(row).unwrap_or(false),
                };
                reading.numbers.insert(number(rows.id.get(row))?, owner)?;
                Read::Reference
            }
            Kind::Facts => {
                let facts = ProcessFacts {
                    exe: rows.exe.owned(row),
                    cmdline: rows.cmdline.owned(row),
                    cgroup: rows.cgroup.owned(row),
                    container: rows.container.owned(row),
                    pod_uid: rows.pod_uid.owned(row),
                    unit: rows.unit.owned(row),
                    ancestor: rows.ancestor.owned(row),
                };
                Read::Event(Event::Process { key: key()?, facts })
            }
            Kind::Container => {
                let id = rows.container.owned(row).context("the id of a container is missing")?;
                let facts = ContainerFacts {
                    name: rows.name.owned(row),
                    image: rows.image.owned(row),
                    pod: rows.pod.owned(row),
                    pod_namespace: rows.pod_namespace.owned(row),
                    workload: rows.workload.owned(row),
                };
                Read::Event(Event::Container { id, facts })
            }
            Kind::User => {
                let name = rows.name.owned(row).context("the name of a user is missing")?;
                Read::Event(Event::User { uid: number(rows.uid.get(row))?, name })
            }
        })
    }
}

fn comm(text: &DecodedDict<Lossy>, raw: &OptReader<BinaryArray>, row: usize) -> anyhow::Result<Comm> {
    if let Some(raw) = raw.get(row) {
        return raw.try_into().map(Comm).context("a command has 16 bytes");
    }
    text.need(row)?.context("a command is too long")
}
