//! Somebody is not let in: which app, whose it is, what is missing, and whom to ask. Of the decision only what helps the person is shown: files and paths of the mesh stay inside.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};
use weft_policy::{AccessReason, Contact, RequestDecision};

use super::{
    App, Frame, Problem, Reply, Trouble,
    address::{self, Mail},
    layout::{document, list, named, post},
    limits, paths,
    problem::problem,
};

/// What is known of a request that was not let in.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a> {
    pub frame: Frame<'a>,
    /// A denial.
    pub decision: &'a RequestDecision,
    pub method: &'a str,
    /// What `weft why` is asked with.
    pub flow: &'a str,
    /// What the person may open instead, when nothing is at the address.
    pub apps: &'a [App<'a>],
}

/// The page to a denial, whatever its reason.
pub fn denied(view: &Denied<'_>) -> Reply {
    let page = |title: String, main: Markup| Reply { status: status(view.decision), html: document(&view.frame, &title, "page refused", &main) };
    let trouble = |trouble| problem(&Problem { frame: view.frame, trouble, flow: view.flow });
    match view.decision.reason {
        AccessReason::SignIn => page("Sign in first".to_owned(), sign_in(view)),
        AccessReason::Method => page(format!("{} does not take this", title(view)), method(view)),
        AccessReason::MissingGroup => page(format!("You cannot open {}", title(view)), missing_group(view)),
        AccessReason::NotNormal => trouble(Trouble::Refused { status: status(view.decision), sentence: AccessReason::NotNormal.explain() }),
        _ => trouble(Trouble::NotFound { apps: view.apps }),
    }
}

/// The same for programs.
pub fn denied_json(view: &Denied<'_>) -> (StatusCode, Value) {
    let decision = view.decision;
    let contact = |contact: &Contact| json!({ "team": contact.team.as_str(), "lead": contact.lead, "contact": contact.contact, "group": contact.group });
    let app = decision.app.as_ref().map(|app| json!({ "service": app.service.to_string(), "title": app.title, "owner": app.owner.as_str() }));
    let body = json!({
        "error": decision.reason.as_str(),
        "message": sentence(view),
        "app": app,
        "missing_groups": decision.missing,
        "methods": decision.methods,
        "ask": decision.ask.iter().take(limits::CONTACTS_SHOWN_MAX).map(contact).collect::<Vec<_>>(),
        "flow": view.flow,
        "explain": explain(view.flow),
    });
    (status(decision), body)
}

/// What a person types to learn more.
pub(super) fn explain(flow: &str) -> String {
    format!("weft why {flow}")
}

fn status(decision: &RequestDecision) -> StatusCode {
    match decision.reason {
        AccessReason::SignIn => StatusCode::UNAUTHORIZED,
        AccessReason::Method => StatusCode::METHOD_NOT_ALLOWED,
        AccessReason::NoHost | AccessReason::NoRoute => StatusCode::NOT_FOUND,
        AccessReason::NotNormal => StatusCode::BAD_REQUEST,
        _ => StatusCode::FORBIDDEN,
    }
}

fn title<'a>(view: &Denied<'a>) -> &'a str {
    view.decision.app.as_ref().map_or("this app", |app| &app.title)
}

fn sentence(view: &Denied<'_>) -> String {
    let decision = view.decision;
    match decision.reason {
        AccessReason::MissingGroup => format!("{} is open to {}, and you are in none of these groups", title(view), decision.missing.join(", ")),
        AccessReason::Method => format!("{} takes {} here, not {}", title(view), decision.methods.join(", "), view.method),
        AccessReason::SignIn => "sign in, or send a bearer token".to_owned(),
        reason => reason.explain().to_owned(),
    }
}

fn missing_group(view: &Denied<'_>) -> Markup {
    let missing = &view.decision.missing;
    html! {
        div.sheet {
            p.kicker { "Not let in" }
            h1 { "You cannot open " bdi { (title(view)) } }
            p.lede {
                (owned(view)) "It is open to people in "
                @if let [only] = &missing[..] { "the group " bdi.token { (only) } ", and you are not in it." }
                @else { "one of the groups " (list(missing, "or", limits::GROUPS_SHOWN_MAX)) ", and you are in none of them." }
            }
            (ask(view, "Whom to ask"))
            (yourself(view))
            (reference(view.flow))
            div.actions {
                a.button href=(view.frame.start()) { "Your apps" }
                @if view.frame.visitor.is_some() {
                    (post(&view.frame, paths::SIGN_OUT, &html! { button.quiet { "Sign in as somebody else" } }))
                }
            }
        }
    }
}

fn method(view: &Denied<'_>) -> Markup {
    html! {
        div.sheet {
            p.kicker { "Not possible here" }
            h1 { bdi { (title(view)) } " does not take this request" }
            p.lede {
                (owned(view)) "At this address it takes " (list(&view.decision.methods, "and", limits::GROUPS_SHOWN_MAX)) ", not " bdi.token { (view.method) } "."
            }
            (ask(view, "Whom to ask if it should"))
            (reference(view.flow))
            div.actions { a.button href=(view.frame.start()) { "Your apps" } }
        }
    }
}

fn sign_in(view: &Denied<'_>) -> Markup {
    html! {
        div.sheet {
            p.kicker { "Not signed in" }
            h1 { "Sign in to open " bdi { (title(view)) } }
            p.lede { (owned(view)) "It is open to people who have signed in." }
            (reference(view.flow))
            div.actions { a.button href=(view.frame.start()) { "Sign in" } }
        }
    }
}

fn owned(view: &Denied<'_>) -> Markup {
    html! { @if let Some(app) = &view.decision.app { bdi { (app.title) } " belongs to " bdi.strong { (app.owner.as_str()) } ". " } }
}

fn yourself(view: &Denied<'_>) -> Markup {
    html! {
        @if let Some(person) = view.frame.visitor {
            h2 { "You" }
            dl.facts {
                div { dt { "Signed in as" } dd { (named(person)) @if let Some(email) = &person.email { ", " bdi { (email) } } } }
                div { dt { "Your groups" } dd {
                    @if person.groups.is_empty() { "None" } @else { (list(&person.groups, "and", limits::GROUPS_SHOWN_MAX)) }
                } }
            }
        }
    }
}

/// Each team once, with all that it has to do with this; its ways are links where they can be.
fn ask(view: &Denied<'_>, heading: &str) -> Markup {
    let user = view.frame.visitor.map_or("", |person| &person.user);
    let subject = format!("Access to {}", title(view));
    let body = format!("User name: {user}\nWhat was asked for: {}\nReference: {}\n\n", sentence(view), explain(view.flow));
    contacts(&view.decision.ask, &view.frame.brand.support, heading, &Mail { subject: &subject, body: &body })
}

pub(super) fn contacts(ask: &[Contact], support: &str, heading: &str, mail: &Mail<'_>) -> Markup {
    let mut teams: Vec<Team<'_>> = vec![];
    for contact in ask {
        let known = teams.iter().position(|team| team.contact.team == contact.team);
        let at = known.unwrap_or_else(|| {
            teams.push(Team { contact, owns: false, groups: vec![] });
            teams.len() - 1
        });
        match &contact.group {
            Some(group) => teams[at].groups.push(group.clone()),
            None => teams[at].owns = true,
        }
    }
    teams.truncate(limits::CONTACTS_SHOWN_MAX);
    // The foot of the page names it in any case.
    let support = if teams.iter().any(|team| team.ways().next().is_some()) { "" } else { support };
    html! {
        @if !(teams.is_empty() && support.is_empty()) {
            h2 { (heading) }
            ul.contacts {
                @for team in &teams {
                    li {
                        p { bdi.strong { (team.contact.team.as_str()) } " " span.role { (team.role()) } }
                        @if team.ways().next().is_some() {
                            p.ways { @for (i, way) in team.ways().enumerate() { @if i > 0 { span aria-hidden="true" { " · " } } (address::contact(way, Some(mail))) } }
                        }
                    }
                }
                @if !support.is_empty() { li { p { span.role { "Who runs this site" } } p.ways { (address::contact(support, Some(mail))) } } }
            }
        }
    }
}

/// A team with all that it has to do with the matter.
struct Team<'a> {
    contact: &'a Contact,
    owns: bool,
    groups: Vec<String>,
}

impl Team<'_> {
    fn role(&self) -> Markup {
        html! {
            @if self.owns { "owns the app" }
            @if self.owns && !self.groups.is_empty() { ", and " }
            @if !self.groups.is_empty() { "decides who is in " (list(&self.groups, "and", limits::GROUPS_SHOWN_MAX)) }
        }
    }

    fn ways(&self) -> impl Iterator<Item = &str> {
        [self.contact.contact.as_str(), self.contact.lead.as_str()].into_iter().filter(|way| !way.trim().is_empty())
    }
}

pub(super) fn reference(flow: &str) -> Markup {
    html! {
        @if !flow.is_empty() {
            p.reference {
                "Reference for whoever helps you: " code #reference { (explain(flow)) } " "
                button.quiet.copy type="button" data-copy="reference" hidden { "Copy" }
            }
        }
    }
}
