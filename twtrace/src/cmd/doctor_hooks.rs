//! What the hooks that attached allow, and what the others cost.

use super::doctor::{check, ok};
use twtrace_core::doctor::{Check, Status};
use twtrace_core::input::{Hook, Tier};

/// The hook without which nothing can be traced.
pub(super) const BASE_HOOK: &str = "inet_sock_set_state";
/// The hook that sees timewait sockets themselves.
pub(super) const EXACT_HOOK: &str = "inet_twsk_alloc";
/// And one of those with which it ends.
pub(super) const END_HOOKS: [&str; 2] = ["tcp_twsk_destructor", "inet_twsk_free"];

/// Best tier that the attached hooks allow; `None` when they allow no trace.
pub(super) fn tier(hooks: &[Hook], by_tuple: bool) -> Option<Tier> {
    let attached = |name: &str| hooks.iter().find(|hook| hook.attached && hook.name == name);
    let base = attached(BASE_HOOK)?;
    Some(if attached(EXACT_HOOK).is_some() && END_HOOKS.iter().any(|name| attached(name).is_some()) {
        Tier::Exact
    } else if base.kind == "tp_btf" && !by_tuple {
        Tier::Cookie
    } else {
        Tier::Tuple
    })
}

/// What a hook that is not attached takes away.
fn hook_cost(hook: &Hook) -> &'static str {
    match hook.name.as_str() {
        "tcp_send_reset" => "resets that this host sends are judged and not seen",
        "inet_csk_accept" => "accepts that make no system call (io_uring) are not seen",
        "inet_hash_connect" | "inet6_hash_connect" => "failed connects that make no system call are judged",
        name if name.contains("bind") => "why a bind fails is unknown",
        name if name.contains("accept") => "who accepted a connection is known only from who closed it",
        name if name.contains("connect") => "the errno of failed connects is known only in part",
        // Its twin: without the hook itself there is no tier at all.
        name if name.starts_with(BASE_HOOK) => {
            "transitions that the kernel skips on recursion are lost, though counted"
        }
        name if name == EXACT_HOOK || END_HOOKS.contains(&name) => {
            "timewait sockets are judged when their connection closes, and their end is inferred between two censuses"
        }
        "tcp_twsk_unique" => "ports that a connect takes over are not told from other early ends",
        _ => "some events are judged and not seen",
    }
}

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
        let reason = hooks.iter().find(|hook| hook.name == BASE_HOOK).and_then(|hook| hook.reason.as_deref());
        let cost = format!("without {BASE_HOOK} nothing is traced");
        return check("hooks", Status::Missing, found, &cost, reason.unwrap_or(fix));
    }
    let mut costs: Vec<&str> = hooks.iter().filter(|hook| !hook.attached).map(hook_cost).collect();
    costs.sort_unstable();
    costs.dedup();
    if costs.is_empty() { ok("hooks", found) } else { check("hooks", Status::Degraded, found, &costs.join("; "), fix) }
}
