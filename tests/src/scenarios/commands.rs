//! The commands of servers and loads.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::read;
use crate::software::installed;

/// What placeholders in a scenario's texts stand for.
pub(super) struct Texts<'a> {
    /// `{folder}`: a folder for what is written.
    pub(super) folder: &'a Path,
    /// `{port}`: of the server whose text it is.
    pub(super) port: Option<u16>,
}

impl Texts<'_> {
    /// A text with its placeholders filled in. `{here}` is the folder of the scenarios.
    pub(super) fn fill(&self, text: &str) -> String {
        let text = text.replace("{folder}", &self.folder.display().to_string());
        let text = text.replace("{here}", &read::folder().display().to_string());
        match self.port {
            Some(port) => text.replace("{port}", &port.to_string()),
            None => text,
        }
    }

    /// A program with its arguments.
    pub(super) fn argv(&self, argv: &[String]) -> Command {
        let (name, arguments) = argv.split_first().expect("a command has a name");
        let mut command = program(name);
        command.args(arguments.iter().map(|argument| self.fill(argument)));
        command
    }

    /// nginx with one worker, its own folder, and `http` inside `http { }`. It serves `page` of the folder.
    pub(super) fn nginx(&self, name: &str, http: &str) -> Command {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).expect("each server has another name");
        let (path, root, http) = (folder.display(), self.folder.display(), self.fill(http));
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {path}/{what}; "))
            .concat();
        let text = format!(
            "daemon off; pid {path}/pid; error_log {path}/error; user root; worker_processes 1;\n\
             events {{}}\nhttp {{ access_log off; root {root}; {temporary}\n{http}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, text).expect("root may write everywhere");
        let mut command = program("nginx");
        command.arg("-c").arg(file);
        command
    }

    /// A script for bash.
    pub(super) fn bash(&self, text: &str) -> Command {
        let file = self.folder.join("load.sh");
        fs::write(&file, self.fill(text)).expect("root may write everywhere");
        let mut command = program("bash");
        command.arg(file);
        command
    }

    /// wrk with eight connections for five seconds to a port's `page`. Each connection waits `delay_ms` before each
    /// request: this is a load, not a benchmark.
    pub(super) fn wrk(&self, port: u16, delay_ms: u32) -> Command {
        let script = self.folder.join("delay.lua");
        fs::write(&script, format!("function delay() return {delay_ms} end\n")).expect("root may write everywhere");
        let mut command = program("wrk");
        command.args(["-t", "1", "-c", "8", "-d", "5s", "-H", "Accept: text/html,application/xhtml+xml;q=0.9,*/*"]);
        command.args(["-H", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"]);
        command.arg("-s").arg(script).arg(format!("http://127.0.0.1:{port}/page"));
        command
    }
}

/// A program of the system, no matter what comes first in `PATH`.
///
/// # Panics
/// If it is not installed, which is checked before the scenario starts.
pub(super) fn program(name: &str) -> Command {
    Command::new(installed(name).unwrap_or_else(|| panic!("{name} is not installed")))
}
