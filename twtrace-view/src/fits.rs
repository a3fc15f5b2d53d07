//! Checks the output of views against the schemas in `docs/json`. A separate test checks that those match the types.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use jsonschema::Validator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Objects with arbitrary names, which no schema can list.
const OPEN: [&str; 4] = ["errors", "corrections", "outcomes", "sysctls"];

/// Reads the schema of a form.
fn validator(form: &str) -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/json/{form}.schema.json"));
    let text = fs::read_to_string(path).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// Checks a document against the schema of a form.
pub(crate) fn assert_fits(form: &str, document: &Value) {
    // The schemas are being written.
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return;
    }
    let validator = validator(form);
    let faults = validator.iter_errors(document);
    let faults: Vec<String> = faults.map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "does not match docs/json/{form}.schema.json: {}", faults.join("\n"));
    assert_nothing_else_fits(&validator, document);
}

/// A misspelt field is rejected, wherever it is.
fn assert_nothing_else_fits(validator: &Validator, document: &Value) {
    for place in places(document) {
        let mut other = document.clone();
        let fields = other.pointer_mut(&place).and_then(Value::as_object_mut).unwrap();
        let (name, value) = fields.iter().next().map(|(name, value)| (format!("{name}_"), value.clone())).unwrap();
        // In addition to the right one: without it the document would be rejected in any case.
        fields.insert(name.clone(), value);
        assert!(!validator.is_valid(&other), "{place}/{name} is taken");
    }
}

/// One object of each kind with fixed fields, by the names on the path to it.
fn places(document: &Value) -> Vec<String> {
    fn add(value: &Value, (place, kind): (String, String), found: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(fields) => {
                if !OPEN.iter().any(|open| place.ends_with(&format!("/{open}"))) {
                    found.entry(kind.clone()).or_insert_with(|| place.clone());
                }
                for (name, value) in fields {
                    let path = name.replace('~', "~0").replace('/', "~1");
                    add(value, (format!("{place}/{path}"), format!("{kind}/{name}")), found);
                }
            }
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    add(value, (format!("{place}/{index}"), kind.clone()), found);
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    add(document, (String::new(), String::new()), &mut found);
    found.into_values().collect()
}
