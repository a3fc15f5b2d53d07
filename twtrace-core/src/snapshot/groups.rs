//! Groups of processes, as functions of a process, its facts, and the destination.
//!
//! A grouping is one line of [`groupings!`] below. Names that arrive late apply to the past as well, because groups are
//! computed only on demand.

use crate::containers::RunsIn;
use crate::event::{Owner, ProcessFacts};
use crate::keys::{DestKey, DestRow, GroupKey, Kin};
use std::borrow::Cow;
use std::sync::Arc;

/// What a group is computed from.
#[derive(Clone, Copy)]
pub(super) struct Member<'a> {
    /// A process, or one of several that differ only in their PID. `None` for the unknown and for rows merged from
    /// many.
    pub(super) owner: Option<&'a Owner>,
    /// What an operator calls its program, where that is known.
    pub(super) program: Option<&'a Arc<str>>,
    /// What `/proc` said of it, or else of its cgroup, and what a runtime said of its container.
    pub(super) runs_in: RunsIn<'a>,
    /// It is one of many processes with one or two connections each.
    pub(super) is_one_shot: bool,
    /// It stands for several processes that did not fit as rows of their own.
    pub(super) is_moved: bool,
    /// The destination of its connections.
    pub(super) destination: &'a DestRow,
}

impl<'a> Member<'a> {
    fn process(&self) -> Option<GroupKey> {
        Some(GroupKey::Process(self.owner?.key))
    }

    fn kin(&self) -> Option<GroupKey> {
        Some(GroupKey::OneShots(Arc::new(Kin::of(self.owner?, Arc::clone(self.program?)))))
    }

    fn program(&self) -> Option<GroupKey> {
        Some(GroupKey::Program(Arc::clone(self.program?)))
    }

    /// A name that only some processes have.
    fn named(&self, name: fn(&ProcessFacts) -> &Option<String>) -> Option<GroupKey> {
        self.owner?;
        let name = self.runs_in.facts.and_then(|facts| name(facts).as_deref());
        Some(name.map_or(GroupKey::None, |name| GroupKey::Named(name.into())))
    }

    /// A name of where some processes run.
    fn place(&self, name: fn(&RunsIn<'a>) -> Option<Cow<'a, str>>) -> Option<GroupKey> {
        self.owner?;
        Some(name(&self.runs_in).map_or(GroupKey::None, |name| GroupKey::Named(name.as_ref().into())))
    }

    fn at<'b>(&'b self, key: fn(&'b DestKey) -> GroupKey) -> Option<GroupKey> {
        Some(match self.destination {
            DestRow::Dest(to) => key(to),
            DestRow::Other => GroupKey::Other,
        })
    }
}

/// A way to group.
pub struct Grouping {
    /// Which.
    pub by: GroupBy,
    /// Its name on the command line and in JSON.
    pub name: &'static str,
    /// Heading of its column.
    pub heading: &'static str,
    /// What a row is, for the help.
    pub doc: &'static str,
    /// The group of a member; `None` where it has none.
    pub(super) key: fn(&Member<'_>) -> Option<GroupKey>,
}

macro_rules! groupings {
    ($($(#[doc = $doc:literal])+ $by:ident $name:literal $heading:literal $key:expr;)*) => {
        /// Ways to group.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum GroupBy {
            #[default]
            $($(#[doc = $doc])+ $by,)*
        }

        /// All ways to group, in the order of [`GroupBy`].
        pub const GROUPINGS: &[Grouping] = &[$(Grouping {
            by: GroupBy::$by,
            name: $name,
            heading: $heading,
            doc: concat!($($doc),+),
            key: $key,
        }),*];
    };
}

groupings! {
    /// One process; one-shot processes of the same program and parent together
    Process "process" "PROGRAM" |of| if of.is_one_shot { of.kin() } else { of.process().or(of.program()) };
    /// One process, one-shot ones too
    Pid "pid" "PROGRAM" |of| if of.is_moved { of.kin().or(of.program()) } else { of.process() };
    /// All processes of one program: a script, a jar, a server
    Program "program" "PROGRAM" |of| of.program();
    /// All processes of one command name
    Command "command" "COMMAND" |of| Some(GroupKey::Command(of.owner?.comm));
    /// All children of one parent process, such as the script that starts them
    Parent "parent" "PARENT" |of| of.owner.map(|owner| GroupKey::Parent(owner.ppid, owner.parent_comm));
    /// All processes below one that lives long, such as a cron job, a service or a shell
    Ancestor "ancestor" "ANCESTOR" |of| of.named(|facts| &facts.ancestor);
    /// All processes of one user
    User "user" "USER" |of| Some(GroupKey::User(of.owner?.uid));
    /// All processes of one cgroup
    Cgroup "cgroup" "CGROUP" |of| Some(GroupKey::Cgroup(of.owner?.cgroup));
    /// All processes of one systemd unit
    Unit "unit" "UNIT" |of| of.named(|facts| &facts.unit);
    /// All processes of one container
    Container "container" "CONTAINER" |of| of.place(RunsIn::container);
    /// All containers of one image
    Image "image" "IMAGE" |of| of.place(RunsIn::image);
    /// All containers of one pod
    Pod "pod" "POD" |of| of.place(RunsIn::pod);
    /// All pods of one workload: a Deployment, a StatefulSet, a service of Compose
    Workload "workload" "WORKLOAD" |of| of.place(RunsIn::workload);
    /// All pods in one namespace of the cluster
    ClusterNamespace "cluster-namespace" "NAMESPACE" |of| of.place(RunsIn::cluster_namespace);
    /// All processes of one executable file
    Exe "exe" "EXECUTABLE" |of| of.named(|facts| &facts.exe);
    /// All connections in one network namespace
    Netns "netns" "NETNS" |of| of.at(|to| GroupKey::Netns(to.netns));
    /// One service that is connected to, or one port that is listened on
    Destination "destination" "DESTINATION" |of| of.at(|to| GroupKey::Destination(*to));
}

impl GroupBy {
    /// All that is known of this grouping.
    pub fn grouping(self) -> &'static Grouping {
        &GROUPINGS[self as usize]
    }

    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        self.grouping().name
    }

    /// The same, except for destinations, which have their own rows with more than figures.
    pub fn group(self) -> Option<Self> {
        (self != Self::Destination).then_some(self)
    }

    /// The grouping of a name.
    pub fn of(name: &str) -> Option<Self> {
        GROUPINGS.iter().find(|grouping| grouping.name == name).map(|grouping| grouping.by)
    }

    /// Whether rows are of single processes, or of one-shot ones together.
    pub fn is_of_processes(self) -> bool {
        matches!(self, Self::Process | Self::Pid)
    }

    /// The grouping in which the processes of a row are shown: one-shot ones together, unless the row itself is of
    /// processes.
    pub fn members(self) -> Self {
        if self == Self::Process { Self::Pid } else { Self::Process }
    }

    /// Whether a group follows from the destination, and not from the process.
    pub(super) fn is_of_destinations(self) -> bool {
        matches!(self, Self::Netns | Self::Destination)
    }
}
