//! JSON schemas of all that is written as JSON, from the types that are written and the table of figures. They are in
//! `docs/json`, which `UPDATE_DOCS=1 cargo test -p twtrace-view schema` writes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use crate::json::rows::{CountsJson, Quantiles};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use twtrace_core::counts::{Counts, FIELDS, Figure};

/// Something that is written as JSON.
struct Form {
    /// Name of its file in `docs/json`.
    name: &'static str,
    /// What writes it.
    title: &'static str,
    schema: fn(SchemaGenerator) -> Schema,
}

const FORMS: [Form; 7] = [
    Form {
        name: "top",
        title: "twtrace top --json, twtrace replay --once --json",
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
        title: "twtrace sockets --json",
        schema: SchemaGenerator::into_root_schema_for::<crate::sockets::Report<'_>>,
    },
    Form {
        name: "budget",
        title: "twtrace budget --json",
        schema: SchemaGenerator::into_root_schema_for::<twtrace_core::plan::report::Report>,
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
        // Types have it in their names to be told from those of the core.
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

impl JsonSchema for CountsJson<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Counts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let nothing = Counts::default();
        let figures = FIELDS.iter().map(|field| {
            let (mut schema, unit) = match (field.get)(&nothing) {
                Figure::Count(_) | Figure::Live(_) => (generator.subschema_for::<u64>(), ""),
                Figure::Rate(_) => (generator.subschema_for::<f64>(), ""),
                Figure::Times(_) => (generator.subschema_for::<Quantiles>(), " Milliseconds."),
                Figure::Errors(_) => (generator.subschema_for::<BTreeMap<String, u64>>(), " By name of the errno."),
            };
            let stop = if field.doc.ends_with('.') { "" } else { "." };
            schema.insert("description".to_owned(), format!("{}{stop}{unit}", field.doc.trim()).into());
            (field.name.to_owned(), Value::from(schema))
        });
        let figures: Map<String, Value> = figures.collect();
        let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        json_schema!({ "type": "object", "properties": figures, "required": names })
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
        assert!(found == text, "{} is not what the types say: UPDATE_DOCS=1 writes it", path.display());
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
                let is_told = ["description", "$ref"].iter().any(|word| field.get(word).is_some());
                assert!(is_told, "{form}: {place} says nothing of {name}");
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
            assert!(definition.get("description").is_some(), "{}: {name} says nothing of itself", form.name);
        }
    }
}
