//! The one page: which code, as whom, yes or no.
//!
//! Invariant: nothing is decided but by a POST that a page of ours, or no page at all (`curl`), has sent, with the password.
//! A browser says where a POST comes from (`Origin`, `Sec-Fetch-Site`), and by which name it believes to have reached
//! us (`Host`), which another site's name that was made to point to loopback is not.

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::code::Decision;
use super::{Office, PEOPLE, private};

#[derive(Deserialize)]
pub struct Wanted {
    #[serde(default)]
    user_code: String,
}

#[derive(Deserialize)]
pub struct Said {
    user_code: String,
    person: String,
    password: String,
    #[serde(default)]
    answer: Answer,
}

#[derive(Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Answer {
    #[default]
    Approve,
    Deny,
}

/// The form, with the code that the link carries.
pub async fn show(State(office): State<Arc<Office>>, headers: HeaderMap, Query(wanted): Query<Wanted>) -> Response {
    if !is_own_name(&office, &headers) {
        return page(StatusCode::FORBIDDEN, "<p>This page is reached by another name.");
    }
    let code = read(&wanted.user_code);
    if !code.is_empty() && !office.codes().waits(&code) {
        return page(StatusCode::NOT_FOUND, GONE);
    }
    page(StatusCode::OK, &form(&code))
}

/// What a person says to a code.
pub async fn decide(State(office): State<Arc<Office>>, headers: HeaderMap, Form(said): Form<Said>) -> Response {
    if !is_own_name(&office, &headers) || !is_own_page(&office, &headers) {
        return page(StatusCode::FORBIDDEN, "<p>Another site has sent this. Nothing was approved.");
    }
    if !same(&said.password, &office.password) {
        return page(StatusCode::FORBIDDEN, "<p>The password is another. It stands in the playground's folder.");
    }
    let Some(person) = PEOPLE.iter().find(|person| person.subject == said.person) else {
        return page(StatusCode::BAD_REQUEST, "<p>There is nobody of that name here.");
    };
    let (decision, done) = match said.answer {
        Answer::Approve => (Decision::Approved(person), "<p>Approved: ssh goes on by itself."),
        Answer::Deny => (Decision::Denied, "<p>Denied."),
    };
    if office.codes().decide(&read(&said.user_code), decision) {
        page(StatusCode::OK, done)
    } else {
        page(StatusCode::NOT_FOUND, GONE)
    }
}

const GONE: &str = "<p>There is no such code, or nobody waits for it any more.";

/// A code as a person may type it: in either case, with spaces. What is no letter or dash is none of it.
fn read(typed: &str) -> String {
    let plain = typed.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == '-');
    plain.map(|letter| letter.to_ascii_uppercase()).collect()
}

fn is_own_name(office: &Office, headers: &HeaderMap) -> bool {
    headers.get(header::HOST).is_some_and(|host| host.as_bytes() == office.host.as_bytes())
}

fn is_own_page(office: &Office, headers: &HeaderMap) -> bool {
    let origin =
        headers.get(header::ORIGIN).is_none_or(|origin| origin.as_bytes() == office.signer.issuer().as_bytes());
    let site = headers.get(HeaderName::from_static("sec-fetch-site"));
    origin && site.is_none_or(|site| site.as_bytes() == b"same-origin")
}

/// In a time that does not tell how much of it was right.
fn same(given: &str, right: &str) -> bool {
    let differences = given.bytes().zip(right.bytes()).fold(0, |wrong, (a, b)| wrong | (a ^ b));
    given.len() == right.len() && differences == 0
}

/// `code` is of letters and dashes.
fn form(code: &str) -> String {
    let people: String = (PEOPLE.iter().enumerate())
        .map(|(number, person)| {
            let (subject, name) = (person.subject, person.name);
            let (groups, checked) = (person.groups.join(", "), if number == 0 { " checked" } else { "" });
            format!(
                "<p><label><input type=radio name=person value={subject}{checked}> {name} ({groups}): {}</label>\n",
                person.may
            )
        })
        .collect();
    format!(
        "<form method=post action=/device>\n\
         <p><label>The code that ssh shows: <input name=user_code value=\"{code}\" size=10 autocomplete=off></label>\n\
         {people}\
         <p><label>The playground's password: <input name=password type=password autocomplete=off></label>\n\
         <p><button name=answer value=approve>Approve</button> <button name=answer value=deny>Deny</button>\n\
         <p>Approve only a code that you see in your own terminal.\n</form>"
    )
}

fn page(status: StatusCode, body: &str) -> Response {
    let text = format!(
        "<!doctype html>\n<html lang=en>\n<title>Porthole's playground: log in</title>\n\
         <h1>Log in to the playground</h1>\n\
         <p>This stands for your company's login page. It is a playground: these people are made up, anybody with its\n\
         password can be each of them, and it ends with the program that started it.\n{body}\n"
    );
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"),
        ),
        // Not `no-referrer`, by which browsers would hide the origin of our own form too.
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    private((status, headers, text))
}
