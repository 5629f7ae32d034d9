//! A person's own sessions, each of which can be ended.

use maud::{Markup, html};

use super::{
    Frame, agent,
    layout::{document, post},
    paths,
    when::when,
};
use crate::sso::{Listed, SessionId};

/// The page of somebody's sessions.
#[derive(Clone, Copy, Debug)]
pub struct Sessions<'a> {
    /// Its `csrf` is in every form: whoever takes the POST compares it.
    pub frame: Frame<'a>,
    pub sessions: &'a [Line<'a>],
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub id: String,
    /// As the browser called itself.
    pub agent: &'a str,
    /// Unix seconds.
    pub begun: u64,
    /// Unix seconds.
    pub last_used: u64,
    /// Who vouched for the person, as people call it.
    pub provider: &'a str,
    /// The one that this page is seen with.
    pub this: bool,
}

impl<'a> Line<'a> {
    /// `provider` is its title.
    pub fn of(listed: &'a Listed, this: SessionId, provider: &'a str) -> Self {
        let session = &listed.session;
        let id = session.id;
        Self { id: id.to_string(), agent: &session.agent, begun: session.created_at, last_used: listed.last_seen, provider, this: id == this }
    }
}

/// The whole page, an answer with status 200.
pub fn sessions(view: &Sessions<'_>) -> String {
    let (this, mut others): (Vec<_>, Vec<_>) = view.sessions.iter().partition(|line| line.this);
    others.sort_by_key(|line| std::cmp::Reverse(line.last_used));
    let main = html! {
        div.sheet {
            h1 { "Your sessions" }
            p.lede { "Each browser that you sign in with has one session, good for every app. End those that you do not need or do not know." }
            section aria-labelledby="this" {
                h2 #this { "This browser" }
                ul.sessions { @for line in &this { (session(view, line)) } }
            }
            section aria-labelledby="others" {
                h2 #others { "Elsewhere" }
                @if others.is_empty() {
                    p { "You are signed in nowhere else." }
                } @else {
                    ul.sessions { @for line in &others { (session(view, line)) } }
                    @if others.len() > 1 {
                        div.actions {
                            (post(&view.frame, paths::END_OTHERS, &html! { button.danger { "End all " (others.len()) " elsewhere" } }))
                        }
                    }
                    p.note { "If you do not know one of them, end it, and then change your password: somebody else may have it." }
                }
            }
            p { a href=(view.frame.start()) { "Back to your apps" } }
        }
    };
    document(&view.frame, "Your sessions", "page", &main)
}

fn session(view: &Sessions<'_>, line: &Line<'_>) -> Markup {
    let browser = agent::in_words(line.agent);
    html! {
        li {
            div.words {
                p.what { bdi { (browser) } @if line.this { " " span.stage { "this session" } } }
                p.meta {
                    span { "Last used " (when(line.last_used)) }
                    span { "Begun " (when(line.begun)) }
                    span { "Signed in with " bdi { (line.provider) } }
                }
            }
            (post(&view.frame, paths::END_SESSION, &html! {
                input type="hidden" name="session" value=(line.id);
                button.quiet {
                    @if line.this { "End" span.hush { " this session, and sign out" } }
                    @else { "End" span.hush { " the session of " (browser) ", begun " (when(line.begun)) } }
                }
            }))
        }
    }
}
