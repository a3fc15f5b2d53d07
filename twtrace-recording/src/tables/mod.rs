//! The tables. Each has its own file with its columns, the conversion of events to rows and back, and what later
//! segments repeat of it. A new table needs such a file and a line in the list here.

use crate::table::{Reader, TableReader, TableWriter};
use arrow_schema::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, LazyLock};

mod censuses;
mod connections;
mod costs;
mod counters;
mod host;
mod kernel;
mod owners;
mod processes;
mod sockets;
mod ticks;

/// Defines the list of tables: the name of each, its module, and its content.
macro_rules! tables {
    ($(#[doc = $about:literal] $table:ident in $module:ident,)*) => {
        /// Number of tables.
        pub(super) const TABLES: usize = [$(stringify!($module)),*].len();

        /// A table. Of rows of one event, those of an earlier table come first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Table { $(#[doc = $about] $table,)* }

        impl Table {
            /// All of them.
            pub const ALL: [Self; TABLES] = [$(Self::$table),*];

            /// Its name, as in the names of its files.
            pub fn name(self) -> &'static str {
                match self { $(Self::$table => stringify!($module)),* }
            }

            /// What is in it.
            pub fn about(self) -> &'static str {
                match self { $(Self::$table => $about.trim_ascii()),* }
            }

            fn fields(self) -> Vec<Field> {
                match self { $(Self::$table => $module::Builder::fields()),* }
            }

            /// Whether a column is read back.
            pub(super) fn reads(self, column: &str) -> bool {
                match self { $(Self::$table => $module::Builder::reads(column)),* }
            }

            /// The writer of each table.
            pub(super) fn writers() -> [Box<dyn TableWriter>; TABLES] {
                [$(Box::<$module::Writer>::default()),*]
            }

            /// The reader of each table.
            pub(super) fn readers() -> [Box<dyn TableReader>; TABLES] {
                [$(Box::<Reader<$module::Batch>>::default()),*]
            }
        }
    };
}

// Processes come before the tables that refer to them.
tables! {
    /// The host and the hooks, and network namespaces
    Host in host,
    /// Moments up to which the trace is complete
    Ticks in ticks,
    /// When each census began and ended
    Censuses in censuses,
    /// Kernel figures and sysctls of each network namespace
    Kernel in kernel,
    /// What the trace has counted, its losses among it
    Counters in counters,
    /// What the trace itself costs
    Costs in costs,
    /// Which processes have which sockets open
    Owners in owners,
    /// Processes that opened or closed connections, and users
    Processes in processes,
    /// Connections that ended, and calls that failed at once, with their processes
    Connections in connections,
    /// What censuses saw of sockets, and how TIME_WAIT sockets ended
    Sockets in sockets,
}

impl Table {
    /// Columns.
    pub(super) fn schema(self) -> &'static SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; TABLES]> =
            LazyLock::new(|| Table::ALL.map(|table| Arc::new(Schema::new(table.fields()))));
        &SCHEMAS[self as usize]
    }
}
