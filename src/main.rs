//! The program: parses its command line and hands over.

use std::process::ExitCode;

fn main() -> ExitCode {
    porthole::cli::main()
}
