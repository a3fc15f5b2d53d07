//! Opens and closes TCP connections in known ways, and reports what it did.

use std::process::ExitCode;

fn main() -> ExitCode {
    twtrace_tests::workload::main()
}
