//! What the container runtimes answered.

use twtrace_core::doctor::{Check, Status};
use twtrace_probe::host::runtimes::Answer;
use twtrace_view::text;

/// A runtime that does not answer is no problem beside one that does: Docker's containerd, for one, knows no names.
pub(super) fn check(answers: &[Answer]) -> Check {
    let each = answers.iter().map(|Answer { path, found }| {
        let path = text::clean(&path.to_string_lossy()).into_owned();
        match found {
            Ok((kind, containers)) => format!("{kind} at {path}: {containers} containers"),
            Err(reason) => format!("{path}: {}", text::clean(reason)),
        }
    });
    let each = each.collect::<Vec<_>>().join("; ");
    let cost = "containers are shown by their ids, without names, images and pods";
    if answers.iter().any(|answer| answer.found.is_ok()) {
        super::ok("runtimes", each)
    } else if answers.is_empty() {
        super::check("runtimes", Status::Info, "no container runtime listens at a usual socket", "", "")
    } else {
        let fix = "run as root, or name the right socket with --runtimes PATH";
        super::check("runtimes", Status::Degraded, each, cost, fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runtime_that_answers_is_enough() {
        let docker = Answer { path: "/run/docker.sock".into(), found: Ok(("Docker API", 3)) };
        let refused = Answer { path: "/run/crio/crio.sock".into(), found: Err("Permission denied".to_owned()) };
        for (answers, status, found) in [
            (vec![], Status::Info, "no container runtime"),
            (vec![refused.clone()], Status::Degraded, "/run/crio/crio.sock: Permission denied"),
            (vec![refused, docker], Status::Ok, "denied; Docker API at /run/docker.sock: 3 containers"),
        ] {
            let check = check(&answers);
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.found.contains(found), "{check:?}");
        }
    }
}
