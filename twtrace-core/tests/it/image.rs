//! Snapshots as bytes.

use proptest::prelude::*;
use twtrace_core::snapshot::{GROUPINGS, ImageError, Snapshot};
use twtrace_core::state::{Config, State};
use twtrace_testkit::{shop, web};

/// A snapshot with most of what there can be in one.
fn whole() -> Snapshot {
    let mut state = State::new(Config { history: true, ..Config::default() });
    web::events().into_iter().chain(shop::events(5, 50.0)).for_each(|event| state.apply(event));
    Snapshot::with_sockets(&mut state)
}

/// Asks for everything.
fn look(snapshot: &Snapshot) -> usize {
    let mut seen = snapshot.sockets().iter().count() + snapshot.likely_owners().sockets() as usize;
    for grouping in GROUPINGS {
        for row in snapshot.rows(grouping.by) {
            seen += snapshot.destinations_of(grouping.by, row).len() + snapshot.members_of(grouping.by, row).count();
            seen += snapshot.history().map_or(0, |history| row.series.values(history).len());
            seen += usize::from(row.counts.lifetimes.quantile(0.5).is_some());
        }
    }
    for row in snapshot.destinations() {
        seen += snapshot.port_holders(row).len() + snapshot.processes_of(row.id).len();
    }
    seen
}

#[test]
fn image_read_again_is_the_same_snapshot() {
    let before = whole();
    let after = Snapshot::of_image(&before.to_image().unwrap()).unwrap();
    assert!(!before.findings().is_empty() && !before.sockets().is_empty() && before.history().is_some());
    assert_eq!(format!("{:?}", before.findings()), format!("{:?}", after.findings()));
    assert_eq!(format!("{:?}", before.summary()), format!("{:?}", after.summary()));
    assert_eq!(before.history(), after.history());
    assert!(before.sockets().iter().eq(after.sockets().iter()));
    for grouping in GROUPINGS {
        let rows = |snapshot: &Snapshot| format!("{:?}", snapshot.rows(grouping.by));
        assert_eq!(rows(&before), rows(&after), "{}", grouping.name);
    }
    assert_eq!(look(&before), look(&after));
}

#[test]
fn what_is_no_image_of_this_format_is_refused() {
    let image = whole().to_image().unwrap();
    assert_eq!(Snapshot::of_image(b"<html>").unwrap_err(), ImageError::Foreign);
    assert_eq!(Snapshot::of_image(b"").unwrap_err(), ImageError::Foreign);
    let mut newer = image.clone();
    newer[b"twtrace image ".len()] += 1;
    assert!(matches!(Snapshot::of_image(&newer).unwrap_err(), ImageError::Format { .. }));
    for length in (16..image.len()).step_by(97) {
        assert!(matches!(Snapshot::of_image(&image[..length]), Err(ImageError::Damaged(_))), "{length}");
    }
}

/// The bytes of a fixed snapshot change when a type in it does. Then the format has a new version: increment `FORMAT` in
/// `snapshot/image.rs`, and put the new numbers here.
#[test]
fn format_has_a_new_version_when_it_changes() {
    let mut state = State::new(Config::default());
    web::events().into_iter().take(40).for_each(|event| state.apply(event));
    let image = Snapshot::with_sockets(&mut state).to_image().unwrap();
    let sum = image.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
    assert_eq!((image[14], image.len(), sum), (1, 5897, 1_029_657_214));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Anyone may have written an image: it is refused, or shown without a failure.
    #[test]
    fn damaged_images_do_no_harm(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut image = whole().to_image().unwrap();
        for (at, byte) in edits {
            let length = image.len();
            image[at.index(length)] = byte;
        }
        if let Ok(snapshot) = Snapshot::of_image(&image) {
            look(&snapshot);
        }
    }
}
