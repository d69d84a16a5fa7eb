//! The `keelson` command.

use std::{io::IsTerminal, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, error::ErrorKind};
use keelson::command::{Command, flags};
use tikv_jemallocator::Jemalloc;
use tracing_subscriber::EnvFilter;

/// A write makes and drops hundreds of small values: with the system's allocator it costs a quarter more.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Kubernetes v1.36 in one binary.
#[derive(Parser)]
#[command(name = "keelson", version, arg_required_else_help = true)]
struct Arguments {
    /// What is logged: a level, or levels by module (`info,apiserver=debug`).
    #[arg(long, global = true, default_value = "info,kube_client=off", env = "KEELSON_LOG")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let mut command = Arguments::command();
    command.build();
    let parsed = command.clone().try_get_matches().and_then(|matches| {
        let flags = flags::of(&command, &matches);
        Ok((Arguments::from_arg_matches(&matches)?, flags))
    });
    let (arguments, flags) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => return wrong_words(&error),
        },
    };
    let filter = EnvFilter::try_new(&arguments.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(arguments.command.run(flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

/// What is wrong with the words of a command, in one line: without the usage, which `--help` tells.
fn wrong_words(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let told =
        text.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"));
    let told: Vec<String> = told.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let told = told.join("; ");
    eprintln!("keelson: {} (--help tells more)", told.strip_prefix("error: ").unwrap_or(&told));
    ExitCode::from(2)
}

/// The error with its causes, in one line.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // A cause that its error has told already is not told again.
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    // What was read from a damaged file may stand in it.
    eprintln!("keelson: {}", message.replace(char::is_control, " "));
    ExitCode::FAILURE
}
