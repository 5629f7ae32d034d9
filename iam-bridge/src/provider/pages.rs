//! The few pages that a person sees, whole without a script: logging in, logging out, and what went wrong. They hold no asset of anybody else.

use std::{borrow::Cow, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;

use super::{
    respond::{self, Answer},
    sha256,
};
use crate::limits::provider as limits;

const STYLE: &str = include_str!("style.css");
/// What the content security policy lets in: this very text.
static STYLE_HASH: LazyLock<String> = LazyLock::new(|| STANDARD.encode(sha256(STYLE.as_bytes())));

/// Why the form is there again. It says the same whatever of it was wrong, so that nobody learns which users there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Wrong,
    TooMany,
    Stale,
    Busy,
}

/// What a login form carries, and where it leads.
pub(super) struct Login<'a> {
    /// The authorization request, as a query.
    pub(super) request: &'a str,
    /// Bound to the browser's cookie and to this request.
    pub(super) proof: &'a str,
    pub(super) name: &'a str,
    pub(super) problem: Option<Problem>,
    pub(super) targets: &'a [String],
}

impl Problem {
    fn status(self) -> StatusCode {
        match self {
            Self::Wrong => StatusCode::FORBIDDEN,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Stale => StatusCode::BAD_REQUEST,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Wrong => "That name and password do not fit together.",
            Self::TooMany => "Too many attempts. Wait a little, then try again.",
            Self::Stale => "This page was open for too long. Please sign in again.",
            Self::Busy => "Signing in is not possible just now. Try again in a moment.",
        }
    }
}

pub(super) fn login(login: &Login<'_>) -> Answer {
    let (status, error, invalid) = match login.problem {
        None => (StatusCode::OK, String::new(), ""),
        Some(problem) => {
            let text = format!(r#"<p class="error" id="problem" role="alert">{}</p>"#, problem.words());
            (problem.status(), text, r#" aria-describedby="problem" aria-invalid="true""#)
        }
    };
    // Who has a name already types the password next.
    let (first, second) = if login.name.is_empty() { (" autofocus", "") } else { ("", " autofocus") };
    let body = format!(
        r#"<h1>Sign in</h1>{error}
<form method="post" action="/login">
<input type="hidden" name="request" value="{request}"><input type="hidden" name="proof" value="{proof}">
<label for="username">User name</label>
<input id="username" name="username" type="text" value="{name}" maxlength="{name_max}" autocomplete="username" autocapitalize="none" spellcheck="false" required{first}{invalid}>
<label for="password">Password</label>
<input id="password" name="password" type="password" maxlength="{password_max}" autocomplete="current-password" required{second}{invalid}>
<button type="submit">Sign in</button>
</form>"#,
        request = escape(login.request),
        proof = escape(login.proof),
        name = escape(login.name),
        name_max = limits::USER_NAME_MAX_BYTES,
        password_max = limits::PASSWORD_MAX_BYTES,
    );
    let title = if login.problem.is_some() { "Sign in: not signed in" } else { "Sign in" };
    respond::page(status, document(title, &body), &STYLE_HASH, login.targets)
}

/// Asks whether the person means it. `request`: the logout request, as a query.
pub(super) fn confirm_logout(request: &str, proof: &str, targets: &[String]) -> Answer {
    let body = format!(
        r#"<h1>Sign out</h1><p>Do you want to sign out of every app?</p>
<form method="post" action="/logout/confirm">
<input type="hidden" name="request" value="{}"><input type="hidden" name="proof" value="{}">
<button type="submit" autofocus>Sign out</button>
</form>"#,
        escape(request),
        escape(proof)
    );
    respond::page(StatusCode::OK, document("Sign out", &body), &STYLE_HASH, targets)
}

pub(super) fn logged_out() -> Answer {
    let body = "<h1>Signed out</h1><p>You can close this page.</p>";
    respond::page(StatusCode::OK, document("Signed out", body), &STYLE_HASH, &[])
}

/// For what must not be told to the address in the request, because nobody registered it.
pub(super) fn refused(status: StatusCode, words: &str) -> Answer {
    let body = format!(
        r#"<h1>This does not work</h1><p role="alert">{}</p><p>Go back to the app and start again. If this page comes back, tell whoever runs the app what it says.</p>"#,
        escape(words)
    );
    respond::page(status, document("This does not work", &body), &STYLE_HASH, &[])
}

fn document(title: &str, body: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head>
<body><main>{body}</main></body></html>
"#
    )
}

/// For text and for attributes in double quotes.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use weft_types::Colour;

    use super::*;

    fn html(answer: &Answer) -> String {
        String::from_utf8(answer.body().to_vec()).unwrap()
    }

    fn form(name: &str, problem: Option<Problem>) -> Answer {
        login(&Login { request: "a=1&b=\"2\"", proof: "p", name, problem, targets: &["https://portal.example".into()] })
    }

    #[test]
    fn nothing_that_was_typed_becomes_markup() {
        let page = html(&form("\"><script>alert(1)</script>", Some(Problem::Wrong)));
        assert!(!page.contains("<script") && page.contains("&quot;&gt;&lt;script&gt;"), "{page}");
        assert!(page.contains("value=\"a=1&amp;b=&quot;2&quot;\""), "{page}");
        assert!(html(&refused(StatusCode::BAD_REQUEST, "<b>")).contains("&lt;b&gt;"));
    }

    #[test]
    fn every_field_has_a_label_and_a_problem_is_announced() {
        let page = html(&form("", None));
        for field in ["username", "password"] {
            assert!(page.contains(&format!("<label for=\"{field}\">")) && page.contains(&format!("id=\"{field}\"")), "{field}");
        }
        assert!(page.contains("<html lang=\"en\">") && !page.contains("role=\"alert\""));
        for problem in [Problem::Wrong, Problem::TooMany, Problem::Stale, Problem::Busy] {
            let answer = form("alice", Some(problem));
            let page = html(&answer);
            assert!(page.contains("id=\"problem\" role=\"alert\"") && page.matches("aria-describedby=\"problem\"").count() == 2, "{page}");
            assert!(answer.status().is_client_error() || answer.status().is_server_error());
        }
    }

    #[test]
    fn the_policy_lets_in_this_style_and_nothing_else() {
        let answer = form("", None);
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.ends_with("form-action 'self' https://portal.example"), "{policy}");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let page = html(&answer);
        let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        assert!(policy.contains(&format!("'sha256-{}'", STANDARD.encode(sha256(style.as_bytes())))));
        assert!(!page.contains("style=") && !page.contains("<script") && !page.contains("http:") && !page.contains("https:"), "{page}");
    }

    /// WCAG 2.2, success criteria 1.4.3 and 1.4.11.
    #[test]
    fn colours_have_the_contrast_of_wcag_aa_in_light_and_dark() {
        let contrast = |a: &str, b: &str| Colour::parse(a).unwrap().contrast(Colour::parse(b).unwrap());
        let schemes: Vec<HashMap<&str, &str>> = STYLE
            .split(":root{")
            .skip(1)
            .map(|s| s.split_once('}').unwrap().0.split(';').filter_map(|d| d.trim().strip_prefix("--")?.split_once(':')).collect())
            .collect();
        assert_eq!(schemes.len(), 2);
        for scheme in schemes {
            let pairs = [
                ("text", "card", 4.5),
                ("quiet", "card", 4.5),
                ("error", "card", 4.5),
                ("on-action", "action", 4.5),
                ("line", "card", 3.0),
                ("action", "card", 3.0),
            ];
            for (front, back, least) in pairs {
                let found = contrast(scheme[front], scheme[back]);
                assert!(found >= least, "{front} on {back}: {found:.2}");
            }
        }
    }
}
