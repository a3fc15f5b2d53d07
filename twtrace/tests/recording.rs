//! What is recorded is read back as it was.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{input, record, replay};
use proptest::collection::vec;
use proptest::prelude::*;
use twtrace::trace::writer::WriteOptions;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_list_comes_back(inputs in vec(input(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.twt");
        record(&path, &inputs, WriteOptions::default());
        let found = replay(&path);
        for (index, (found, input)) in found.iter().zip(&inputs).enumerate() {
            prop_assert_eq!(found, input, "Input {}", index);
        }
        prop_assert_eq!(found.len(), inputs.len());
    }
}
