//! The header that tells a registry who asks, and the tokens for it (docs of distribution: "Token Authentication
//! Specification", "OAuth2 Token Authentication").

use serde_json::Value;
use ureq::http::{Method, header};

use super::super::exchange::{Message, Payload, Trouble, Web};
use super::super::private::leads_inside;
use super::super::{FetchError, Surroundings};
use super::{AuthError, Challenge, Found, Keys, Login, Scope, Secret, State, origin};
use crate::base64;
use crate::limits;
use crate::url::{Scheme, Url};

impl Keys {
    /// The header for a request to this registry; nothing when it asked for nothing, or nothing is known to tell. One that was
    /// refused is `stale`: another is made. Threads that need the same wait for one another.
    pub(in super::super) fn header(
        &self,
        url: &Url,
        scope: &Scope,
        stale: Option<&Secret>,
        web: &Web,
        surroundings: &dyn Surroundings,
    ) -> Result<Result<Option<Secret>, Trouble>, FetchError> {
        let mut state = self.state();
        let key = (origin(url), scope.clone());
        if let Some(known) = state.headers.get(&key).filter(|known| Some(*known) != stale) {
            return Ok(Ok(Some(known.clone())));
        }
        let Some(challenge) = state.challenges.get(&key.0).cloned() else { return Ok(Ok(None)) };
        let made = self.make(&mut state, &challenge, url, scope, web, surroundings)?;
        let Ok(made) = made else { return Ok(made) };
        let made = made.filter(|made| Some(made) != stale);
        match &made {
            Some(made) => state.headers.insert(key, made.clone()),
            None => state.headers.remove(&key),
        };
        Ok(Ok(made))
    }

    fn make(
        &self,
        state: &mut State,
        challenge: &Challenge,
        url: &Url,
        scope: &Scope,
        web: &Web,
        surroundings: &dyn Surroundings,
    ) -> Result<Result<Option<Secret>, Trouble>, FetchError> {
        let found = state.find(&self.logins, scope)?;
        let (realm, service) = match (challenge, found.as_ref().map(|found| &found.login)) {
            (Challenge::Basic, Some(Login::Password { user, password })) => {
                return Ok(Ok(Some(basic(user, password))));
            }
            (Challenge::Basic, _) => return Ok(Ok(None)),
            (_, Some(Login::Token(token))) => return Ok(Ok(Some(bearer(token.open())))),
            (Challenge::Bearer { realm, service }, _) => (realm, service.as_deref()),
        };
        let realm = checked(realm, url, scope, web)?;
        ask(&Errand { realm, service, scope, found: found.as_ref() }, web, surroundings)
    }
}

/// The token service, when it may be asked.
fn checked(realm: &str, registry: &Url, scope: &Scope, web: &Web) -> Result<Url, AuthError> {
    let refused = |why| AuthError::Realm {
        registry: scope.host.clone(),
        realm: realm.chars().take(300).collect(),
        why,
    };
    let url: Url = realm.parse().map_err(|_| refused("which is no address"))?;
    if url.credentials().is_some() {
        return Err(refused("which has a user and a password in it"));
    }
    // Where the user allowed plain HTTP, the registry itself may be the token service.
    let plain = url.is_loopback() || (registry.scheme() == Scheme::Http && url.host() == registry.host());
    if url.scheme() == Scheme::Http && !plain {
        return Err(refused("which is not encrypted"));
    }
    match leads_inside(registry, &url, web.is_proxied(&url)) {
        true => Err(refused("which is in a private network, and the registry is not")),
        false => Ok(url),
    }
}

/// A token that is to be had.
struct Errand<'a> {
    realm: Url,
    service: Option<&'a str>,
    scope: &'a Scope,
    found: Option<&'a Found>,
}

fn ask(
    errand: &Errand<'_>,
    web: &Web,
    surroundings: &dyn Surroundings,
) -> Result<Result<Option<Secret>, Trouble>, FetchError> {
    let mut fields: Vec<(&str, String)> =
        errand.service.iter().map(|service| ("service", service.to_string())).collect();
    let login = errand.found.map(|found| &found.login);
    let scopes = errand.scope.texts();
    let mut headers = vec![(header::ACCEPT, "application/json".to_owned())];
    let (method, url, form) = match login {
        Some(Login::Identity(token)) => {
            fields.push(("scope", scopes.join(" ")));
            fields.push(("client_id", "dmoci".into()));
            fields.push(("grant_type", "refresh_token".into()));
            fields.push(("refresh_token", token.open().to_owned()));
            headers.push((header::CONTENT_TYPE, "application/x-www-form-urlencoded".into()));
            (Method::POST, errand.realm.clone(), form(&fields).into_bytes())
        }
        login => {
            fields.extend(scopes.into_iter().map(|scope| ("scope", scope)));
            if let Some(Login::Password { user, password }) = login {
                headers.push((header::AUTHORIZATION, basic(user, password).open().to_owned()));
            }
            (Method::GET, with_query(&errand.realm, &fields)?, Vec::new())
        }
    };
    let payload = if method == Method::POST { Payload::Bytes(&form) } else { Payload::None };
    let message =
        Message { method, url: &url, headers, payload: &payload, plain: true, scope: None, follow: false };
    let answer = match web.send(&message, surroundings)? {
        Ok(answer) => answer,
        Err(trouble) => return Ok(Err(trouble)),
    };
    let (registry, service) = (errand.scope.host.clone(), Box::new(errand.realm.clone()));
    match (answer.status, errand.found) {
        (200, _) => {
            let bytes = match web.whole(answer, &errand.realm, limits::TOKEN_BYTES, surroundings) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Err(AuthError::NoToken { service, registry }.into()),
                Err(cause) => return Ok(Err(cause.into())),
            };
            match token(&bytes) {
                Some(token) => Ok(Ok(Some(bearer(&token)))),
                None => Err(AuthError::NoToken { service, registry }.into()),
            }
        }
        (408 | 425 | 429 | 500.., _) => Ok(Err(answer.trouble())),
        // Nobody in particular may have no token; the registry says what that means.
        (400..=499, None) => Ok(Ok(None)),
        (status, Some(found)) => {
            let credentials = format!("the credentials of {}", found.from);
            Err(AuthError::Refused { service, registry, status, credentials }.into())
        }
        _ => Err(AuthError::NoToken { service, registry }.into()),
    }
}

/// `{"token": …}` or `{"access_token": …}`; it goes into a header.
fn token(bytes: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(bytes).ok()?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let token = text("token").or_else(|| text("access_token"))?;
    token.bytes().all(|byte| byte.is_ascii_graphic()).then(|| token.to_owned())
}

fn bearer(token: &str) -> Secret {
    Secret::new(format!("Bearer {token}"))
}

fn basic(user: &Secret, password: &Secret) -> Secret {
    let pair = format!("{}:{}", user.open(), password.open());
    Secret::new(format!("Basic {}", base64::encode(pair.as_bytes())))
}

fn form(fields: &[(&str, String)]) -> String {
    let field = |(name, value): &(&str, String)| format!("{name}={}", escaped(value));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

/// The address with these fields behind those that it has.
fn with_query(url: &Url, fields: &[(&str, String)]) -> Result<Url, FetchError> {
    let address = url.bare();
    let between = match (fields.is_empty(), address.contains('?')) {
        (true, _) => "",
        (false, true) => "&",
        (false, false) => "?",
    };
    let joined = format!("{address}{between}{}", form(fields)).parse();
    joined.map_err(|_| FetchError::Failed {
        url: Box::new(url.clone()),
        at: None,
        attempts: 1,
        cause: Box::new(super::super::Cause::Request),
    })
}

/// Percent-encoded but for what never needs to be (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for (answer, expected) in [
            (r#"{"token":"a.b-c"}"#, Some("a.b-c")),
            (r#"{"access_token":"x","expires_in":300}"#, Some("x")),
            (r#"{"token":"","access_token":"x"}"#, Some("x")),
            (r#"{"token":"a\r\nEvil: x"}"#, None),
            (r#"{"token":1}"#, None),
            ("no", None),
        ] {
            assert_eq!(token(answer.as_bytes()).as_deref(), expected, "{answer}");
        }
    }

    #[test]
    fn fields_of_queries() {
        let fields = [("service", "a b&c".to_owned()), ("scope", "repository:x/y:pull".to_owned())];
        let query = "service=a%20b%26c&scope=repository%3Ax%2Fy%3Apull";
        for (realm, whole) in [
            ("https://a.example/token", format!("https://a.example/token?{query}")),
            ("https://a.example/token?x=1", format!("https://a.example/token?x=1&{query}")),
        ] {
            assert_eq!(with_query(&realm.parse().unwrap(), &fields).unwrap().bare(), whole);
        }
    }
}
