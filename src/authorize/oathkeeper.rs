//! Ory Oathkeeper, by its access-decision API: the question becomes a method, a path and headers that its rules match.
//!
//! Guards: a 200 without a body, as Oathkeeper gives it, alone allows: one with a page is somebody else's. A no is 401, 403, or a 404 in which Oathkeeper itself says that no rule fits; any other 404
//! may come from whoever else listens there, and is no answer. Nothing that a person types changes the request's shape
//! (`template`).
//!
//! Oathkeeper has no place for obligations in its answer, but its rules may set headers there (the mutator `header`):
//! `X-Porthole-Obligations` with the JSON of `Obligations` is a condition of its yes.

use futures_util::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::answer;
use super::guarded::Backend;
use super::http::{Answer, Http, Unusable, bearer};
use super::template::Template;
use super::{Decision, Obligations, Query, Unavailable};
use crate::auth::Secret;
use crate::config;

const OBLIGATIONS: &str = "x-porthole-obligations";

/// Longer paths are refused by the servers on the way; a command of this length is no question for a path.
const PATH_MAX_BYTES: usize = 8 * 1024;

/// A questioned Oathkeeper.
pub(super) struct Oathkeeper {
    http: Http,
    method: Template,
    path: Template,
    headers: Vec<(HeaderName, Template)>,
    pass_token: bool,
}

/// All that it is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Request {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, String)>,
    token: Option<Secret>,
}

/// Its way to say no; `code` is the status once more.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalBody,
}

#[derive(Deserialize)]
struct RefusalBody {
    code: u16,
}

impl Oathkeeper {
    pub(super) fn new(config: &config::authorize::Oathkeeper) -> Result<Oathkeeper, Unusable> {
        let http = Http::new(&config.server)?;
        let template =
            |key: &str, text: &str| Template::parse(text).map_err(|problem| Unusable(format!("{key}: {problem}")));
        let (method, path) = (template("method", &config.method)?, template("path", &config.path)?);
        if !config.path.starts_with('/') {
            return Err(Unusable(format!("path {:?} must begin with a slash", config.path)));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
        let fixed: String = path.texts().collect();
        if !fixed.bytes().all(plain) || config.path.contains("//") || config.path.split('/').any(|part| part == "..") {
            return Err(Unusable(format!("path {:?} is no plain path: it has no query, `..` or `//`", config.path)));
        }
        let header = |(name, value): (&String, &String)| {
            let known: HeaderName =
                name.parse().map_err(|_| Unusable(format!("headers: {name:?} is no name of a header")))?;
            if [AUTHORIZATION.as_str(), OBLIGATIONS, "host", "content-length"].contains(&known.as_str()) {
                return Err(Unusable(format!("headers: {name:?} is not for templates: leave it out")));
            }
            let value = template("headers", value)?;
            let controls = value.texts().any(|text| HeaderValue::from_str(text).is_err());
            match controls {
                true => Err(Unusable(format!("headers: the value of {name:?} has control characters"))),
                false => Ok((known, value)),
            }
        };
        let headers = config.headers.iter().map(header).collect::<Result<_, _>>()?;
        Ok(Oathkeeper { http, method, path, headers, pass_token: config.pass_token })
    }
}

impl Backend for Oathkeeper {
    type Question = Request;
    type Answer = Decision;

    fn question(&self, query: &Query) -> Result<Request, String> {
        let token = match (self.pass_token, &query.user.id_token) {
            (false, _) => None,
            (true, Some(token)) => Some(token.clone()),
            (true, None) => return Err("this person came without an id_token to pass on".to_owned()),
        };
        let method = Method::from_bytes(self.method.fill(query).as_bytes());
        let method = method.map_err(|_| "the question makes no method that could be sent".to_owned())?;
        let path = self.path.fill_path(query);
        if path.len() > PATH_MAX_BYTES {
            return Err("the question is too long for a path".to_owned());
        }
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), value.fill_header(query))).collect();
        Ok(Request { method, path, headers, token })
    }

    fn ask<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Decision, Unavailable>> {
        Box::pin(async move {
            let broken = |error: Unusable| Unavailable(format!("cannot be asked: {error}"));
            let url = self.http.at(&request.path).map_err(broken)?;
            let mut headers = HeaderMap::new();
            for (name, value) in &request.headers {
                let value = HeaderValue::from_str(value);
                headers.insert(name, value.map_err(|_| Unavailable("cannot be asked: a header is none".to_owned()))?);
            }
            if let Some(token) = &request.token {
                headers.insert(AUTHORIZATION, bearer(token.expose())?);
            }
            decision(&self.http.send(request.method.clone(), url, headers, Vec::new()).await?)
        })
    }

    fn judge(&self, _: &Query, answer: &Decision) -> Decision {
        answer.clone()
    }
}

fn decision(said: &Answer) -> Result<Decision, Unavailable> {
    let by_oathkeeper = || {
        let body = serde_json::from_slice::<Refusal>(&said.body);
        body.is_ok_and(|refusal| refusal.error.code == said.status.as_u16())
    };
    match said.status {
        StatusCode::OK if !said.body.is_empty() => {
            Err(Unavailable("it answers 200 with a body, which Oathkeeper never does: who is asked there?".to_owned()))
        }
        StatusCode::OK => {
            let mut all = said.headers.get_all(OBLIGATIONS).iter();
            let first = all.next();
            if all.next().is_some() {
                return Err(Unavailable(format!("its answer has {OBLIGATIONS} twice: one rule may set them")));
            }
            let obligations = match first {
                Some(header) => {
                    let json = serde_json::from_slice(header.as_bytes()).map_err(|error| error.to_string());
                    let read = json.and_then(answer::obligations);
                    read.map_err(|problem| Unavailable(format!("its header {OBLIGATIONS}: {problem}")))?
                }
                None => Obligations::default(),
            };
            Ok(Decision { allow: true, reason: "a rule allows".to_owned(), obligations })
        }
        StatusCode::UNAUTHORIZED => Ok(Decision::denied("it does not know this person (401)")),
        StatusCode::FORBIDDEN => Ok(Decision::denied("a rule denies (403)")),
        StatusCode::NOT_FOUND if by_oathkeeper() => Ok(Decision::denied("no rule fits (404)")),
        _ => Err(said.unexpected()),
    }
}
