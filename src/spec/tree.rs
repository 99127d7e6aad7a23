//! `dmoci.toml` held against the table of its keys: right types, no unknown and no missing keys.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{Problem, one_of};
use super::keys::{self, Key, Kind, Table};
use super::suggest::nearest;
use super::target::Span;
use super::template::{Text, cut};

/// A value, and where it is written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

/// What a value is, by the [`Kind`] of its key.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Text),
    /// A string that is not expanded.
    Literal(String),
    Integer(i64),
    Flag(bool),
    List(Vec<Node>),
    Fields(Fields),
}

/// A table: key, where the key is written, value.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) span: Span,
    /// Something in it is wrong and left out.
    pub(super) broken: bool,
    pub(super) entries: Vec<(String, Span, Node)>,
}

impl Fields {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(name, ..)| name == key).map(|(_, _, node)| node)
    }

    pub(super) fn integer(&self, key: &str) -> Option<i64> {
        match self.get(key)?.value {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }

    /// Whether a flag is set; not when the key is missing.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.switch(key).unwrap_or(false)
    }

    /// What a flag says; nothing when the key is missing.
    pub(super) fn switch(&self, key: &str) -> Option<bool> {
        match self.get(key)?.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    pub(super) fn table(&self, key: &str) -> Option<&Fields> {
        self.get(key).and_then(Node::table)
    }

    /// The elements of an array; none when the key is missing.
    pub(super) fn list(&self, key: &str) -> &[Node] {
        self.get(key).map(Node::list).unwrap_or_default()
    }

    /// The elements of an array of tables; none when the key is missing.
    pub(super) fn tables(&self, key: &str) -> impl Iterator<Item = &Fields> {
        self.list(key).iter().filter_map(Node::table)
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|(name, ..)| name == key).map(|(_, _, node)| node)
    }

    /// Puts a value in the place of the one of this key, or beside the others.
    pub(super) fn put(&mut self, key: &str, span: &Span, node: Node) {
        match self.entries.iter_mut().find(|(name, ..)| name == key) {
            Some(entry) => *entry = (key.to_owned(), span.clone(), node),
            None => self.entries.push((key.to_owned(), span.clone(), node)),
        }
    }

    /// Adds the elements of an array, or the keys of a table, to the one of this key; else the same as [`Fields::put`].
    pub(super) fn add(&mut self, key: &str, span: &Span, node: Node) {
        match (self.get_mut(key).map(|old| &mut old.value), node) {
            (Some(Value::List(old)), Node { value: Value::List(more), .. }) => old.extend(more),
            (Some(Value::Fields(old)), Node { value: Value::Fields(more), .. }) => {
                for (name, span, node) in more.entries {
                    old.put(&name, &span, node);
                }
            }
            (_, node) => self.put(key, span, node),
        }
    }
}

impl Node {
    pub(super) fn text(&self) -> Option<&Text> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn table(&self) -> Option<&Fields> {
        match &self.value {
            Value::Fields(fields) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> &[Node] {
        match &self.value {
            Value::List(list) => list,
            _ => &[],
        }
    }
}

/// Reads the text; all problems that are found, and what is right. Without TOML's own grammar there is
/// nothing: `Err`.
pub(super) fn read(source: &str) -> Result<(Fields, Vec<Problem>), Problem> {
    let parsed = DeTable::parse(source).map_err(|error| syntax(&error, source))?;
    let mut walk = Walk { source, vars: BTreeSet::new(), problems: Vec::new() };
    let schema =
        parsed.get_ref().get("schema").and_then(|value| integer(value.get_ref()).map(|n| (n, value.span())));
    if let Some((number, span)) = schema
        && number != 1
    {
        return Err(Problem::new(
            "E-SPEC-VALUE",
            &span,
            format!("schema {number} is not known to this version of dmoci"),
        )
        .expected("expected 1"));
    }
    if let Some(vars) = parsed.get_ref().get("vars").and_then(|vars| vars.get_ref().as_table()) {
        walk.vars = vars.keys().map(|name| name.get_ref().to_string()).collect();
    }
    let mut fields = walk.table(parsed.get_ref(), &(0..0), &keys::ROOT, "");
    fields.span = 0..0;
    Ok((fields, walk.problems))
}

fn syntax(error: &toml::de::Error, source: &str) -> Problem {
    let span = error.span().unwrap_or(source.len()..source.len());
    let mut message = error.message().lines();
    let first = message.next().unwrap_or("not TOML").to_owned();
    let rest = message.collect::<Vec<_>>().join(", ");
    Problem::new("E-SPEC-SYNTAX", &span, format!("not TOML: {first}")).expected(rest)
}

struct Walk<'a> {
    source: &'a str,
    vars: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    /// `path` is how messages call the table, such as `image.healthcheck`.
    fn table(&mut self, table: &DeTable<'_>, span: &Span, known: &Table, path: &str) -> Fields {
        let before = self.problems.len();
        let mut fields = Fields { span: span.clone(), ..Fields::default() };
        for (name, value) in table {
            let key_span = name.span();
            let path = if path.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{path}.{}", name.get_ref())
            };
            match known.key(name.get_ref()) {
                None => self.problems.push(unknown(name.get_ref(), &key_span, known)),
                Some(Key { kind: Kind::Later, .. }) => self.problems.push(Problem::new(
                    "E-SPEC-UNSUPPORTED",
                    &key_span,
                    format!("`{path}` is not supported by this version of dmoci"),
                )),
                Some(key) => {
                    if let Some(node) = self.value(value, &key.kind, &path) {
                        fields.entries.push((key.name.to_owned(), key_span, node));
                    }
                }
            }
        }
        for key in known.keys.iter().filter(|key| key.required && !table.contains_key(key.name)) {
            let mut problem =
                Problem::new("E-SPEC-MISSING", span, format!("`{}` is missing in {}", key.name, known.name));
            problem.help = Some(match (key.name, table.contains_key("wheel")) {
                ("image", true) => {
                    "`dmoci wheel` builds the wheel and source distribution alone, without dmoci.toml"
                        .to_owned()
                }
                _ => format!("{}: {}", key.name, key.doc),
            });
            self.problems.push(problem);
        }
        fields.broken = self.problems.len() > before;
        fields
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, kind: &Kind, path: &str) -> Option<Node> {
        let span = value.span();
        let value = match (kind, value.get_ref()) {
            (Kind::Text, DeValue::String(text)) => Value::Text(self.text(text, &span)?),
            (Kind::Choice(_), DeValue::String(text)) => Value::Text(self.text(text, &span)?),
            (Kind::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
            (Kind::Integer(least, most), value @ DeValue::Integer(_)) => {
                match integer(value).filter(|number| (least..=most).contains(&number)) {
                    Some(number) => Value::Integer(number),
                    None => {
                        self.problems.push(
                            Problem::new("E-SPEC-VALUE", &span, format!("`{path}` is out of range"))
                                .expected(format!("expected a number from {least} to {most}")),
                        );
                        return None;
                    }
                }
            }
            (Kind::OneOrMoreTexts, DeValue::String(text)) => {
                let text = Value::Text(self.text(text, &span)?);
                Value::List(vec![Node { span: span.clone(), value: text }])
            }
            (Kind::Texts | Kind::OneOrMoreTexts, DeValue::Array(array)) => {
                self.list(array, &Kind::Text, path)?
            }
            (Kind::Platforms, DeValue::Array(array)) => self.list(array, kind, path)?,
            (Kind::TextMap, DeValue::Table(table)) => {
                let mut fields = Fields { span: span.clone(), ..Fields::default() };
                for (name, value) in table {
                    let path = format!("{path}.{}", written_key(name.get_ref()));
                    if let Some(node) = self.value(value, &Kind::Text, &path) {
                        fields.entries.push((name.get_ref().to_string(), name.span(), node));
                    }
                }
                Value::Fields(fields)
            }
            (Kind::Table(known), DeValue::Table(table)) => {
                Value::Fields(self.table(table, &span, known, path))
            }
            (Kind::Named(known), DeValue::Table(table)) => {
                let mut fields = Fields { span: span.clone(), ..Fields::default() };
                for (name, value) in table {
                    let path = format!("{path}.{}", name.get_ref());
                    if known.key(name.get_ref()).is_some() && value.get_ref().as_table().is_none() {
                        self.problems.push(nameless(&path, &value.span(), known, value.get_ref()));
                        continue;
                    }
                    if let Some(node) = self.value(value, &Kind::Table(known), &path) {
                        fields.entries.push((name.get_ref().to_string(), name.span(), node));
                    }
                }
                Value::Fields(fields)
            }
            (Kind::OneOrMoreTables(known), DeValue::Table(table)) => {
                let value = Value::Fields(self.table(table, &span, known, path));
                Value::List(vec![Node { span: span.clone(), value }])
            }
            (Kind::Tables(_) | Kind::OneOrMoreTables(_), DeValue::Array(array)) => {
                self.list(array, kind, path)?
            }
            (kind, other) => {
                self.wrong(&span, path, kind, other, false);
                return None;
            }
        };
        Some(Node { span, value })
    }

    /// The elements; nothing when one of them is wrong, but tables, which are kept without what is wrong in them.
    fn list(&mut self, array: &DeArray<'_>, kind: &Kind, path: &str) -> Option<Value> {
        let mut list = Vec::new();
        let mut complete = true;
        for element in array {
            let span = element.span();
            let value = match (kind, element.get_ref()) {
                (Kind::Tables(known) | Kind::OneOrMoreTables(known), DeValue::Table(table)) => {
                    Some(Value::Fields(self.table(table, &span, known, path)))
                }
                (Kind::Text, DeValue::String(text)) => self.text(text, &span).map(Value::Text),
                (Kind::Platforms, DeValue::String(text)) => Some(Value::Literal(text.to_string())),
                (_, other) => {
                    self.wrong(&span, path, kind, other, true);
                    None
                }
            };
            match value {
                Some(value) => list.push(Node { span, value }),
                None => complete = false,
            }
        }
        complete.then_some(Value::List(list))
    }

    fn text(&mut self, text: &str, span: &Span) -> Option<Text> {
        Text::parse(text, span, self.source, &self.vars)
            .map_err(|problems| self.problems.extend(problems))
            .ok()
    }

    fn wrong(&mut self, span: &Span, path: &str, kind: &Kind, found: &DeValue<'_>, element: bool) {
        let expected = match (kind, element) {
            (Kind::Tables(_) | Kind::OneOrMoreTables(_), true) => "a table",
            (Kind::Text | Kind::Choice(_), _) | (Kind::Platforms, true) => "a string",
            (Kind::Integer(..), _) => "a whole number",
            (Kind::Flag, _) => "true or false",
            (Kind::Texts | Kind::Platforms, _) => "an array of strings",
            (Kind::OneOrMoreTexts, _) => "a string or an array of strings",
            (Kind::TextMap, _) => "a table of strings",
            (Kind::Table(_), _) => "a table",
            (Kind::Tables(_), false) => "an array of tables",
            (Kind::Named(_), _) => "a table of tables",
            (Kind::OneOrMoreTables(_), false) => "a table or an array of tables",
            (Kind::Later, _) => "nothing",
        };
        let subject = if element { format!("an element of `{path}`") } else { format!("`{path}`") };
        let mut problem =
            Problem::new("E-SPEC-TYPE", span, format!("{subject} cannot be {}", article(found.type_str())))
                .expected(format!("expected {expected}"));
        let written = self.source.get(span.clone()).unwrap_or_default();
        let key = last(path);
        problem.help = match (kind, found) {
            (Kind::Texts | Kind::Platforms, DeValue::String(text)) if !element => {
                Some(in_brackets(path, text, written))
            }
            (Kind::Flag, DeValue::String(text)) if matches!(&**text, "true" | "false") => {
                Some(format!("write {key} = {text}"))
            }
            (Kind::OneOrMoreTables(table), DeValue::String(_)) if table.key("path").is_some() => {
                Some(format!("write {key} = {{ path = {written}, … }}"))
            }
            (Kind::OneOrMoreTables(table), DeValue::String(_)) if table.key("lock").is_some() => {
                Some(format!("write {key} = {{ lock = {written}, … }}"))
            }
            (Kind::Tables(_), DeValue::Table(_)) if written.starts_with('{') => {
                Some(format!("put the table in brackets: {key} = [{{ … }}]"))
            }
            (Kind::Text | Kind::Choice(_), DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)) => {
                // Octal numbers are modes.
                let text = match written.strip_prefix("0o") {
                    Some(digits) => format!("\"0{digits}\""),
                    None => format!("\"{written}\""),
                };
                Some(match element {
                    true => format!("write {text} in {key}"),
                    false => format!("write {key} = {text}"),
                })
            }
            _ => None,
        };
        self.problems.push(problem);
    }
}

/// How a string is written where an array of strings belongs.
fn in_brackets(path: &str, text: &str, written: &str) -> String {
    let key = last(path);
    let no_shell = "each argument is a string of its own, and no shell reads them";
    match &*format!("{}.{key}", if path.contains(".healthcheck.") { "healthcheck" } else { "" }) {
        "healthcheck.test" => {
            format!("write {key} = [\"CMD-SHELL\", {written}] for a command of a shell")
        }
        ".entrypoint" | ".cmd" if text.contains(['"', '\'', '\\', '\n']) => {
            format!("write {key} = [\"PROGRAM\", \"ARGUMENT\", …]; {no_shell}")
        }
        ".entrypoint" | ".cmd" if text.trim().contains(char::is_whitespace) => {
            let words: Vec<String> = text.split_whitespace().map(|word| format!("\"{word}\"")).collect();
            format!("write {key} = [{}]; {no_shell}", cut(&words.join(", ")))
        }
        _ => format!("write {key} = [{}]", cut(written)),
    }
}

/// The key itself, without the tables above it.
fn last(path: &str) -> &str {
    match path.rfind(".\"").filter(|_| path.ends_with('"')) {
        Some(dot) => &path[dot + 1..],
        None => path.rsplit('.').next().unwrap_or(path),
    }
}

/// A key as TOML has it: in quotes unless it is a bare one.
fn written_key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    match !name.is_empty() && name.bytes().all(bare) {
        true => name.to_owned(),
        false => serde_json::Value::from(name).to_string(),
    }
}

/// A key of a named table stands where the name belongs.
fn nameless(path: &str, span: &Span, known: &Table, found: &DeValue<'_>) -> Problem {
    let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
    let tables = found.as_array().is_some_and(|all| all.iter().any(|one| one.get_ref().as_table().is_some()));
    let help = match tables {
        true => format!("write [[{above}.NAME.{key}]]"),
        false => format!("write it below [{above}.NAME]"),
    };
    let message = format!("`{path}` stands where the name of a {above} belongs");
    Problem::new("E-SPEC-TYPE", span, message)
        .expected(format!("`{key}` is a key of {}", known.name))
        .help(help)
}

fn unknown(name: &str, span: &Span, known: &Table) -> Problem {
    let problem = Problem::new("E-SPEC-KEY", span, format!("unknown key `{}` in {}", cut(name), known.name));
    if let Some(meant) = nearest(name, known.names()) {
        return problem.expected(format!("did you mean `{meant}`?"));
    }
    let homes: Vec<&str> = keys::tables()
        .into_iter()
        .filter(|table| table.names().any(|key| key == name))
        .map(|table| table.name)
        .collect();
    let problem = match homes[..] {
        [] => problem,
        _ => problem.expected(format!("this key belongs to {}", homes.join(" or "))),
    };
    problem.help(format!("{} has the keys {}", known.name, one_of(known.names())))
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}
