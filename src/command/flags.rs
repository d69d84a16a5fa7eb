//! All flags of the subcommand that was given, with their values, for `/flagz`.

use apiserver::zpages::Flags;
use clap::ArgMatches;

/// The flags of a command, or of its subcommand. The command must have been built.
pub fn of(command: &clap::Command, matches: &ArgMatches) -> Flags {
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = command.find_subcommand(name)
    {
        return of(command, matches);
    }
    let flags = command.get_arguments().filter_map(|argument| {
        let id = argument.get_id().as_str();
        let given = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
        let values: Vec<_> = given.map(|value| value.to_string_lossy()).collect();
        Some((argument.get_long()?.to_owned(), values.join(",")))
    });
    flags.filter(|(name, _)| !matches!(name.as_str(), "help" | "version")).collect()
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command};

    use super::*;

    #[test]
    fn given_and_not() {
        let mut command = Command::new("all").subcommand(
            Command::new("one")
                .arg(Arg::new("port").long("secure-port").default_value("6443"))
                .arg(Arg::new("on").long("on").action(ArgAction::SetTrue))
                .arg(Arg::new("file").long("file"))
                .arg(Arg::new("many").long("many").action(ArgAction::Append)),
        );
        command.build();
        let matches = command.clone().get_matches_from(["all", "one", "--many", "a", "--many=b"]);
        let told: Vec<_> = of(&command, &matches).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(told, ["file=", "many=a,b", "on=false", "secure-port=6443"]);
    }
}
