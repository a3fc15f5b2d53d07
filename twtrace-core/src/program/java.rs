//! What a Java machine runs.

use super::interpreters::script_name;
use super::options::{Arg, Options, Scan};
use super::{Call, file_name};

/// Longest class name that is shown with its package, in characters.
const MAX_CLASS: usize = 40;

static OPTIONS: Options = Options::new(
    "",
    &[
        "--add-exports",
        "--add-modules",
        "--add-opens",
        "--add-reads",
        "--class-path",
        "--enable-native-access",
        "--limit-modules",
        "--module",
        "--module-path",
        "--source",
        "--upgrade-module-path",
        "-classpath",
        "-cp",
        "-jar",
        "-m",
        "-p",
    ],
);

/// The jar, or the main class.
pub(super) fn java(call: &Call<'_>) -> Option<String> {
    let mut class_path = "";
    for arg in Scan::new(&OPTIONS, call.args) {
        match arg {
            Arg::Option(name, Some(value)) => {
                let is = |written: &[&str]| written.iter().any(|written| name.is(written));
                if is(&["-jar"]) {
                    return Some(script_name(value));
                } else if is(&["-m", "--module"]) {
                    return Some(class_name(file_name(value), class_path));
                } else if is(&["-cp", "-classpath", "--class-path"]) {
                    class_path = value;
                }
            }
            Arg::Option(_, None) => {}
            Arg::Operand(at) => {
                let word = *call.args.get(at)?;
                // More arguments are in that file.
                if word.starts_with('@') {
                    continue;
                }
                let source = word.ends_with(".java");
                return Some(if source { script_name(word) } else { class_name(word, class_path) });
            }
        }
    }
    None
}

fn class_name(class: &str, class_path: &str) -> String {
    let simple = class.rsplit('.').next().filter(|name| !name.is_empty()).unwrap_or(class);
    if class.starts_with("org.springframework.boot.loader.") && simple.ends_with("Launcher") {
        return jar(class_path).unwrap_or(simple).to_owned();
    }
    if class == "org.codehaus.plexus.classworlds.launcher.Launcher" {
        return "maven".to_owned();
    }
    if class.chars().nth(MAX_CLASS).is_none() { class.to_owned() } else { simple.to_owned() }
}

fn jar(class_path: &str) -> Option<&str> {
    class_path.split(':').map(file_name).find(|name| name.ends_with(".jar"))
}
