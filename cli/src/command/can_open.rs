//! `weft can user:NAME https://HOST/PATH`: whether somebody may open a page, by the function that the gateway asks of every request.

use std::collections::BTreeSet;

use anyhow::Result;
use weft_policy::{Index, Request, Who};
use weft_snapshot::{Access, Snapshot};
use weft_types::{Method, Target, Verdict, WebUrl};

use super::can::CanError;
use crate::{
    Context, Outcome,
    args::CanArgs,
    output, remark, source,
    suggest::{did_you_mean, nearest},
    view::{PersonView, RequestView},
};

/// What a browser asks first.
const DEFAULT_METHOD: &str = "GET";

pub(super) async fn run(ctx: &Context, args: CanArgs) -> Result<Outcome> {
    let (person, url) = asked(&args)?;
    let snapshot = source::snapshot_with_routes(ctx, args.catalog.as_deref()).await?;
    let index = Index::new(snapshot.into());
    let answer = decide(&index, &person, url, args.method.as_ref());
    ctx.output.show(&[&answer], |style| output::request(style, &answer))?;
    remarks(index.snapshot(), &person, &answer).iter().for_each(|r| remark(r));
    Ok(outcome(&answer))
}

/// 0 for allow, 1 for anything else.
pub fn outcome(answer: &RequestView) -> Outcome {
    Outcome::findings_if(!answer.allowed())
}

/// Who asks, and for what; anything else makes no sense.
fn asked(args: &CanArgs) -> Result<(PersonView, &WebUrl), CanError> {
    let person = match &args.source {
        Target::User { name, groups } => PersonView { user: Some(name.clone()), groups: groups.clone() },
        Target::Group(group) => PersonView { user: None, groups: vec![group.clone()] },
        Target::Anonymous => PersonView { user: None, groups: vec![] },
        Target::Url(url) => return Err(CanError::SourceUrl(url.to_string())),
        _ => return Err(CanError::NotAPerson),
    };
    let Target::Url(url) = &args.destination else { return Err(CanError::Person(named(&args.source))) };
    if args.protocol.is_some() {
        return Err(CanError::Protocol(url.to_string()));
    }
    Ok((person, url))
}

pub fn decide(index: &Index, person: &PersonView, url: &WebUrl, method: Option<&Method>) -> RequestView {
    let method = method.map_or(DEFAULT_METHOD, Method::as_str);
    let name = person.name();
    let who = if person.is_anonymous() { Who::Anonymous } else { Who::Person { name: &name, groups: &person.groups } };
    let decision = index.decide_request(&Request { who, method, host: url.host.as_str(), path: &url.path });
    let mut answer = RequestView::new(decision, person.clone(), url.to_string(), method);
    let port = index.snapshot().gateway.as_ref().map(|g| g.public_port);
    if let (Some(asked), Some(public)) = (url.port, port)
        && asked != public
    {
        answer.notes.push(format!("the gateway is reached at port {public}, not {asked}"));
    }
    if answer.verdict == Verdict::Deny.to_string() && answer.reason == "no-host" {
        let hosts = index.snapshot().gateway.iter().flat_map(|g| &g.routes).map(|r| r.host.as_str());
        if let Some(near) = nearest(url.host.as_str(), hosts).first() {
            answer.notes.push(format!("did you mean {near}?"));
        }
    }
    answer
}

/// What a mistyped group or a forgotten one looks like, said beside the answer.
fn remarks(snapshot: &Snapshot, person: &PersonView, answer: &RequestView) -> Vec<String> {
    let known = known_groups(snapshot);
    let unknown = person.groups.iter().filter(|g| !known.contains(g.as_str()));
    let mut all: Vec<String> =
        unknown.map(|g| format!("no exposure, bookmark, team or identity provider names group {g}{}", did_you_mean(g, known.iter().copied()))).collect();
    if let Some(user) = person.user.as_ref().filter(|_| person.groups.is_empty() && answer.reason == "missing-group") {
        all.push(format!("which groups {user} is in only the identity provider knows: name them as user:{user}@GROUP,GROUP"));
    }
    all
}

fn known_groups(snapshot: &Snapshot) -> BTreeSet<&str> {
    let gateway = snapshot.gateway.as_ref();
    let routes = gateway.into_iter().flat_map(|g| &g.routes).filter_map(|r| match &r.access {
        Access::Groups(groups) => Some(groups),
        _ => None,
    });
    let bookmarks = gateway.into_iter().flat_map(|g| &g.bookmarks).map(|b| &b.groups);
    let providers = gateway.into_iter().flat_map(|g| &g.providers).map(|p| &p.groups);
    let teams = snapshot.teams.iter().map(|t| &t.groups);
    routes.chain(bookmarks).chain(providers).chain(teams).flatten().map(String::as_str).collect()
}

pub(super) fn is_person(target: &Target) -> bool {
    matches!(target, Target::User { .. } | Target::Group(_) | Target::Anonymous)
}

pub(super) fn named(target: &Target) -> String {
    match target {
        Target::User { name, .. } => format!("user:{name}"),
        Target::Group(group) => format!("group:{group}"),
        _ => "anonymous".to_owned(),
    }
}

#[cfg(test)]
mod tests;
