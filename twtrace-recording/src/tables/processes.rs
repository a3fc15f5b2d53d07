//! Processes: those that own connections, what `/proc` said of them, and users.

use crate::columns::{Bytes, Flag, Meanings, Meant, Num, Opt, OptReader, Text, Words, table};
use anyhow::Context as _;
use arrow_array::BinaryArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use twtrace_core::input::{Comm, Input, Owner, ProcessFacts, ProcessKey};

table! {
    /// One row for each thing told of a process or a user.
    Processes, Rows {
        /// Number of its Input; of an owner, the first that names it.
        seq: Num<UInt64Type>,
        /// Told before: repeated for who begins to read here.
        restated: Flag,
        kind: Words<&'static str>,
        /// What `connections` call it.
        id: Opt<UInt32Type>,
        pid: Opt<UInt32Type>,
        start_ns: Opt<UInt64Type>,
        uid: Opt<UInt32Type>,
        ppid: Opt<UInt32Type>,
        cgroup_id: Opt<UInt64Type>,
        command: Words<Comm>,
        /// All 16 bytes, where the text does not give them.
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
        /// Name of a user.
        name: Text,
    }
}

impl Processes {
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
        self.restated.push(Some(restated));
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
    }

    pub(crate) fn owner(&mut self, seq: u64, id: u32, owner: &Owner) {
        self.push(seq, false, "owner", Some(owner.key), Some(owner.uid), None);
        self.ownership(Some((id, owner)));
        self.facts(None);
    }

    pub(crate) fn process(&mut self, seq: u64, key: ProcessKey, facts: &ProcessFacts, restated: bool) {
        self.push(seq, restated, "facts", Some(key), None, None);
        self.ownership(None);
        self.facts(Some(facts));
    }

    pub(crate) fn user(&mut self, seq: u64, uid: u32, name: &str, restated: bool) {
        self.push(seq, restated, "user", None, Some(uid), Some(name));
        self.ownership(None);
        self.facts(None);
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

/// A command by its text, unless the text is too long to be all of it: then there are its bytes besides.
type Lossy = Option<Comm>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Owner,
    Facts,
    User,
}

/// A batch that is being read.
pub(crate) struct Reader {
    rows: Rows,
    kind: Meant<Kind>,
    command: Meant<Lossy>,
    parent_command: Meant<Lossy>,
}

/// What a row tells.
pub(crate) enum Told {
    /// A process, by what connections call it.
    Owner(u32, Owner),
    /// An Input, and whether it was told before.
    Input(Input, bool),
}

impl Reader {
    pub(crate) fn new(mut rows: Rows, words: &mut Dictionary) -> Self {
        Self {
            kind: words.kind.of(rows.kind.take(), |word| match word {
                "owner" => Some(Kind::Owner),
                "facts" => Some(Kind::Facts),
                "user" => Some(Kind::User),
                _ => None,
            }),
            command: words.command.of(rows.command.take(), |text| Some(from_text(text))),
            parent_command: words.parent_command.of(rows.parent_command.take(), |text| Some(from_text(text))),
            rows,
        }
    }

    pub(crate) fn seq(&self, row: usize) -> Option<u64> {
        self.rows.seq.values().get(row).copied()
    }

    /// Whether a row tells again what an earlier segment told.
    pub(crate) fn is_restated(&self, row: usize) -> bool {
        self.rows.restated.get(row).unwrap_or(false)
    }

    pub(crate) fn told(&self, row: usize) -> anyhow::Result<Told> {
        let rows = &self.rows;
        let restated = self.is_restated(row);
        let number = |number: Option<u32>| number.context("a number is missing");
        let key = || {
            let start_ns = rows.start_ns.get(row).context("the start of a process is missing")?;
            anyhow::Ok(ProcessKey { tgid: number(rows.pid.get(row))?, start_ns })
        };
        Ok(match self.kind.need(row)? {
            Kind::Owner => {
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
                Told::Owner(number(rows.id.get(row))?, owner)
            }
            Kind::Facts => {
                let facts = ProcessFacts {
                    exe: rows.exe.owned(row),
                    cmdline: rows.cmdline.owned(row),
                    cgroup: rows.cgroup.owned(row),
                    container: rows.container.owned(row),
                    unit: rows.unit.owned(row),
                };
                Told::Input(Input::Process { key: key()?, facts }, restated)
            }
            Kind::User => {
                let name = rows.name.owned(row).context("the name of a user is missing")?;
                Told::Input(Input::User { uid: number(rows.uid.get(row))?, name }, restated)
            }
        })
    }
}

fn comm(text: &Meant<Lossy>, raw: &OptReader<BinaryArray>, row: usize) -> anyhow::Result<Comm> {
    if let Some(raw) = raw.get(row) {
        return raw.try_into().map(Comm).context("a command has 16 bytes");
    }
    text.need(row)?.context("a command is too long")
}
