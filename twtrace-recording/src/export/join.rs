//! Connections with what is known about the processes that opened and closed them.

use anyhow::Context as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int32Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take;
use std::collections::HashMap;
use std::sync::Arc;
use twtrace_core::{plain, program};

/// Roles of a process: the column that names the process, and the prefix of the new columns.
const ROLES: [&str; 2] = ["opener", "closer"];

/// Where a column of a process comes from.
#[derive(Clone, Copy)]
enum Of {
    Owner,
    Facts,
    Container,
    User,
}

/// Columns of `processes` that connections get, with their new names.
const COLUMNS: [(Of, &str, &str); 19] = [
    (Of::Owner, "start_ns", "start_ns"),
    (Of::Owner, "uid", "uid"),
    (Of::User, "name", "user"),
    (Of::Owner, "ppid", "ppid"),
    (Of::Owner, "parent_command", "parent_command"),
    (Of::Owner, "kthread", "kthread"),
    (Of::Owner, "cgroup_id", "cgroup_id"),
    (Of::Facts, "cgroup", "cgroup"),
    (Of::Facts, "container", "container"),
    (Of::Container, "name", "container_name"),
    (Of::Container, "image", "image"),
    (Of::Container, "pod", "pod"),
    (Of::Container, "pod_namespace", "pod_namespace"),
    (Of::Facts, "pod_uid", "pod_uid"),
    (Of::Container, "workload", "workload"),
    (Of::Facts, "unit", "unit"),
    (Of::Facts, "ancestor", "ancestor"),
    (Of::Facts, "exe", "exe"),
    (Of::Facts, "cmdline", "cmdline"),
];

/// Columns of connections after the join.
pub(super) fn schema(connections: &Schema, processes: &Schema) -> anyhow::Result<SchemaRef> {
    let mut fields = connections.fields().to_vec();
    for role in ROLES {
        for (_, column, name) in COLUMNS {
            let field = processes.field_with_name(column)?;
            fields.push(Arc::new(Field::new(format!("{role}_{name}"), field.data_type().clone(), true)));
        }
        fields.push(Arc::new(Field::new(format!("{role}_program"), DataType::Utf8, true)));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The processes of one segment.
pub(super) struct Processes {
    rows: RecordBatch,
    /// Rows of owners by number.
    owners: HashMap<u32, u32>,
    /// Rows of facts by PID and start.
    facts: HashMap<(u32, u64), u32>,
    /// Rows of containers by id.
    containers: HashMap<String, u32>,
    /// Rows of users by uid.
    users: HashMap<u32, u32>,
    /// What an operator calls the program of each row, where the row is of an owner.
    programs: ArrayRef,
}

impl Processes {
    pub(super) fn new(schema: &SchemaRef, batches: &[RecordBatch]) -> anyhow::Result<Self> {
        let rows = concat_batches(schema, batches)?;
        let (mut owners, mut facts, mut users) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut containers = HashMap::new();
        let column = |name: &str| rows.column_by_name(name).with_context(|| format!("processes have no {name}"));
        let (kinds, id) = (column("kind")?, column("id")?);
        let (pid, start_ns, uid) = (column("pid")?, column("start_ns")?, column("uid")?);
        let kinds = kinds.as_dictionary::<Int32Type>().downcast_dict::<StringArray>().context("a kind")?;
        let number = |column: &ArrayRef, row: usize| {
            let column = column.as_primitive::<UInt32Type>();
            (!column.is_null(row)).then(|| column.value(row))
        };
        for row in 0..rows.num_rows() {
            let place = u32::try_from(row)?;
            let kind = kinds.keys().is_valid(row).then(|| {
                let key = kinds.keys().value(row);
                kinds.values().value(usize::try_from(key).unwrap_or_default())
            });
            let started = start_ns.as_primitive::<UInt64Type>();
            match (kind, number(pid, row), number(uid, row), number(id, row)) {
                (Some("process"), _, _, Some(id)) => drop(owners.insert(id, place)),
                (Some("facts"), Some(pid), ..) if !started.is_null(row) => {
                    facts.insert((pid, started.value(row)), place);
                }
                (Some("container"), ..) => {
                    if let Some(id) = text(&rows, "container", place) {
                        containers.insert(id.to_owned(), place);
                    }
                }
                (Some("user"), _, Some(uid), _) => drop(users.insert(uid, place)),
                _ => {}
            }
        }
        let mut processes =
            Self { programs: Arc::new(StringArray::new_null(0)), rows, owners, facts, containers, users };
        processes.programs = processes.programs();
        Ok(processes)
    }

    /// The program of each owner, as the reports name it.
    fn programs(&self) -> ArrayRef {
        let mut programs: Vec<Option<String>> = vec![None; self.rows.num_rows()];
        for &owner in self.owners.values() {
            let facts = self.facts_of(owner);
            let text = |column, row: Option<u32>| text(&self.rows, column, row?);
            let raw =
                self.rows.column_by_name("command_raw").and_then(|raw| raw.as_any().downcast_ref::<BinaryArray>());
            let raw = raw.filter(|raw| raw.is_valid(owner as usize)).map(|raw| raw.value(owner as usize));
            // The kernel pads it with NUL.
            let raw = raw.map(|raw| plain::lossless(raw.split(|byte| *byte == 0).next().unwrap_or_default()));
            let command = raw.unwrap_or_else(|| text("command", Some(owner)).unwrap_or_default().into());
            programs[owner as usize] = Some(program::of(&command, text("exe", facts), text("cmdline", facts)).name);
        }
        Arc::new(StringArray::from(programs))
    }

    /// Connections of the same segment with the columns of both processes.
    pub(super) fn join(&self, schema: &SchemaRef, connections: &RecordBatch) -> anyhow::Result<RecordBatch> {
        let mut columns = connections.columns().to_vec();
        for role in ROLES {
            let named = connections.column_by_name(role).with_context(|| format!("connections have no {role}"))?;
            let owners: Vec<Option<u32>> =
                named.as_primitive::<UInt32Type>().iter().map(|number| self.owners.get(&number?).copied()).collect();
            let facts = UInt32Array::from_iter(owners.iter().map(|owner| self.facts_of((*owner)?)));
            let containers = UInt32Array::from_iter(owners.iter().map(|owner| self.container_of((*owner)?)));
            let users = UInt32Array::from_iter(owners.iter().map(|owner| self.user_of((*owner)?)));
            let owners = UInt32Array::from(owners);
            for (of, column, _) in COLUMNS {
                let rows = match of {
                    Of::Owner => &owners,
                    Of::Facts => &facts,
                    Of::Container => &containers,
                    Of::User => &users,
                };
                columns.push(match self.rows.column_by_name(column) {
                    Some(values) => take(values, rows, None)?,
                    None => new_null_array(schema.field_with_name(column)?.data_type(), connections.num_rows()),
                });
            }
            columns.push(take(&self.programs, &owners, None)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    fn number(&self, column: &str, row: u32) -> Option<u32> {
        let column = self.rows.column_by_name(column)?.as_primitive_opt::<UInt32Type>()?;
        let row = row as usize;
        (row < column.len() && !column.is_null(row)).then(|| column.value(row))
    }

    fn facts_of(&self, owner: u32) -> Option<u32> {
        let started = self.rows.column_by_name("start_ns")?.as_primitive_opt::<UInt64Type>()?;
        let start_ns = started.value(owner as usize);
        self.facts.get(&(self.number("pid", owner)?, start_ns)).copied()
    }

    fn container_of(&self, owner: u32) -> Option<u32> {
        self.containers.get(text(&self.rows, "container", self.facts_of(owner)?)?).copied()
    }

    fn user_of(&self, owner: u32) -> Option<u32> {
        self.users.get(&self.number("uid", owner)?).copied()
    }
}

/// A text of a row, whether its column is plain or a dictionary.
fn text<'a>(rows: &'a RecordBatch, column: &str, row: u32) -> Option<&'a str> {
    let column = rows.column_by_name(column)?;
    let (texts, place) = match column.as_string_opt::<i32>() {
        Some(texts) => (texts, row as usize),
        None => {
            let words = column.as_dictionary_opt::<Int32Type>()?;
            (words.values().as_string_opt::<i32>()?, words.key(row as usize)?)
        }
    };
    (place < texts.len() && texts.is_valid(place)).then(|| texts.value(place))
}
