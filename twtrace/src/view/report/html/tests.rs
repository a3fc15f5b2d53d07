#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::view::order::By;
use crate::view::report::tests::with_report;
use crate::view::report::{Options, fixture};

#[test]
fn scratch() {
    let text = with_report(&fixture::incident(1200), Options::default(), |report| page(report).into_string());
    std::fs::write("/tmp/t-report/incident.html", text).unwrap();
    let text =
        with_report(&fixture::short(), Options { by: By::Command, top: None }, |report| page(report).into_string());
    std::fs::write("/tmp/t-report/short.html", text).unwrap();
}
