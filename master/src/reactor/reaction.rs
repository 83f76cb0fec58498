//! What a rule file asks for, read from its rendered YAML: Salt's `local.<fun>` and the runners that there are.
//! Whatever else it says is refused with its place, and never ignored.

use drover_proto::{
    event::Tag,
    job::{JobRequest, TargetType},
    nearest::nearest,
};
use drover_states::{
    diagnostic::Diagnostic,
    yaml::{Data, Node},
};
use serde::Serialize;
use serde_json::{Map, Value};

/// Who runs a rule's jobs, as `drover jobs` shows it.
pub const USER: &str = "Reactor";

/// The arguments that `local.<fun>` takes.
const LOCAL: [&str; 9] =
    ["tgt", "tgt_type", "expr_form", "arg", "args", "kwarg", "timeout", "pending", "ttl"];

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// `local.<fun>`: a job.
    Local(JobRequest),
    /// `runner.pending.deliver`: what waits for these minions is sent to those of them that are connected.
    DeliverPending {
        /// The target expression.
        tgt: String,
        /// How it is read.
        tgt_type: TargetType,
    },
    /// `runner.event.send`: an event.
    SendEvent {
        /// Its tag.
        tag: Tag,
        /// Its data.
        data: Value,
    },
}

impl Reaction {
    /// Its name in a rule file.
    #[must_use]
    pub fn function(&self) -> String {
        match self {
            Self::Local(request) => format!("local.{}", request.fun),
            Self::DeliverPending { .. } => "runner.pending.deliver".to_owned(),
            Self::SendEvent { .. } => "runner.event.send".to_owned(),
        }
    }
}

/// The reactions in a rendered rule file, in its order.
///
/// # Errors
/// What is wrong with the first that cannot be understood; nothing of the file is done then.
pub(super) fn parse(text: &str, root: Option<&Node>) -> Result<Vec<Reaction>, Diagnostic> {
    let Some(root) = root.filter(|root| !root.is_null()) else { return Ok(Vec::new()) };
    let reader = Reader { text };
    let mut reactions = Vec::new();
    for (_, body) in reader.map(root, "a rule file is a map of ids, each with a reaction")? {
        for (kind, arguments) in
            reader.map(body, "a reaction is a map, such as `local.state.apply: […]`")?
        {
            reactions.push(reader.reaction(kind, body, arguments)?);
        }
    }
    Ok(reactions)
}

/// Arguments by name, in the order written.
type Arguments<'a> = Vec<(&'a str, &'a Node)>;

struct Reader<'a> {
    text: &'a str,
}

impl<'a> Reader<'a> {
    fn wrong(&self, at: &Node, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(message).at(self.text, at.position.line, Some(at.position.column))
    }

    fn map(&self, node: &'a Node, wanted: &str) -> Result<Arguments<'a>, Diagnostic> {
        match &node.data {
            Data::Mapping(entries) => {
                Ok(entries.iter().map(|entry| (entry.key.as_str(), &entry.node)).collect())
            }
            Data::Scalar(_) | Data::Sequence(_) => Err(self.wrong(node, wanted)),
        }
    }

    fn reaction(
        &self,
        kind: &str,
        body: &'a Node,
        arguments: &'a Node,
    ) -> Result<Reaction, Diagnostic> {
        let (arguments, bare) = self.arguments(arguments)?;
        let (client, function) = match (kind.split_once('.'), bare) {
            (Some((client, function)), None) => (client, function),
            // The long form names the function in the list: `local: [state.apply, {tgt: '*'}]`.
            (None, Some(function)) => (kind, function),
            (Some(_), Some(extra)) => {
                let message = format!("`{kind}` does not take `{extra}`, which has no name");
                return Err(self
                    .wrong(body, message)
                    .hint("write positional arguments as `args: […]`"));
            }
            (None, None) => {
                return Err(self
                    .wrong(body, format!("`{kind}` names no function"))
                    .hint("write `local.<function>`, such as `local.state.apply`"));
            }
        };
        match (client, function) {
            // `cmd` is what Salt called it before `local`.
            ("local" | "cmd", fun) => self.local(fun, body, arguments),
            ("runner", "pending.deliver") => self.deliver(body, arguments),
            ("runner", "event.send") => self.send(body, arguments),
            ("runner", other) => Err(self
                .wrong(body, format!("the runner `{other}` is not supported"))
                .hint("there are `runner.pending.deliver` and `runner.event.send`")),
            ("wheel" | "caller", _) => Err(self
                .wrong(body, format!("`{client}` reactions are not supported"))
                .hint("there are `local.<function>`, `runner.pending.deliver` and `runner.event.send`")),
            (other, _) => Err(self
                .wrong(body, format!("unknown kind of reaction `{other}`"))
                .hint("a reaction begins with `local.` or `runner.`")),
        }
    }

    /// A map, or Salt's list of one-key maps; and the one bare text in the list, if there is one.
    fn arguments(&self, node: &'a Node) -> Result<(Arguments<'a>, Option<&'a str>), Diagnostic> {
        let Data::Sequence(items) = &node.data else {
            if node.is_null() {
                return Ok((Vec::new(), None));
            }
            return Ok((self.map(node, "arguments are a list of one-key maps")?, None));
        };
        let (mut named, mut bare) = (Vec::new(), None);
        for item in items {
            match item.as_str() {
                Some(text) if bare.is_none() => bare = Some(text),
                Some(_) => return Err(self.wrong(item, "a second text without a name")),
                None => {
                    named.extend(self.map(item, "an argument is a one-key map, `name: value`")?)
                }
            }
        }
        Ok((named, bare))
    }

    fn local(
        &self,
        fun: &str,
        body: &Node,
        arguments: Arguments<'a>,
    ) -> Result<Reaction, Diagnostic> {
        if !fun.contains('.') {
            return Err(self
                .wrong(body, format!("`{fun}` is no function"))
                .hint("a function is `module.function`, such as `state.apply`"));
        }
        let mut request = JobRequest {
            tgt: String::new(),
            tgt_type: TargetType::Glob,
            fun: fun.to_owned(),
            arg: Vec::new(),
            kwarg: Map::new(),
            job_timeout: None,
            pending: false,
            ttl: None,
            user: USER.to_owned(),
        };
        for (name, node) in arguments {
            match name {
                "tgt" => request.tgt = self.target(node)?,
                "tgt_type" | "expr_form" => request.tgt_type = self.target_type(node)?,
                "arg" => request.arg.extend(one_or_more(node)),
                "args" => self.mixed(node, &mut request)?,
                "kwarg" => request.kwarg.extend(self.keywords(node)?),
                "timeout" => request.job_timeout = Some(self.seconds(name, node)?),
                "pending" => request.pending = self.boolean(name, node)?,
                "ttl" => request.ttl = Some(self.seconds(name, node)?),
                other => return Err(self.unknown(other, node, &LOCAL)),
            }
        }
        if request.tgt.is_empty() {
            return Err(self
                .wrong(body, format!("`local.{fun}` has no `tgt`"))
                .hint("write `- tgt: {{ data['id'] }}` for the minion that the event is about"));
        }
        Ok(Reaction::Local(request))
    }

    fn deliver(&self, body: &Node, arguments: Arguments<'a>) -> Result<Reaction, Diagnostic> {
        let (mut tgt, mut tgt_type) = (String::new(), TargetType::Glob);
        for (name, node) in self.flat(arguments)? {
            match name {
                "tgt" => tgt = self.target(node)?,
                "tgt_type" | "expr_form" => tgt_type = self.target_type(node)?,
                other => return Err(self.unknown(other, node, &["tgt", "tgt_type"])),
            }
        }
        if tgt.is_empty() {
            return Err(self
                .wrong(body, "`runner.pending.deliver` has no `tgt`")
                .hint("write `- tgt: {{ data['id'] }}`"));
        }
        Ok(Reaction::DeliverPending { tgt, tgt_type })
    }

    fn send(&self, body: &Node, arguments: Arguments<'a>) -> Result<Reaction, Diagnostic> {
        let (mut tag, mut data) = (None, Value::Object(Map::new()));
        for (name, node) in self.flat(arguments)? {
            match name {
                "tag" => {
                    let parsed = node.as_str().unwrap_or_default().parse::<Tag>();
                    tag = Some(parsed.map_err(|error| self.wrong(node, error.to_string()))?);
                }
                "data" => data = node.to_value(),
                other => return Err(self.unknown(other, node, &["tag", "data"])),
            }
        }
        let tag = tag.ok_or_else(|| self.wrong(body, "`runner.event.send` has no `tag`"))?;
        crate::bus::check_own_tag(&tag).map_err(|error| {
            self.wrong(body, error.to_string()).hint("send it under a name of your own")
        })?;
        Ok(Reaction::SendEvent { tag, data })
    }

    /// A runner's arguments stand directly, or in `args` or `kwarg`.
    fn flat(&self, arguments: Arguments<'a>) -> Result<Arguments<'a>, Diagnostic> {
        let mut flat = Vec::new();
        for (name, node) in arguments {
            if matches!(name, "args" | "kwarg") {
                flat.extend(self.arguments(node)?.0);
            } else {
                flat.push((name, node));
            }
        }
        Ok(flat)
    }

    /// `args`: each item positional, or a one-key map that is a keyword.
    fn mixed(&self, node: &'a Node, request: &mut JobRequest) -> Result<(), Diagnostic> {
        let items = match &node.data {
            Data::Sequence(items) => items,
            Data::Mapping(_) => {
                request.kwarg.extend(self.keywords(node)?);
                return Ok(());
            }
            Data::Scalar(_) => {
                request.arg.extend(one_or_more(node));
                return Ok(());
            }
        };
        for item in items {
            match &item.data {
                Data::Mapping(entries) if entries.len() == 1 => {
                    request.kwarg.extend(self.keywords(item)?);
                }
                Data::Mapping(_) | Data::Scalar(_) | Data::Sequence(_) => {
                    request.arg.push(item.to_value());
                }
            }
        }
        Ok(())
    }

    fn keywords(&self, node: &'a Node) -> Result<Map<String, Value>, Diagnostic> {
        let entries = self.map(node, "keyword arguments are a map")?;
        Ok(entries.into_iter().map(|(name, node)| (name.to_owned(), node.to_value())).collect())
    }

    fn target(&self, node: &Node) -> Result<String, Diagnostic> {
        let text = match node.to_value() {
            Value::String(text) => Some(text),
            // An id of digits alone.
            Value::Number(number) => Some(number.to_string()),
            Value::Array(ids) => {
                let ids: Option<Vec<_>> = ids.iter().map(Value::as_str).collect();
                ids.map(|ids| ids.join(","))
            }
            Value::Null | Value::Bool(_) | Value::Object(_) => None,
        };
        text.filter(|text| !text.is_empty())
            .ok_or_else(|| self.wrong(node, "`tgt` must be a target expression"))
    }

    fn target_type(&self, node: &Node) -> Result<TargetType, Diagnostic> {
        serde_json::from_value(node.to_value()).map_err(|_| {
            self.wrong(node, "unknown `tgt_type`").hint(
                "one of glob, pcre, list, grain, grain_pcre, pillar, pillar_pcre, ipcidr, nodegroup, compound",
            )
        })
    }

    fn seconds(&self, name: &str, node: &Node) -> Result<u64, Diagnostic> {
        let seconds = node.to_value().as_u64();
        seconds.ok_or_else(|| self.wrong(node, format!("`{name}` must be a number of seconds")))
    }

    fn boolean(&self, name: &str, node: &Node) -> Result<bool, Diagnostic> {
        let value = node.to_value().as_bool();
        value.ok_or_else(|| self.wrong(node, format!("`{name}` must be true or false")))
    }

    fn unknown(&self, name: &str, at: &Node, known: &[&str]) -> Diagnostic {
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it takes {}", known.join(", ")),
        };
        self.wrong(at, format!("unknown argument `{name}`")).hint(hint)
    }
}

fn one_or_more(node: &Node) -> Vec<Value> {
    match &node.data {
        Data::Sequence(items) => items.iter().map(Node::to_value).collect(),
        Data::Scalar(_) | Data::Mapping(_) => vec![node.to_value()],
    }
}

#[cfg(test)]
mod tests {
    use drover_states::yaml;
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Vec<Reaction>, Diagnostic> {
        parse(text, yaml::load_nodes(text)?.as_ref())
    }

    fn one(text: &str) -> Reaction {
        let mut reactions = read(text).unwrap();
        assert_eq!(reactions.len(), 1, "{text}");
        reactions.remove(0)
    }

    fn wrong(text: &str) -> String {
        read(text).unwrap_err().in_file("rule.sls").to_string()
    }

    #[test]
    fn the_shipped_rule_delivers_what_is_pending() {
        assert_eq!(
            one("push:\n  runner.pending.deliver:\n    - tgt: rfid-1\n"),
            Reaction::DeliverPending { tgt: "rfid-1".into(), tgt_type: TargetType::Glob }
        );
    }

    #[test]
    fn every_form_of_salts_arguments_is_read() {
        let forms = [
            "a:\n  local.state.apply:\n    - tgt: a,b\n    - tgt_type: list\n    - arg: [app]\n    - kwarg: {test: true}\n",
            "a:\n  local.state.apply:\n    - tgt: [a, b]\n    - expr_form: list\n    - args: [app, {test: true}]\n",
            "a:\n  cmd.state.apply:\n    tgt: a,b\n    tgt_type: list\n    args: [app, test: true]\n",
            "a:\n  local:\n    - state.apply\n    - tgt: a,b\n    - tgt_type: list\n    - arg: app\n    - kwarg: {test: true}\n",
        ];
        for text in forms {
            let Reaction::Local(request) = one(text) else { panic!("{text}") };
            assert_eq!(
                json!([
                    request.tgt,
                    request.tgt_type,
                    request.fun,
                    request.arg,
                    request.kwarg,
                    request.user
                ]),
                json!(["a,b", "list", "state.apply", ["app"], {"test": true}, "Reactor"]),
                "{text}"
            );
        }
    }

    #[test]
    fn an_event_is_sent_with_direct_and_with_nested_arguments() {
        let wanted =
            Reaction::SendEvent { tag: "shop/open".parse().unwrap(), data: json!({"n": 1}) };
        assert_eq!(
            one("a:\n  runner.event.send:\n    - tag: shop/open\n    - data: {n: 1}\n"),
            wanted
        );
        assert_eq!(
            one(
                "a:\n  runner.event.send:\n    - args:\n      - tag: shop/open\n      - data: {n: 1}\n"
            ),
            wanted
        );
    }

    #[test]
    fn an_empty_file_asks_for_nothing() {
        assert!(read("").unwrap().is_empty());
        assert!(read("# nothing today\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        assert_snapshot!(wrong("a:\n  runner.state.orch:\n    - mods: x\n"), @r"
    rule.sls:2:3: the runner `state.orch` is not supported
        2 |   runner.state.orch:
    hint: there are `runner.pending.deliver` and `runner.event.send`
    ");
        assert_snapshot!(wrong("a:\n  local.test.ping:\n    - tgr: x\n"), @r"
    rule.sls:3:12: unknown argument `tgr`
        3 |     - tgr: x
    hint: did you mean `tgt`?
    ");
        assert_snapshot!(wrong("a:\n  local.test.ping: []\n"), @r"
    rule.sls:2:3: `local.test.ping` has no `tgt`
        2 |   local.test.ping: []
    hint: write `- tgt: {{ data['id'] }}` for the minion that the event is about
    ");
        assert_snapshot!(wrong("a:\n  wheel.key.accept:\n    - match: x\n"), @r"
    rule.sls:2:3: `wheel` reactions are not supported
        2 |   wheel.key.accept:
    hint: there are `local.<function>`, `runner.pending.deliver` and `runner.event.send`
    ");
        assert_snapshot!(wrong("a:\n  runner.event.send:\n    - tag: drover/key/x/accepted\n"), @r"
    rule.sls:2:3: the tag `drover/key/x/accepted` is the master's own: tags under `drover/` and `salt/` are not for programs
        2 |   runner.event.send:
    hint: send it under a name of your own
    ");
        assert_snapshot!(wrong("- local.test.ping\n"), @r"
    rule.sls:1:1: a rule file is a map of ids, each with a reaction
        1 | - local.test.ping
    ");
    }
}
