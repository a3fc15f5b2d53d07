//! What the attached hooks allow, and what the missing ones cost.

use super::{check, ok};
use twtrace_core::doctor::{Check, Status};
use twtrace_core::event::Hook;
use twtrace_probe::kernel::hooks::{SET_STATE, spec, tier};

/// Cost of a hook that is not in the table: it belongs to another version's object.
const OTHER: &str = "some events are classified and not seen";

pub(super) fn hooks_check(hooks: &Result<Vec<Hook>, String>) -> Check {
    let fix = "see the reason given with each hook";
    let hooks = match hooks {
        Ok(hooks) => hooks,
        Err(reason) => {
            return check("hooks", Status::Missing, "could not be tried", "nothing is traced", reason);
        }
    };
    let attached = hooks.iter().filter(|hook| hook.attached).count();
    let found = format!("{attached} of {} attached", hooks.len());
    if tier(hooks, false).is_none() {
        let reason = hooks.iter().find(|hook| hook.name == SET_STATE).and_then(|hook| hook.reason.as_deref());
        let cost = format!("without {SET_STATE} nothing is traced");
        return check("hooks", Status::Missing, found, &cost, reason.unwrap_or(fix));
    }
    let mut costs: Vec<&str> = hooks
        .iter()
        .filter(|hook| !hook.attached)
        .map(|hook| spec(&hook.name).map_or(OTHER, |spec| spec.cost))
        .collect();
    costs.sort_unstable();
    costs.dedup();
    if costs.is_empty() { ok("hooks", found) } else { check("hooks", Status::Degraded, found, &costs.join("; "), fix) }
}
