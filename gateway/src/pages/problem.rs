//! What else can go wrong, said by whose it is and whether another try makes sense. What happened inside is in the log, under the reference that the page names.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};
use weft_policy::Contact;

use super::{
    App, Frame, Reply,
    address::{self, Mail},
    denied::{contacts, explain, reference},
    layout::document,
    limits,
};

/// A page about something that does not work.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    pub frame: Frame<'a>,
    pub trouble: Trouble<'a>,
    /// What `weft why` is asked with; empty: nothing was recorded.
    pub flow: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub enum Trouble<'a> {
    /// Nothing is exposed at this address. `apps`: what the person may open, and so may know of.
    NotFound { apps: &'a [App<'a>] },
    /// An application did not answer as it should.
    Upstream(Upstream<'a>),
    /// This gateway is about to end.
    Draining,
    /// The request is not let in whoever sends it. `sentence` says what is wrong with it, in lower case and without a full stop.
    Refused { status: StatusCode, sentence: &'a str },
    /// A fault of ours.
    Internal,
}

#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
    /// Title of the application.
    pub app: &'a str,
    pub owner: &'a str,
    pub ask: &'a [Contact],
    /// What [`weft_http::Error::status`] says.
    pub status: StatusCode,
    pub fault: Fault,
    pub retry: Retry,
    /// Where the same page is asked for once more; `None`: what was sent cannot be sent again by a link.
    pub again: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It answered, and not as HTTP has it, or broke off.
    Broken,
    /// It did not answer in time.
    Late,
    /// None of its instances can be reached, or all are too busy.
    Away,
}

/// Whether it makes sense to send the same once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nothing of it was taken, or asking twice changes nothing.
    Now,
    /// It may have been taken.
    LookFirst,
    /// It would go the same way.
    Useless,
}

/// What is said.
struct Words {
    /// A word for programs.
    error: &'static str,
    kicker: &'static str,
    title: String,
    text: String,
    retry: Option<Retry>,
}

pub fn problem(view: &Problem<'_>) -> Reply {
    let words = words(&view.trouble);
    let main = html! {
        div.sheet {
            p.kicker { (words.kicker) }
            h1 { bdi { (words.title) } }
            p.lede { bdi { (words.text) } @if let Some(retry) = words.retry { " " (retry.sentence()) } }
            (more(view))
            (reference(view.flow))
            div.actions {
                @if let Some(again) = again(&view.trouble) { a.button href=(again) { "Try again" } }
                a.button.quiet[again(&view.trouble).is_some()] href=(view.frame.start()) { "Your apps" }
            }
        }
    };
    Reply { status: status(&view.trouble), html: document(&view.frame, &words.title, "page trouble", &main) }
}

/// The same for programs.
pub fn problem_json(view: &Problem<'_>) -> (StatusCode, Value) {
    let words = words(&view.trouble);
    let app = match &view.trouble {
        Trouble::Upstream(upstream) => Some(json!({ "title": upstream.app, "owner": upstream.owner })),
        _ => None,
    };
    let recorded = (!view.flow.is_empty()).then_some(view.flow);
    let body = json!({
        "error": words.error,
        "message": words.text,
        "app": app,
        "retry": words.retry.map(Retry::as_str),
        "flow": recorded,
        "explain": recorded.map(explain),
    });
    (status(&view.trouble), body)
}

impl Fault {
    /// An error of the upstream's side.
    pub fn of(error: &weft_http::Error) -> Self {
        match error.fault() {
            weft_http::Fault::Connect | weft_http::Fault::ConnectTimeout | weft_http::Fault::Busy | weft_http::Fault::Ended => Self::Away,
            weft_http::Fault::Timeout => Self::Late,
            _ => Self::Broken,
        }
    }
}

impl Retry {
    /// `idempotent`: whether the method of the request is (RFC 9110 section 9.2.2).
    pub fn of(error: &weft_http::Error, idempotent: bool) -> Self {
        match error.retry() {
            weft_http::Retry::Safe => Self::Now,
            weft_http::Retry::IfIdempotent if idempotent => Self::Now,
            weft_http::Retry::IfIdempotent => Self::LookFirst,
            // That it was tried often enough says nothing of the next minute.
            weft_http::Retry::Never if Fault::of(error) == Fault::Away => Self::Now,
            weft_http::Retry::Never => Self::Useless,
        }
    }

    /// As programs read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::LookFirst => "look-first",
            Self::Useless => "useless",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Now => "Try again in a moment.",
            Self::LookFirst => "What you sent may have been taken: look whether it was before you send it again.",
            Self::Useless => "Trying again will not help before its owner has looked at it.",
        }
    }
}

fn status(trouble: &Trouble<'_>) -> StatusCode {
    match trouble {
        Trouble::NotFound { .. } => StatusCode::NOT_FOUND,
        Trouble::Upstream(Upstream { status, .. }) | Trouble::Refused { status, .. } => *status,
        Trouble::Draining => StatusCode::SERVICE_UNAVAILABLE,
        Trouble::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn words(trouble: &Trouble<'_>) -> Words {
    match trouble {
        Trouble::NotFound { .. } => Words {
            error: "not-found",
            kicker: "Not found",
            title: "There is nothing at this address".to_owned(),
            text: "It may be mistyped, or what was here has moved.".to_owned(),
            retry: None,
        },
        Trouble::Upstream(upstream) => upstream.words(),
        Trouble::Draining => Words {
            error: "draining",
            kicker: "Just a moment",
            title: "This gateway is being restarted".to_owned(),
            text: "You stay signed in, and another takes over in a moment.".to_owned(),
            retry: Some(Retry::Now),
        },
        Trouble::Refused { sentence, .. } => Words {
            error: "bad-request",
            kicker: "Not accepted",
            title: "This request cannot be accepted".to_owned(),
            text: as_sentence(sentence),
            retry: None,
        },
        Trouble::Internal => Words {
            error: "internal",
            kicker: "Our fault",
            title: "Something went wrong here".to_owned(),
            text: "It was nothing that you did, and it is recorded. Try again in a moment; if it stays so, tell whoever runs this site.".to_owned(),
            retry: None,
        },
    }
}

impl Upstream<'_> {
    fn words(&self) -> Words {
        let app = self.app;
        let (error, title, what) = match self.fault {
            Fault::Broken => ("bad-gateway", format!("{app} did not answer properly"), "It was reached, but its answer was broken off or was none."),
            Fault::Late => ("timeout", format!("{app} takes too long"), "It was reached, but did not answer in time."),
            Fault::Away => ("unavailable", format!("{app} cannot be reached"), "None of its instances takes requests at the moment."),
        };
        let text = format!("{what} {app} belongs to {}; every other app is as it was.", self.owner);
        Words { error, kicker: "Not available", title, text, retry: Some(self.retry) }
    }
}

fn again<'a>(trouble: &Trouble<'a>) -> Option<&'a str> {
    match trouble {
        Trouble::Upstream(Upstream { again, retry: Retry::Now, .. }) => again.and_then(address::link),
        _ => None,
    }
}

fn more(view: &Problem<'_>) -> Markup {
    let support = &view.frame.brand.support;
    html! {
        @match &view.trouble {
            Trouble::NotFound { apps } if !apps.is_empty() => {
                h2 { "What you can open" }
                ul.contacts {
                    @for app in apps.iter().take(limits::APPS_OFFERED_MAX) {
                        @if let Some(url) = address::link(app.url) { li { p { a href=(url) dir="auto" { (app.title) } } } }
                    }
                }
            }
            Trouble::Upstream(upstream) => {
                @let subject = format!("{} does not work", upstream.app);
                @let body = format!("{}\nReference: {}\n\n", as_sentence(&subject), explain(view.flow));
                (contacts(upstream.ask, support, "Whom to tell if it stays so", &Mail { subject: &subject, body: &body }))
            }
            _ => {}
        }
    }
}

fn as_sentence(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).chain(['.']).collect()).unwrap_or_default()
}
