//! Values of options that come from a table of the core.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use strum::VariantArray as _;
use twtrace_core::counts::FIELDS;
use twtrace_core::snapshot::{GROUPINGS, GroupBy};
use twtrace_view::order::{Key, Sort};

/// The groupings by name.
pub(super) fn grouping() -> impl TypedValueParser<Value = GroupBy> {
    let values = GROUPINGS.iter().map(|grouping| PossibleValue::new(grouping.name).help(grouping.doc.trim()));
    PossibleValuesParser::new(values).map(|name| GroupBy::of(&name).unwrap_or_default())
}

/// The figures by their short or full names, the other columns, and `name`.
pub(super) fn order() -> impl TypedValueParser<Value = Sort> {
    let help = |doc: &'static str| doc.split_once(['.', ',']).map_or(doc, |(first, _)| first).trim();
    let values =
        FIELDS.iter().map(move |field| PossibleValue::new(field.short).alias(field.name).help(help(field.doc)));
    let name = PossibleValue::new("name").help("Program, group or address");
    let columns = Key::VARIANTS.iter().map(|key| PossibleValue::new(Sort::Column(*key).name()).help(key.doc()));
    PossibleValuesParser::new(values.chain([name]).chain(columns)).map(|name| Sort::of(&name).unwrap_or_default())
}
