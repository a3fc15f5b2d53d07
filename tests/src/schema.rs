//! Checks the program's JSON against the schemas in `docs/json`.

use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

macro_rules! form {
    ($name:literal) => {
        LazyLock::new(|| {
            let schema = include_str!(concat!("../../docs/json/", $name, ".schema.json"));
            jsonschema::validator_for(&serde_json::from_str(schema).expect("it is JSON")).expect("it is a schema")
        })
    };
}

/// A form of JSON, defined by its schema. The schemas are compiled in: guests have no sources.
pub type Form = LazyLock<Validator>;

/// `top` and `replay --once`.
pub static TOP: Form = form!("top");
/// `report`.
pub static REPORT: Form = form!("report");
/// `diff`.
pub static DIFF: Form = form!("diff");
/// `replay --what-if`.
pub static WHAT_IF: Form = form!("what-if");
/// `sockets`.
pub static SOCKETS: Form = form!("sockets");
/// The findings that an agent answers with.
pub static FINDINGS: Form = form!("findings");
/// `doctor`.
pub static DOCTOR: Form = form!("doctor");
/// `doctor --audit`.
pub static AUDIT: Form = form!("audit");

/// Checks a document against a schema.
///
/// # Panics
/// If it does not fit; the message says what does not.
pub fn assert_fits(form: &Validator, document: &Value) {
    let faults = form.iter_errors(document).map(|fault| format!("{}: {fault}", fault.instance_path()));
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "it is not what its schema says: {}", faults.join("\n"));
}
