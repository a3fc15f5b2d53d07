//! JSON schemas of all that is written as JSON, from the types that are written and the table of figures. They are in
//! `docs/json`, which `UPDATE_DOCS=1 cargo test -p twtrace-view schema` writes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::diff::figures::{DifferenceJson, RatesJson, per_s};
use crate::json::findings::EvidenceJson;
use crate::json::rows::{CountsJson, Quantiles};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use twtrace_core::counts::{Counts, FIELDS, Field, Figure};
use twtrace_core::evidence::{EVIDENCE, Type};

/// Something that is written as JSON.
struct Form {
    /// Name of its file in `docs/json`.
    name: &'static str,
    /// What writes it.
    title: &'static str,
    schema: fn(SchemaGenerator) -> Schema,
}

const FORMS: [Form; 9] = [
    Form {
        name: "top",
        title: "twtrace top --json, twtrace replay --once --json, /api/v1/snapshot of twtrace agent",
        schema: SchemaGenerator::into_root_schema_for::<crate::json::Report<'_>>,
    },
    Form {
        name: "report",
        title: "twtrace report --format json",
        schema: SchemaGenerator::into_root_schema_for::<crate::report::json::ReportJson<'_>>,
    },
    Form {
        name: "diff",
        title: "twtrace diff --format json",
        schema: SchemaGenerator::into_root_schema_for::<crate::diff::json::DiffJson<'_>>,
    },
    Form {
        name: "sockets",
        title: "twtrace sockets --json, /api/v1/sockets of twtrace agent",
        schema: SchemaGenerator::into_root_schema_for::<crate::sockets::Report<'_>>,
    },
    Form {
        name: "findings",
        title: "/api/v1/findings of twtrace agent",
        schema: SchemaGenerator::into_root_schema_for::<crate::json::Findings<'_>>,
    },
    Form {
        name: "budget",
        title: "twtrace budget --json",
        schema: SchemaGenerator::into_root_schema_for::<twtrace_core::plan::report::Report>,
    },
    Form {
        name: "what-if",
        title: "twtrace replay --what-if --json",
        schema: SchemaGenerator::into_root_schema_for::<crate::what_if::Report>,
    },
    Form {
        name: "doctor",
        title: "twtrace doctor --json",
        schema: SchemaGenerator::into_root_schema_for::<twtrace_core::doctor::Report>,
    },
    Form {
        name: "audit",
        title: "twtrace doctor --audit --json",
        schema: SchemaGenerator::into_root_schema_for::<twtrace_core::audit::Report>,
    },
];

impl Form {
    /// Its schema as it is in its file.
    fn text(&self) -> String {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        let settings = settings.with_transform(RecursiveTransform(close)).with_transform(RecursiveTransform(reword));
        let mut schema = (self.schema)(settings.into_generator());
        schema.insert("title".to_owned(), self.title.into());
        // Types have it in their names to distinguish them from those of the core.
        let text = serde_json::to_string_pretty(&schema).unwrap().replace("Json", "");
        text + "\n"
    }
}

/// Takes no field that it does not know.
fn close(schema: &mut Schema) {
    if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
}

/// Says in terms of JSON what was said in those of Rust.
fn reword(schema: &mut Schema) {
    let Some(Value::String(text)) = schema.get_mut("description") else { return };
    *text = text.replace("`None`", "null").replace("[`", "`").replace("`]", "`");
}

/// A figure's text, with its unit.
fn describe(field: &Field, unit: &str) -> String {
    let stop = if field.doc.ends_with('.') { "" } else { "." };
    format!("{}{stop}{unit}", field.doc.trim())
}

/// An object that has all of these fields.
fn object(description: &str, fields: impl Iterator<Item = (String, Schema, String)>) -> Schema {
    let mut names = Vec::new();
    let fields = fields.map(|(name, mut schema, description)| {
        names.push(name.clone());
        schema.insert("description".to_owned(), description.into());
        (name, Value::from(schema))
    });
    let fields: Map<String, Value> = fields.collect();
    json_schema!({ "type": "object", "description": description, "properties": fields, "required": names })
}

impl JsonSchema for CountsJson<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Counts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let nothing = Counts::default();
        object(
            "What every row counts.",
            FIELDS.iter().map(|field| {
                let (schema, unit) = match (field.get)(&nothing) {
                    Figure::Count(_) | Figure::Live(_) => (generator.subschema_for::<u64>(), ""),
                    Figure::Rate(_) => (generator.subschema_for::<f64>(), ""),
                    Figure::Times(_) => (generator.subschema_for::<Quantiles>(), " Milliseconds."),
                    Figure::Errors(_) => (generator.subschema_for::<BTreeMap<String, u64>>(), " By name of the errno."),
                };
                (field.name.to_owned(), schema, describe(field, unit))
            }),
        )
    }
}

impl JsonSchema for RatesJson<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Rates".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let totals = FIELDS.iter().filter(|field| field.is_total);
        object(
            "Totals per second.",
            totals.map(|field| (per_s(field), generator.subschema_for::<f64>(), describe(field, " Per second."))),
        )
    }
}

impl JsonSchema for DifferenceJson<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Difference".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let nothing = Counts::default();
        object(
            "What was counted after less what was counted before.",
            FIELDS.iter().map(|field| {
                let unit = " After less before.";
                match (field.get)(&nothing) {
                    Figure::Times(_) => {
                        let (schema, unit) =
                            (generator.subschema_for::<Quantiles>(), " After less before, milliseconds.");
                        (field.name.to_owned(), schema, describe(field, unit))
                    }
                    _ if field.is_total => {
                        let unit = " Per second, after less before.";
                        (per_s(field), generator.subschema_for::<f64>(), describe(field, unit))
                    }
                    _ => (field.name.to_owned(), generator.subschema_for::<f64>(), describe(field, unit)),
                }
            }),
        )
    }
}

impl JsonSchema for EvidenceJson<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Evidence".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kinds = EVIDENCE.iter().map(|kind| {
            let mut schema = match kind.value {
                Type::Count => generator.subschema_for::<u64>(),
                Type::Number => generator.subschema_for::<f64>(),
                Type::Text => generator.subschema_for::<String>(),
            };
            schema.insert("description".to_owned(), kind.doc.trim().into());
            (kind.name.to_owned(), Value::from(schema))
        });
        let kinds: Map<String, Value> = kinds.collect();
        // Each rule has its own.
        json_schema!({ "type": "object", "description": "Named values that a finding rests on.", "properties": kinds })
    }
}

#[test]
fn schemas_are_what_the_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json");
    let write = std::env::var_os("UPDATE_DOCS").is_some();
    if write {
        fs::create_dir_all(&folder).unwrap();
    }
    for form in &FORMS {
        let (text, path) = (form.text(), folder.join(format!("{}.schema.json", form.name)));
        if write {
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{} does not match the types: UPDATE_DOCS=1 regenerates it", path.display());
    }
    let files: BTreeSet<String> =
        fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, FORMS.iter().map(|form| format!("{}.schema.json", form.name)).collect());
}

#[test]
fn each_field_says_what_it_is() {
    fn look(form: &str, place: &str, schema: &Value) {
        let Some(schema) = schema.as_object() else { return };
        if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
            assert_eq!(schema["additionalProperties"], false, "{form}: {place}");
            for (name, field) in fields {
                // Those of a table say it by their type.
                let is_described = ["description", "$ref"].iter().any(|word| field.get(word).is_some());
                assert!(is_described, "{form}: {place} does not describe {name}");
            }
        }
        for (name, part) in schema {
            look(form, &format!("{place}/{name}"), part);
        }
    }
    for form in &FORMS {
        let schema: Value = serde_json::from_str(&form.text()).unwrap();
        jsonschema::meta::validate(&schema).unwrap();
        look(form.name, "", &schema);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            assert!(definition.get("description").is_some(), "{}: {name} has no description", form.name);
        }
    }
}
