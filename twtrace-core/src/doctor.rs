//! The report of `twtrace doctor`: can it run here, and what does each missing feature cost? `twtrace-probe` collects
//! the facts; views write the report.

use crate::event::{Hook, Tier};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// `top` works, with a loss that the check names.
    Degraded,
    /// `top` needs it.
    Missing,
    /// Neither good nor bad.
    Info,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Check {
    /// Stable name.
    pub id: &'static str,
    /// Result.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What is lost by it.
    pub cost: Option<String>,
    /// What to do about it.
    pub fix: Option<String>,
}

/// A sysctl and what its value means for TIME_WAIT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sysctl {
    /// As the kernel writes it; `None` when this kernel does not have it.
    pub value: Option<String>,
    /// What that means, in words.
    pub meaning: String,
}

/// What `twtrace doctor --json` writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// Version of this form.
    #[cfg_attr(feature = "schema", schemars(extend("const" = SCHEMA)))]
    pub schema: u32,
    /// Kernel release.
    pub kernel: String,
    /// Whether `top` works.
    pub works: bool,
    /// The answer in one line.
    pub verdict: String,
    /// Tier in force, when it works.
    pub tier: Option<Tier>,
    /// The checks.
    pub checks: Vec<Check>,
    /// Each hook and what became of it.
    pub hooks: Vec<Hook>,
    /// Sizes of each program that the kernel accepted.
    pub programs: Vec<ProgramSize>,
    /// Sysctls that matter.
    pub sysctls: BTreeMap<&'static str, Sysctl>,
}

/// Sizes of a program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProgramSize {
    /// Name in the eBPF object.
    pub name: String,
    /// Instructions that the verifier went through (`verified_insns`); not known before kernel 5.16.
    pub verified_instructions: Option<u32>,
    /// Size after the verifier's rewriting, bytes (`xlated_prog_len`).
    pub translated_bytes: Option<u32>,
    /// Size of the machine code, bytes (`jited_prog_len`); 0 without a JIT compiler.
    pub jited_bytes: u32,
}
