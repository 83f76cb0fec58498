//! Which of the two forms a command line has. The first word that is no option decides: it is a verb, unless an option
//! has said that a target follows.

use std::ffi::OsString;

use clap::{Command, CommandFactory as _, Parser as _, error::ErrorKind};
use drover_proto::nearest::nearest;

use super::{Call, Everything, Global, OnlyCall, Verb};
use crate::cli::failure::Failure;

/// A command line that was understood.
#[derive(Debug)]
pub(in crate::cli) enum Invocation {
    /// `drover TARGET FUNCTION …`
    Call(Global, Box<Call>),
    /// `drover VERB …`
    Verb(Global, Verb),
}

impl Invocation {
    pub(in crate::cli) const fn global(&self) -> &Global {
        match self {
            Self::Call(global, _) | Self::Verb(global, _) => global,
        }
    }
}

/// Reads the command line; the first argument is the program's name.
pub(in crate::cli) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Invocation, Failure> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = Everything::command();
    let usage = |error: clap::Error| Failure::Usage(Box::new(error));
    match first_word(&command, &arguments) {
        Word::Target => {
            let OnlyCall { global, call } = OnlyCall::try_parse_from(arguments).map_err(usage)?;
            check(&command, &call)?;
            Ok(Invocation::Call(global, Box::new(call)))
        }
        Word::Verb => {
            let Everything { global, call: _, verb } = Everything::try_parse_from(&arguments)
                .map_err(|error| salt_key(&error, &arguments).unwrap_or_else(|| usage(error)))?;
            verb.map(|verb| Invocation::Verb(global, verb)).ok_or_else(no_target)
        }
        Word::None => {
            Everything::try_parse_from(arguments).map_err(usage)?;
            Err(no_target())
        }
    }
}

enum Word {
    Verb,
    Target,
    None,
}

fn first_word(command: &Command, arguments: &[OsString]) -> Word {
    let mut has_matcher = false;
    let mut rest = arguments.iter().skip(1).map(|argument| argument.to_string_lossy());
    while let Some(argument) = rest.next() {
        if argument == "--" {
            return Word::Target;
        }
        if let Some(long) = argument.strip_prefix("--") {
            let (name, has_value) =
                long.split_once('=').map_or((long, false), |(name, _)| (name, true));
            let option = command.get_arguments().find(|option| {
                option.get_long_and_visible_aliases().is_some_and(|names| names.contains(&name))
            });
            has_matcher |= option.is_some_and(is_matcher);
            if !has_value && option.is_some_and(takes_value) {
                rest.next();
            }
        } else if argument.len() > 1 && argument.starts_with('-') {
            for (at, letter) in argument.char_indices().skip(1) {
                let option =
                    command.get_arguments().find(|option| option.get_short() == Some(letter));
                has_matcher |= option.is_some_and(is_matcher);
                if option.is_some_and(takes_value) {
                    if at + letter.len_utf8() == argument.len() {
                        rest.next();
                    }
                    break;
                }
            }
        } else {
            let is_verb = verbs(command).any(|verb| verb == argument);
            return if is_verb && !has_matcher { Word::Verb } else { Word::Target };
        }
    }
    Word::None
}

fn takes_value(option: &clap::Arg) -> bool {
    option.get_action().takes_values()
}

fn is_matcher(option: &clap::Arg) -> bool {
    option.get_help_heading() == Some("Target")
}

fn verbs(command: &Command) -> impl Iterator<Item = &str> {
    command.get_subcommands().flat_map(Command::get_name_and_visible_aliases)
}

/// `drover key -L`: by which verb is done what `salt-key` does by an option.
fn salt_key(error: &clap::Error, arguments: &[OsString]) -> Option<Failure> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let mut words = arguments.iter().skip(1).map(|argument| argument.to_string_lossy());
    words.find(|word| word == "key" || word == "keys")?;
    // Behind a verb an option is that verb's own.
    let mut options = words.take_while(|word| word.starts_with('-'));
    let (option, verb) = options.find_map(|word| {
        let verb = match word.strip_prefix("--") {
            Some(long) => verb_of(long.split('=').next().unwrap_or(long)),
            None => {
                word.chars().skip(1).find_map(|letter| verb_of(letter.encode_utf8(&mut [0; 4])))
            }
        };
        verb.map(|verb| (word.into_owned(), verb))
    })?;
    let failure =
        Failure::wrong(format!("`{option}` is salt-key's: here it is `drover key {verb}`"));
    Some(failure.hint("`drover key --help` lists the verbs; each has its own help"))
}

/// For an option of `salt-key`, without its dashes.
fn verb_of(option: &str) -> Option<&'static str> {
    Some(match option {
        "L" | "list-all" => "list",
        "l" | "list" => "list --status STATUS",
        "a" | "accept" => "accept ID",
        "A" | "accept-all" => "accept --all",
        "r" | "reject" => "reject ID",
        "R" | "reject-all" => "reject --all",
        "d" | "delete" => "delete ID",
        "D" | "delete-all" => "delete --all",
        "p" | "print" | "P" | "print-all" | "f" | "finger" | "F" | "finger-all" => "show ID",
        _ => return None,
    })
}

/// What clap cannot say as helpfully.
fn check(command: &Command, call: &Call) -> Result<(), Failure> {
    if call.matcher.range {
        return Err(Failure::wrong("range expressions (-R) are not supported")
            .hint("there is no range server; use a list (-L) or a nodegroup (-N)"));
    }
    let Some(target) = &call.target else { return Err(no_target()) };
    let Some(function) = &call.function else {
        let failure = Failure::wrong(format!(
            "`{target}` is no command, and as a target it lacks a function"
        ));
        return Err(failure.hint(match nearest(target, verbs(command)) {
            Some(verb) => {
                format!(
                    "did you mean `drover {verb}`? to ask the minion: `drover {target} test.ping`"
                )
            }
            None => format!(
                "to ask the minion: `drover {target} test.ping`; `drover --help` lists the commands"
            ),
        }));
    };
    if !function.contains('.') {
        let hint = format!(
            "functions have a module and a name, as test.ping; `drover '{target}' sys.list_functions` lists them"
        );
        return Err(Failure::wrong(format!("`{function}` is no function")).hint(hint));
    }
    Ok(())
}

fn no_target() -> Failure {
    Failure::wrong("no target and no command")
        .hint("`drover '*' test.ping` asks every minion; `drover --help` tells the rest")
}
