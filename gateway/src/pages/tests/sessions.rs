//! One's own sessions: what each is, and that each can be ended.

use super::{dom::Dom, world::*};
use crate::pages::{Line, Sessions, paths, sessions};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

fn page(lines: &[Line<'_>]) -> Dom {
    let (brand, person) = (brand("Corp", ""), person("alice", &[]));
    Dom::parse(&sessions(&Sessions { frame: frame(&brand, &person), sessions: lines }))
}

fn line(id: &str, last_used: u64, this: bool) -> Line<'static> {
    Line { id: id.to_owned(), agent: FIREFOX, begun: 1_767_225_600, last_used, provider: "Corp login", this }
}

/// The session of each form that ends one, in the page's order.
fn ended(dom: &Dom) -> Vec<String> {
    let forms = dom.find("form").filter(|form| form.attr("action") == Some(paths::END_SESSION));
    let session =
        |form| dom.within(form, "input").find(|input| input.attr("name") == Some("session")).and_then(|input| input.attr("value")).unwrap().to_owned();
    forms.map(session).collect()
}

#[test]
fn each_session_can_be_ended_this_one_first_and_then_the_latest() {
    let dom = page(&[line("old", 1, false), line("this", 2, true), line("new", 3, false)]);
    assert_eq!(ended(&dom), ["this", "new", "old"]);
    let this = dom.find("li").find(|item| item.text.contains("this session")).unwrap();
    assert_eq!(dom.find(".stage").count(), 1);
    for said in ["Firefox on Linux", "Begun 1 Jan 2026, 00:00 UTC", "Last used 1 Jan 1970, 00:00 UTC", "Corp login"] {
        assert!(this.text.contains(said), "{said}: {}", this.text);
    }
    assert_eq!(dom.within(this, "time").next().unwrap().attr("datetime"), Some("1970-01-01T00:00:02Z"));
    assert_eq!(dom.find("form").filter(|form| form.attr("action") == Some(paths::END_OTHERS)).count(), 1);
}

#[test]
fn all_others_are_ended_at_once_where_there_are_several() {
    for (others, expect) in [(0, 0), (1, 0), (2, 1)] {
        let mut lines = vec![line("this", 1, true)];
        lines.extend((0..others).map(|n| line(&n.to_string(), n, false)));
        let dom = page(&lines);
        assert_eq!(dom.find("form").filter(|form| form.attr("action") == Some(paths::END_OTHERS)).count(), expect, "{others}");
        assert_eq!(dom.one("main").text.contains("You are signed in nowhere else"), others == 0);
    }
}
