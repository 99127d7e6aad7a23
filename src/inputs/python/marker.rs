//! Environment markers: when a dependency applies (dependency specifiers, "Environment Markers"; PEP 508,
//! PEP 751).
//!
//! Evaluated as the `packaging` library does. What an image does not know, the kernel that will run it, makes an
//! expression undecided, unless the rest of it decides.

use std::collections::BTreeSet;
use std::fmt;

use super::name::Name;
use super::target::PythonTarget;
use super::version;

/// How deep parentheses may be nested.
const DEPTH: usize = 64;

/// A marker as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    text: Box<str>,
    root: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// Both of each, at least one.
    And(Vec<Node>),
    /// One of them, at least one.
    Or(Vec<Node>),
    /// A comparison. `reversed` when the literal stands first.
    Compare { key: Key, op: Op, value: Box<str>, reversed: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    PythonVersion,
    PythonFullVersion,
    OsName,
    SysPlatform,
    PlatformRelease,
    PlatformSystem,
    PlatformVersion,
    PlatformMachine,
    PlatformPythonImplementation,
    ImplementationName,
    ImplementationVersion,
    Extra,
    Extras,
    DependencyGroups,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Compatible,
    Arbitrary,
    In,
    NotIn,
}

/// Why a text is no marker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct MarkerError {
    /// Byte of the text where it stops being one.
    pub at: usize,
    /// What belongs there.
    pub message: String,
}

/// Why a marker cannot be decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// It asks about the kernel, which belongs to the machine that runs the image.
    #[error("`{0}` is of the kernel that will run the image, which nobody knows when it is built")]
    Kernel(&'static str),
    /// It compares in a way that means nothing.
    #[error("`{0}` means nothing")]
    Meaningless(String),
}

/// What markers are evaluated for.
#[derive(Clone, Debug)]
pub struct Environment {
    python_version: String,
    python_full_version: String,
    platform_machine: String,
    /// What `extra` is one of.
    pub extra: BTreeSet<Name>,
    /// The set `extras` of PEP 751.
    pub extras: BTreeSet<Name>,
    /// The set `dependency_groups` of PEP 751.
    pub groups: BTreeSet<Name>,
}

impl Environment {
    /// The environment of a target, without extras and groups.
    pub fn of(target: &PythonTarget) -> Environment {
        let (major, minor) = target.python();
        Environment {
            python_version: format!("{major}.{minor}"),
            python_full_version: target.version().to_string(),
            platform_machine: target.machine().to_owned(),
            extra: BTreeSet::new(),
            extras: BTreeSet::new(),
            groups: BTreeSet::new(),
        }
    }

    /// The value of a variable that has one; nothing for those of the kernel, and for sets.
    fn value(&self, key: Key) -> Option<&str> {
        Some(match key {
            Key::PythonVersion => &self.python_version,
            Key::PythonFullVersion | Key::ImplementationVersion => &self.python_full_version,
            Key::PlatformMachine => &self.platform_machine,
            Key::OsName => "posix",
            Key::SysPlatform => "linux",
            Key::PlatformSystem => "Linux",
            Key::PlatformPythonImplementation => "CPython",
            Key::ImplementationName => "cpython",
            Key::PlatformRelease | Key::PlatformVersion => return None,
            Key::Extra | Key::Extras | Key::DependencyGroups => return None,
        })
    }
}

impl Marker {
    /// Reads a marker.
    pub fn parse(text: &str) -> Result<Marker, MarkerError> {
        let mut parser = Parser { text, at: 0 };
        let root = parser.expression(0)?;
        parser.space();
        match parser.at == text.len() {
            true => Ok(Marker { text: text.into(), root }),
            false => Err(parser.wrong("expected `and`, `or` or the end")),
        }
    }

    /// The text that was read.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds.
    pub fn holds(&self, environment: &Environment) -> Result<bool, Undecided> {
        self.root.holds(environment)
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Node {
    fn holds(&self, environment: &Environment) -> Result<bool, Undecided> {
        let (all, decides) = match self {
            Node::And(all) => (all, false),
            Node::Or(all) => (all, true),
            Node::Compare { key, op, value, reversed } => {
                return compare(environment, *key, *op, value, *reversed);
            }
        };
        // What is undecided does not matter when another part decides, on whichever side it stands.
        let mut undecided = None;
        for node in all {
            match node.holds(environment) {
                Ok(value) if value == decides => return Ok(decides),
                Ok(_) => {}
                Err(Undecided::Kernel(key)) => undecided = Some(Undecided::Kernel(key)),
                Err(meaningless) => return Err(meaningless),
            }
        }
        undecided.map_or(Ok(!decides), Err)
    }
}

fn compare(
    environment: &Environment,
    key: Key,
    op: Op,
    literal: &str,
    reversed: bool,
) -> Result<bool, Undecided> {
    let meaningless = || {
        let (key, op) = (key.name(), op.text());
        Undecided::Meaningless(match reversed {
            true => format!("{literal:?} {op} {key}"),
            false => format!("{key} {op} {literal:?}"),
        })
    };
    let set = match key {
        Key::Extra => &environment.extra,
        Key::Extras => &environment.extras,
        Key::DependencyGroups => &environment.groups,
        _ => {
            let value = environment.value(key).ok_or(Undecided::Kernel(key.name()))?;
            let (left, right) = if reversed { (literal, value) } else { (value, literal) };
            return plain(key, op, left, right).ok_or_else(meaningless);
        }
    };
    let has = Name::parse(literal).is_some_and(|name| set.contains(&name));
    match (key, op, reversed) {
        (Key::Extra, Op::Equal, _) | (Key::Extras | Key::DependencyGroups, Op::In, true) => Ok(has),
        (Key::Extra, Op::NotEqual, _) | (Key::Extras | Key::DependencyGroups, Op::NotIn, true) => Ok(!has),
        _ => Err(meaningless()),
    }
}

/// Compares as versions where the variable is one and the right side can be compared so, else as texts;
/// nothing when that means nothing.
fn plain(key: Key, op: Op, left: &str, right: &str) -> Option<bool> {
    if matches!(key, Key::PythonVersion | Key::PythonFullVersion | Key::ImplementationVersion) {
        match op {
            Op::In | Op::NotIn => {}
            // What is compared as texts is one word.
            Op::Arbitrary if right.trim().contains(char::is_whitespace) => {}
            Op::Arbitrary => return Some(left.eq_ignore_ascii_case(right.trim())),
            _ => {
                if let Ok(set) = version::specifiers(&format!("{}{right}", op.text())) {
                    return Some(version::version(left).is_some_and(|v| version::contains(&set, &v)));
                }
            }
        }
    }
    Some(match op {
        Op::Equal | Op::LessEqual | Op::GreaterEqual => left == right,
        Op::NotEqual => left != right,
        Op::Less | Op::Greater => false,
        Op::In => right.contains(left),
        Op::NotIn => !right.contains(left),
        Op::Compatible | Op::Arbitrary => return None,
    })
}

/// The names that markers know; the last ones are those of PEP 345, which still occur.
const KEYS: [(&str, Key); 19] = [
    ("python_version", Key::PythonVersion),
    ("python_full_version", Key::PythonFullVersion),
    ("os_name", Key::OsName),
    ("sys_platform", Key::SysPlatform),
    ("platform_release", Key::PlatformRelease),
    ("platform_system", Key::PlatformSystem),
    ("platform_version", Key::PlatformVersion),
    ("platform_machine", Key::PlatformMachine),
    ("platform_python_implementation", Key::PlatformPythonImplementation),
    ("implementation_name", Key::ImplementationName),
    ("implementation_version", Key::ImplementationVersion),
    ("extra", Key::Extra),
    ("extras", Key::Extras),
    ("dependency_groups", Key::DependencyGroups),
    ("os.name", Key::OsName),
    ("sys.platform", Key::SysPlatform),
    ("platform.version", Key::PlatformVersion),
    ("platform.machine", Key::PlatformMachine),
    ("python_implementation", Key::PlatformPythonImplementation),
];

impl Key {
    fn parse(word: &str) -> Option<Key> {
        let word = if word == "platform.python_implementation" { "python_implementation" } else { word };
        KEYS.iter().find(|(name, _)| *name == word).map(|(_, key)| *key)
    }

    fn name(self) -> &'static str {
        KEYS.iter().find(|(_, key)| *key == self).map_or("", |(name, _)| name)
    }
}

const OPS: [(&str, Op); 8] = [
    ("===", Op::Arbitrary),
    ("==", Op::Equal),
    ("~=", Op::Compatible),
    ("!=", Op::NotEqual),
    ("<=", Op::LessEqual),
    (">=", Op::GreaterEqual),
    ("<", Op::Less),
    (">", Op::Greater),
];

impl Op {
    fn text(self) -> &'static str {
        match self {
            Op::In => "in",
            Op::NotIn => "not in",
            op => OPS.iter().find(|(_, other)| *other == op).map_or("", |(text, _)| text),
        }
    }
}

enum Operand<'a> {
    Key(Key),
    Literal(&'a str),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn wrong(&self, message: impl Into<String>) -> MarkerError {
        MarkerError { at: self.at, message: message.into() }
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    /// Takes this word when it comes next, whole.
    fn word(&mut self, word: &str) -> bool {
        let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        match self.rest().strip_prefix(word) {
            Some(rest) if is_end(rest) => {
                self.at += word.len();
                true
            }
            _ => false,
        }
    }

    fn expression(&mut self, depth: usize) -> Result<Node, MarkerError> {
        let mut any = Vec::new();
        loop {
            let mut all = vec![self.atom(depth)?];
            self.space();
            while self.word("and") {
                all.push(self.atom(depth)?);
                self.space();
            }
            any.push(if all.len() == 1 { all.remove(0) } else { Node::And(all) });
            if !self.word("or") {
                return Ok(if any.len() == 1 { any.remove(0) } else { Node::Or(any) });
            }
        }
    }

    fn atom(&mut self, depth: usize) -> Result<Node, MarkerError> {
        self.space();
        if !self.rest().starts_with('(') {
            return self.comparison();
        }
        if depth == DEPTH {
            return Err(self.wrong(format!("parentheses are nested more than {DEPTH} deep")));
        }
        self.at += 1;
        let node = self.expression(depth + 1)?;
        self.space();
        if !self.rest().starts_with(')') {
            return Err(self.wrong("expected `and`, `or` or `)`"));
        }
        self.at += 1;
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, MarkerError> {
        let start = self.at;
        let left = self.operand()?;
        self.space();
        let op = self.op()?;
        self.space();
        let right = self.operand()?;
        match (left, right) {
            (Operand::Key(key), Operand::Literal(value)) => {
                Ok(Node::Compare { key, op, value: value.into(), reversed: false })
            }
            (Operand::Literal(value), Operand::Key(key)) => {
                Ok(Node::Compare { key, op, value: value.into(), reversed: true })
            }
            _ => {
                let message = "expected a variable on one side and a quoted text on the other".to_owned();
                Err(MarkerError { at: start, message })
            }
        }
    }

    fn operand(&mut self) -> Result<Operand<'a>, MarkerError> {
        let rest = self.rest();
        for quote in ['"', '\''] {
            if let Some(inner) = rest.strip_prefix(quote) {
                let end = inner.find(quote).ok_or_else(|| self.wrong("this quote has no end"))?;
                self.at += end + 2;
                return Ok(Operand::Literal(&inner[..end]));
            }
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let word = &rest[..length];
        let Some(key) = Key::parse(word) else {
            return Err(self.wrong(match word {
                "" => "expected a variable or a quoted text".to_owned(),
                word => format!("`{}` is no variable of markers", word.chars().take(64).collect::<String>()),
            }));
        };
        self.at += length;
        Ok(Operand::Key(key))
    }

    fn op(&mut self) -> Result<Op, MarkerError> {
        if self.word("in") {
            return Ok(Op::In);
        }
        if self.word("not") {
            self.space();
            return match self.word("in") {
                true => Ok(Op::NotIn),
                false => Err(self.wrong("expected `in` behind `not`")),
            };
        }
        match OPS.iter().find(|(text, _)| self.rest().starts_with(text)) {
            Some((text, op)) => {
                self.at += text.len();
                Ok(*op)
            }
            None => Err(self.wrong("expected one of ==, !=, <, <=, >, >=, ~=, ===, in, not in")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::sample;
    use super::*;

    fn environment() -> Environment {
        let mut environment = Environment::of(&sample("3.11.9", "glibc-2.36", "linux/amd64"));
        let name = |text: &str| Name::parse(text).unwrap();
        environment.extra.insert(name("use_chardet"));
        environment.extras.extend([name("cli"), name("Big.Set")]);
        environment.groups.insert(name("dev"));
        environment
    }

    fn holds(text: &str) -> Result<bool, Undecided> {
        Marker::parse(text).unwrap_or_else(|e| panic!("{text}: {e} at {}", e.at)).holds(&environment())
    }

    #[test]
    fn comparisons() {
        for (text, expected) in [
            ("python_version >= '3.9'", true),
            ("python_version >= '3.9' and python_version < '3.11'", false),
            ("python_version < '3.10' or sys_platform == 'linux'", true),
            ("'3.9' <= python_version", true),
            ("python_full_version == '3.11.*'", true),
            ("python_full_version > '3.11.8'", true),
            ("python_version == '3.11.2.*'", false),
            ("python_version ~= '3.8'", true),
            ("python_version === '3.11'", true),
            ("python_version in '3.10, 3.11'", true),
            ("python_version not in '3.10, 3.12'", true),
            ("python_version >= '3.8.*'", false),
            ("os_name == \"posix\"", true),
            ("os.name == 'nt' or platform.python_implementation == 'CPython'", true),
            ("python_implementation != 'PyPy'", true),
            ("platform_machine == 'x86_64' and platform_system == 'Linux'", true),
            ("'linux' in sys_platform", true),
            ("sys_platform in 'linux linux2'", true),
            ("platform_machine > 'x'", false),
            ("implementation_version >= '3.11' and implementation_name == 'cpython'", true),
            ("extra == 'Use-Chardet'", true),
            ("extra != 'use.chardet'", false),
            ("extra == ''", false),
            ("'big-set' in extras and 'x' not in extras", true),
            ("'dev' in dependency_groups", true),
            ("'docs' in dependency_groups", false),
            ("(python_version<'3'or python_version>='3.8')and(os_name=='posix')", true),
            ("python_version < '3' or python_version >= '3.8' and os_name == 'nt'", false),
        ] {
            assert_eq!(holds(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_kernel_is_not_known() {
        assert_eq!(holds("platform_release >= '5'"), Err(Undecided::Kernel("platform_release")));
        assert_eq!(holds("platform_version == 'x' and os_name == 'nt'"), Ok(false));
        assert_eq!(holds("os_name == 'posix' or platform_release >= '5'"), Ok(true));
        assert!(holds("platform_release >= '5' or os_name == 'nt'").is_err());
        for text in ["os_name ~= 'posix'", "extras == 'cli'", "extra in 'cli'", "'cli' == extras"] {
            assert!(matches!(holds(text), Err(Undecided::Meaningless(_))), "{text}");
        }
    }

    #[test]
    fn refused() {
        for (text, at, why) in [
            ("", 0, "a variable or a quoted"),
            ("python_version", 14, "one of =="),
            ("python_version == ", 18, "a variable or a quoted"),
            ("python_version == 3.9", 18, "`3.9` is no variable"),
            ("python_version == '3.9", 18, "no end"),
            ("python_versions == '3.9'", 0, "no variable"),
            ("python_version not '3'", 19, "`in` behind `not`"),
            ("'a' == 'b'", 0, "on one side"),
            ("os_name == sys_platform", 0, "on one side"),
            ("(os_name == 'a'", 15, "`)`"),
            ("os_name == 'a')", 14, "the end"),
            ("os_name == 'a' nand os_name == 'b'", 15, "the end"),
            ("os_name == 'a' and", 18, "a variable"),
            ("os_name = 'a'", 8, "one of =="),
        ] {
            let error = Marker::parse(text).unwrap_err();
            assert!(error.at == at && error.message.contains(why), "{text}: {error} at {}", error.at);
        }
        let deep = format!("{}os_name == 'a'{}", "(".repeat(100), ")".repeat(100));
        assert!(Marker::parse(&deep).unwrap_err().message.contains("nested"));
    }

    /// Every comparison is that of the `packaging` library; `fixtures/python/reference.py` wrote the table.
    #[test]
    fn comparisons_are_those_of_packaging() {
        let table = include_str!("../../../fixtures/python/markers.txt");
        let mut rows = table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t'));
        let values: Vec<&str> = rows.next().unwrap().skip(1).collect();
        let mut wrong = Vec::new();
        let mut compared = 0;
        for mut row in rows {
            let [key, op, side, answers] = std::array::from_fn(|_| row.next().unwrap());
            for (value, expected) in values.iter().zip(answers.chars()) {
                let text = match side {
                    "left" => format!("{key} {op} \"{value}\""),
                    _ => format!("\"{value}\" {op} {key}"),
                };
                let found = match holds(&text) {
                    Ok(true) => 'T',
                    Ok(false) => 'F',
                    Err(_) => 'E',
                };
                if found != expected {
                    wrong.push(format!("{text}: {found}, expected {expected}"));
                }
                compared += 1;
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(compared > 5000, "{compared}");
    }
}
