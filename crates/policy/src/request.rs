//! A request decided and told in full: which application, whose it is, what is missing, whom to ask, and the smallest change that would let it in.

use serde::Serialize;
use weft_snapshot::{Access, Gateway, Route, Team};
use weft_types::{Revision, RuleId, ServiceRef, TeamName, Verdict, url_path};

use crate::{AccessReason, Admission, Basis, Index, Who, explain::list, patch};

/// May `who` send it?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub who: Who<'a>,
    pub method: &'a str,
    /// In lower case, without a port.
    pub host: &'a str,
    /// Without a query.
    pub path: &'a str,
}

/// The whole record: what `weft can` prints, and what the page shows that somebody is refused with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestDecision {
    pub verdict: Verdict,
    pub reason: AccessReason,
    pub revision: Revision,
    /// 0 when no route took it.
    pub rule: RuleId,
    pub rule_declared_at: Option<String>,
    /// `None`: no route took it, or the gateway itself did.
    pub app: Option<App>,
    /// The group that lets them in.
    pub group: Option<String>,
    /// Any one of these groups would do.
    pub missing: Vec<String>,
    /// Methods that the route takes, where it does not take this one.
    pub methods: Vec<String>,
    /// Who can help, the application's owner first.
    pub ask: Vec<Contact>,
    /// For a denial: the closest thing that would have matched, in words.
    pub nearest_miss: Option<String>,
    /// For a denial: what would have to change, in words.
    pub change: Option<String>,
    /// The same as YAML for the application's document, where that is a way.
    pub patch: Option<String>,
}

/// What a request leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct App {
    pub service: ServiceRef,
    pub title: String,
    pub owner: TeamName,
    /// Service port behind the route.
    pub port: u16,
    /// Host and pattern of the route.
    pub route: String,
    /// The path that the application sees.
    pub upstream_path: String,
    pub declared_at: String,
}

/// A team that can help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contact {
    pub team: TeamName,
    pub lead: String,
    pub contact: String,
    /// The missing group that is this team's; `None`: the team owns the application.
    pub group: Option<String>,
}

impl Index {
    /// Decides by [`Index::route`] and [`Index::admit`], and explains.
    pub fn decide_request(&self, request: &Request<'_>) -> RequestDecision {
        let Some(gateway) = &self.snapshot().gateway else {
            let miss = "nothing is exposed in this revision, so there is no gateway".to_owned();
            return self.without_route(AccessReason::NoHost, Some(miss));
        };
        if let Err(e) = url_path::check_normal(request.path) {
            return self.without_route(AccessReason::NotNormal, Some(e.to_string()));
        }
        if let Some(own) = self.own_page(gateway, request) {
            return own;
        }
        match self.route(request.host, request.path) {
            Some(route) => self.explain_request(route, request, &self.admit(route, request.who, request.method)),
            None => self.no_route(gateway, request),
        }
    }

    /// The words to a verdict of [`Index::admit`].
    pub fn explain_request(&self, route: &Route, request: &Request<'_>, admission: &Admission<'_>) -> RequestDecision {
        let mut decision = self.empty(admission.reason());
        (decision.rule, decision.rule_declared_at) = (route.rule, Some(route.declared_at.clone()));
        let Some(service) = self.service(route.service) else { return decision };
        decision.app = Some(App {
            service: service.name.clone(),
            title: if route.portal.title.is_empty() { service.title.clone() } else { route.portal.title.clone() },
            owner: service.owner.clone(),
            port: route.port,
            route: format!("{}{}", route.host, route.path),
            upstream_path: route.upstream_path(request.path),
            declared_at: service.declared_at.clone(),
        });
        match admission {
            Admission::Allow(Basis::Group(group)) => decision.group = Some((*group).to_owned()),
            Admission::Allow(_) => {}
            Admission::SignIn => {
                let whom = match &route.access {
                    Access::Groups(groups) => format!("whoever has signed in and is in {}", any(groups)),
                    _ => "whoever has signed in".to_owned(),
                };
                decision.nearest_miss = Some(format!("the exposure at {} is open to {whom}", route.declared_at));
                decision.change = Some(format!("sign in{}", other_method(route, request.method)));
            }
            Admission::MissingGroup { any_of } => {
                decision.missing = any_of.to_vec();
                decision.ask = self.contacts(&service.owner, any_of);
                let (name, groups) = described(request.who);
                decision.nearest_miss = Some(format!("{name} is in {groups}; the exposure at {} is open to {}", route.declared_at, any(any_of)));
                let (whom, method) = (self.whom_to_ask(&decision.ask), other_method(route, request.method));
                decision.change = Some(format!("put {name} into {}{whom}{method}", any(any_of)));
                decision.patch = route.admits_method(request.method).then(|| patch::groups(service, route, any_of, request.who)).flatten();
            }
            Admission::Method { allowed } => {
                decision.methods = allowed.iter().map(ToString::to_string).collect();
                decision.ask = self.contacts(&service.owner, &[]);
                let all = list(allowed.iter(), ToString::to_string);
                decision.nearest_miss = Some(format!("the exposure at {} takes {all}, not {}", route.declared_at, request.method));
                decision.change = Some(format!("add {} to its methods{}", request.method, self.whom_to_ask(&decision.ask)));
                decision.patch = patch::methods(service, route, request.method);
            }
        }
        decision
    }

    /// The portal is for whoever has signed in; signing in itself is for everybody.
    fn own_page(&self, gateway: &Gateway, request: &Request<'_>) -> Option<RequestDecision> {
        let is = |host: Result<weft_types::HostName, _>| host.is_ok_and(|h| h.as_str() == request.host);
        let known = self.routes.hosts().any(|h| h.as_str() == request.host);
        let portal = is(gateway.portal_host());
        if portal && !url_path::is_own(request.path) && request.who == Who::Anonymous {
            let mut decision = self.empty(AccessReason::SignIn);
            decision.nearest_miss = Some("the portal is open to whoever has signed in".to_owned());
            decision.change = Some("sign in".to_owned());
            return Some(decision);
        }
        let provider = is(gateway.provider_host()) && gateway.providers.iter().any(|p| p.builtin);
        (portal || provider || known && url_path::is_own(request.path)).then(|| self.empty(AccessReason::OwnPage))
    }

    fn no_route(&self, gateway: &Gateway, request: &Request<'_>) -> RequestDecision {
        let here = gateway.routes.iter().filter(|r| r.host.as_str() == request.host);
        let paths = list(here, |r| r.path.to_string());
        if !paths.is_empty() && request.path.contains(';') {
            let miss = format!("{} exposes {paths}; what stands behind a ; some applications leave out, and may then lead elsewhere", request.host);
            return self.without_route(AccessReason::NoRoute, Some(miss));
        }
        if !paths.is_empty() {
            return self.without_route(AccessReason::NoRoute, Some(format!("{} exposes {paths}", request.host)));
        }
        let mut hosts: Vec<_> = self.routes.hosts().collect();
        hosts.sort();
        let hosts = list(hosts.into_iter(), ToString::to_string);
        let miss = if hosts.is_empty() { "no application is exposed".to_owned() } else { format!("applications are exposed at {hosts}") };
        self.without_route(AccessReason::NoHost, Some(miss))
    }

    fn without_route(&self, reason: AccessReason, nearest_miss: Option<String>) -> RequestDecision {
        RequestDecision { nearest_miss, ..self.empty(reason) }
    }

    fn empty(&self, reason: AccessReason) -> RequestDecision {
        RequestDecision {
            verdict: reason.verdict(),
            reason,
            revision: self.snapshot().revision,
            rule: RuleId(0),
            rule_declared_at: None,
            app: None,
            group: None,
            missing: vec![],
            methods: vec![],
            ask: vec![],
            nearest_miss: None,
            change: None,
            patch: None,
        }
    }

    /// The owner, and the teams whose groups are missing.
    fn contacts(&self, owner: &TeamName, missing: &[String]) -> Vec<Contact> {
        let teams = &self.snapshot().teams;
        let contact = |team: &Team, group| Contact { team: team.name.clone(), lead: team.lead.clone(), contact: team.contact.clone(), group };
        let mut all: Vec<Contact> = teams.iter().filter(|t| t.name == *owner).map(|t| contact(t, None)).collect();
        if all.is_empty() {
            all.push(Contact { team: owner.clone(), lead: String::new(), contact: String::new(), group: None });
        }
        for group in missing {
            all.extend(teams.iter().filter(|t| t.groups.contains(group)).map(|t| contact(t, Some(group.clone()))));
        }
        all
    }

    /// ` (ask …)`: those whose group is missing, else the owner, else who is named for everything.
    fn whom_to_ask(&self, ask: &[Contact]) -> String {
        let of_groups: Vec<&Contact> = ask.iter().filter(|c| c.group.is_some()).collect();
        let whom = if of_groups.is_empty() { ask.iter().collect() } else { of_groups };
        let mut words: Vec<String> = whom.into_iter().map(in_words).collect();
        words.dedup();
        let support = self.snapshot().gateway.as_ref().map_or("", |g| &g.branding.support);
        if !support.is_empty() {
            words.push(support.to_owned());
        }
        if words.is_empty() { String::new() } else { format!(" (ask {})", words.join(" or ")) }
    }
}

/// What else stands in the way of who is not let in.
fn other_method(route: &Route, method: &str) -> String {
    if route.admits_method(method) {
        return String::new();
    }
    format!(", and ask with {} instead of {method}", list(route.methods.iter(), ToString::to_string))
}

fn in_words(c: &Contact) -> String {
    let ways: Vec<&str> = [c.contact.as_str(), c.lead.as_str()].into_iter().filter(|way| !way.is_empty()).collect();
    if ways.is_empty() { c.team.to_string() } else { format!("{}: {}", c.team, ways.join(", ")) }
}

fn described(who: Who<'_>) -> (String, String) {
    match who {
        Who::Anonymous => ("nobody".to_owned(), "no group".to_owned()),
        Who::Person { name, groups: [] } => (name.to_owned(), "no group".to_owned()),
        Who::Person { name, groups } => (name.to_owned(), list(groups.iter(), Clone::clone)),
    }
}

/// `sales or support`.
fn any(groups: &[String]) -> String {
    groups.join(" or ")
}
