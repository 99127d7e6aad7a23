//! `WWW-Authenticate` (RFC 9110, section 11.6.1), as far as registries speak it: Bearer and Basic.

/// How a registry wants to be told who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// By user and password with each request.
    Basic,
    /// By a token, which is to be had elsewhere.
    Bearer {
        /// Where.
        realm: String,
        /// What the token is for.
        service: Option<String>,
    },
}

/// How long a header may be, and how many parameters one challenge may have.
const LONG: usize = 8 << 10;
const PARAMETERS: usize = 32;

impl Challenge {
    /// The challenge to answer: Bearer before Basic, the first of each.
    pub(crate) fn of<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut basic = None;
        for (scheme, parameters) in headers.flat_map(challenges) {
            let value = |name: &str| {
                let found = parameters.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = value("realm")
            {
                return Some(Challenge::Bearer { realm, service: value("service") });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
        basic
    }
}

type Parameters = Vec<(String, String)>;

/// All challenges of one header, as far as it can be read.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    if header.len() > LONG {
        return found;
    }
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            return found;
        }
        let (word, after) = rest.split_at(end);
        let behind = after.trim_start_matches([' ', '\t']);
        // `word = value` belongs to the challenge before it; any other word begins one.
        match (behind.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) if parameters.len() < PARAMETERS => {
                let Some((value, left)) = value_of(value.trim_start_matches([' ', '\t'])) else {
                    return found;
                };
                parameters.push((word.to_owned(), value));
                rest = left;
            }
            (Some(_), _) => return found,
            (None, _) => {
                found.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) })
    }

    #[test]
    fn what_registries_send() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull""#,
                bearer("https://auth.example/token", Some("registry.example")),
            ),
            (r#"bearer  Realm = "https://a/t" , SERVICE=r"#, bearer("https://a/t", Some("r"))),
            (r#"Basic realm="a, Bearer realm=\"b\"""#, Some(Challenge::Basic)),
            (r#"Basic realm="r", Bearer realm="https://a/t""#, bearer("https://a/t", None)),
            (r#"Negotiate, Basic realm="r""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            (r#"Bearer service="s""#, None),
            (r#"Bearer realm="https://a/t"#, None),
            ("Digest realm=\"r\"", None),
            ("", None),
            ("=x", None),
            ("Bearer realm=\"\u{e9}\"", bearer("\u{e9}", None)),
        ] {
            assert_eq!(Challenge::of([header].into_iter()), expected, "{header}");
        }
        let two = ["Basic realm=\"r\"", "Bearer realm=\"https://a/t\""];
        assert_eq!(Challenge::of(two.into_iter()), bearer("https://a/t", None));
        let long = format!("Bearer realm=\"{}\"", "x".repeat(LONG));
        assert_eq!(Challenge::of([long.as_str()].into_iter()), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_fail(header in "[ -~]{0,80}") {
            Challenge::of([header.as_str()].into_iter());
        }
    }
}
