//! The pages are true where a program can tell: what they link to is there, and our programs take the command lines
//! that they show.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use drover_tests::process::program;

const PROGRAMS: [&str; 4] = ["drover", "drover-enrol", "drover-master", "drover-minion"];

/// A page of the documentation.
struct Page {
    path: PathBuf,
    text: String,
}

fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the checkout");
    let mut pages = Vec::new();
    for directory in ["", "docs", "docs/bridges", "docs/decisions", "packaging"] {
        let entries = fs::read_dir(root.join(directory)).expect("the checkout has it");
        for entry in entries {
            let path = entry.expect("the checkout can be listed").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).expect("pages are UTF-8");
                pages.push(Page { path, text });
            }
        }
    }
    assert!(pages.len() > 20, "the pages are not where they were");
    pages
}

impl Page {
    /// The lines outside and inside of fences, each with its number.
    fn lines(&self, fenced: bool) -> impl Iterator<Item = (usize, &str)> {
        let mut inside = false;
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            if line.trim_start().starts_with("```") {
                inside = !inside;
                return None;
            }
            (inside == fenced).then_some((index + 1, line))
        })
    }

    /// What its headings are linked by.
    fn anchors(&self) -> HashSet<String> {
        let headings = self.lines(false).filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// The addresses of its links.
    fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.lines(false) {
            // What is in code is no link.
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            for rest in prose.split("](").skip(1) {
                let address = rest.split(')').next().unwrap_or_default();
                links.push((number, address.to_owned()));
            }
        }
        links
    }

    /// The commands in its fences, with lines that go on joined, and those in its prose.
    fn commands(&self) -> Vec<(usize, String)> {
        let mut commands = Vec::new();
        let mut open: Option<(usize, String)> = None;
        for (number, line) in self.lines(true) {
            let (at, mut text) = open.take().unwrap_or((number, String::new()));
            text += line.trim();
            match text.strip_suffix('\\') {
                Some(before) => open = Some((at, before.to_owned())),
                None => commands.push((at, text.trim_start_matches("$ ").to_owned())),
            }
        }
        for (number, line) in self.lines(false) {
            if let Some(code) = line.strip_prefix("    ") {
                commands.push((number, code.to_owned()));
            }
            let spans = line.split('`').skip(1).step_by(2);
            commands.extend(spans.map(|span| (number, span.to_owned())));
        }
        commands.retain(|(_, text)| {
            let (name, arguments) = text.split_once(' ').unwrap_or((text, ""));
            let is_glob = text.contains('*') && !text.contains('\'');
            // `…`, `VERB` and `drover/key/*` stand for something else, and so does a drawing.
            PROGRAMS.contains(&name)
                && !arguments.trim().is_empty()
                && text.is_ascii()
                && !text.contains("VERB")
                && !is_glob
        });
        commands
    }
}

/// As GitHub makes them.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

/// A shell's words, up to a comment, a pipe or a redirection. Brackets say that something may be left out.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut is_word) = (String::new(), None, false);
    for character in command.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => (quote, is_word) = (Some(character), true),
            (None, ' ') if is_word => {
                words.push(std::mem::take(&mut word));
                is_word = false;
            }
            (None, ' ' | '[' | ']') => {}
            (None, '#' | '(' | '|' | '>' | ';' | '&') if !is_word => return words,
            (_, _) => {
                word.push(character);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut wrong = Vec::new();
    for page in &pages {
        for (line, address) in page.links() {
            if address.contains("://") || address.starts_with("mailto:") {
                continue;
            }
            let (file, wanted) = address.split_once('#').unwrap_or((&address, ""));
            let directory = page.path.parent().expect("a file has a directory");
            let target = if file.is_empty() { page.path.clone() } else { directory.join(file) };
            let found = target.canonicalize().ok();
            let linked = pages.iter().find(|other| other.path.canonicalize().ok() == found);
            let has_anchor =
                wanted.is_empty() || linked.is_some_and(|page| page.anchors().contains(wanted));
            if found.is_none() || !has_anchor {
                wrong.push(format!("{}:{line}: {address}", page.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_command_line_is_one_that_our_programs_take() {
    let mut wrong = Vec::new();
    let mut tried = 0;
    for page in pages() {
        for (line, command) in page.commands() {
            let words = words(&command);
            let (name, arguments) = words.split_first().expect("a command has a name");
            // With --help they read what stands before it, and do nothing.
            let output = Command::new(program(name))
                .args(arguments)
                .arg("--help")
                .output()
                .expect("our programs start");
            tried += 1;
            if !output.status.success() {
                let told = String::from_utf8_lossy(&output.stderr);
                let told = told.lines().next().unwrap_or_default();
                wrong.push(format!("{}:{line}: {command}\n    {told}", page.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "commands that are not taken:\n{}", wrong.join("\n"));
    assert!(tried > 100, "only {tried} commands were found");
}

#[test]
fn every_test_that_is_named_as_a_proof_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the checkout");
    let mut sources = String::new();
    for part in ["pki", "proto", "states", "beacons", "minion", "master", "tests", "fuzz"] {
        read_sources(&root.join(part), &mut sources);
    }
    let page = pages().into_iter().find(|page| page.path.ends_with("docs/security.md"));
    let page = page.expect("the page is there");
    let spans = page.lines(false).flat_map(|(_, line)| line.split('`').skip(1).step_by(2));
    let is_sentence = |name: &&str| {
        let mut words = name.split('_');
        words.clone().count() > 2 && words.all(|w| w.chars().all(|c| c.is_ascii_alphanumeric()))
    };
    let missing: Vec<_> = spans
        .filter(is_sentence)
        .filter(|name| {
            !sources.contains(&format!("fn {name}(")) && !sources.contains(&format!("mod {name};"))
        })
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

fn read_sources(directory: &Path, sources: &mut String) {
    for entry in fs::read_dir(directory).expect("the checkout can be listed") {
        let path = entry.expect("the checkout can be listed").path();
        if path.is_dir() && !path.ends_with("target") {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *sources += &fs::read_to_string(&path).expect("sources are UTF-8");
        }
    }
}

#[test]
fn words_are_read_as_a_shell_does() {
    let command =
        r#"drover key retire 'rfid-*' --last-act "cmd.run 'rm x'" [--force]   # for good"#;
    let expected = ["drover", "key", "retire", "rfid-*", "--last-act", "cmd.run 'rm x'", "--force"];
    assert_eq!(words(command), expected);
    assert_eq!(words("drover key crl > list.pem"), ["drover", "key", "crl"]);
    assert_eq!(anchor("When a station's laptop dies"), "when-a-stations-laptop-dies");
}
