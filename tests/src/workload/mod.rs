//! The workload generator: processes that open and close connections in known ways, and report which process did what.

pub mod actor;
pub mod bindings;
pub mod cases;
pub mod churn;
pub mod command;
pub mod compat;
pub mod crowd;
pub mod diag;
pub mod keep_open;
pub mod net;
pub mod process;
pub mod ring;
pub mod sys;
pub mod truth;
pub mod wire;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use churn::{Churned, Worker};
pub use command::Who;
pub use keep_open::OpenSockets;
pub use truth::{Side, Truth};

/// Opens and closes TCP connections in known ways, and reports what it did
#[derive(Parser)]
#[command(name = "twtrace-workload")]
struct Cli {
    #[command(subcommand)]
    command: Do,
}

#[derive(Subcommand)]
enum Do {
    /// One connection for each way to open and close: a line of JSON for each connection
    Cases {
        /// Only these
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Print their names
        #[arg(long)]
        list: bool,
    },
    /// Many connections, closed first by the client: how many each process opened, as JSON
    Churn(churn::Args),
    /// Sockets that stay open until standard input ends: which processes have them, as a line of JSON
    KeepOpen(keep_open::Args),
    /// Connections whose local side is chosen in different ways, and binds that fail: a line of JSON for each
    Bindings,
    /// A great many network namespaces of one user, until standard input ends; a line when all are there
    Crowd(crowd::Args),
    /// Nothing, until standard input ends
    Idle,
    /// One connection to a port of this host, closed at once
    Hit {
        /// The port
        port: u16,
        /// Distinguishes it from others
        tag: String,
    },
    /// A process of the generator's own
    #[command(name = process::SUBCOMMAND, hide = true)]
    Process {
        /// Its end of control
        control: i32,
        /// Its name
        comm: String,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "twtrace-workload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Do) -> anyhow::Result<()> {
    let mut out = io::stdout();
    match command {
        Do::Cases { list: true, .. } => {
            for case in cases::all() {
                writeln!(out, "{}", case.name)?;
            }
            Ok(())
        }
        Do::Cases { only, list: false } => cases::run(&only, &mut out),
        Do::Bindings => bindings::run(&mut out),
        Do::Churn(args) => churn::run(&args, &mut out),
        Do::KeepOpen(args) => keep_open::run(&args, &mut out),
        Do::Crowd(args) => crowd::run(&args, &mut out),
        Do::Idle => Ok(io::copy(&mut io::stdin(), &mut io::sink()).map(|_| ())?),
        Do::Hit { port, .. } => Ok(std::net::TcpStream::connect(("127.0.0.1", port)).map(drop)?),
        Do::Process { control, comm } => Ok(process::run_executed(control, &comm)?),
    }
}
