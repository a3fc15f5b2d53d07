//! Landlock: which files a thread may reach.

use super::Needs;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use std::path::Path;

/// The newest version whose rights are asked for.
const NEWEST: ABI = ABI::V6;

/// What a thread that answers or writes may read besides its folder: the kernel's figures, and settings of the host.
const READ: [&str; 4] = ["/proc", "/sys", "/etc", "/usr"];

/// Limits this thread, and those that it starts: it may write below one folder, start no program, and open no port and no
/// connection. Returns the version of Landlock.
///
/// Such a thread can read nothing of another process that needs the right to trace it (`exe`, `fd`, `ns`): threads that do
/// that cannot be limited like this.
pub(super) fn restrict(needs: &Needs) -> Result<u32, String> {
    let status = rules(needs).map_err(|error| error.to_string())?;
    match status.landlock {
        _ if status.ruleset == RulesetStatus::NotEnforced => Err("this kernel has none".to_owned()),
        LandlockStatus::Available { effective_abi, .. } => Ok(effective_abi as u32),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Err("this kernel has none".to_owned()),
    }
}

fn rules(needs: &Needs) -> Result<landlock::RestrictionStatus, RulesetError> {
    let everything = AccessFs::from_all(NEWEST);
    let mut ruleset = Ruleset::default()
        // The first version forbids links from one folder to another, which keeping the end of a recording needs.
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(everything)?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let mut allow = |path: &Path, access| match PathFd::new(path) {
        Ok(file) => (&mut ruleset).add_rule(PathBeneath::new(file, access)).map(|_| ()),
        // What is not there cannot be reached either.
        Err(_) => Ok(()),
    };
    for path in READ {
        allow(Path::new(path), AccessFs::ReadFile | AccessFs::ReadDir)?;
    }
    // The id of a recording.
    allow(Path::new("/dev/urandom"), AccessFs::ReadFile.into())?;
    if let Some(folder) = &needs.folder {
        allow(
            folder,
            everything & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev),
        )?;
    }
    for folder in &needs.removes_in {
        allow(folder, AccessFs::RemoveFile.into())?;
    }
    ruleset.restrict_self()
}
