//! A page as a list of elements, by the parser that the HTML standard describes.

use html5ever::{parse_document, tendril::TendrilSink as _};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

#[derive(Clone, Debug)]
pub(super) struct Element {
    pub(super) tag: String,
    pub(super) attrs: Vec<(String, String)>,
    /// Of it and all that is in it.
    pub(super) text: String,
    /// In the document's list.
    pub(super) parent: Option<usize>,
    pub(super) comments: bool,
}

pub(super) struct Dom(Vec<Element>);

impl Dom {
    pub(super) fn parse(html: &str) -> Self {
        let dom = parse_document(RcDom::default(), Default::default()).one(html);
        let mut all = vec![];
        walk(&dom.document, None, &mut all);
        Self(all)
    }

    /// In the order of the document.
    pub(super) fn all(&self) -> &[Element] {
        &self.0
    }

    /// By `tag`, `.class` or `#id`.
    pub(super) fn find<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a Element> + 'a {
        self.0.iter().filter(move |element| element.is(what))
    }

    #[track_caller]
    pub(super) fn one<'a>(&'a self, what: &'a str) -> &'a Element {
        let found: Vec<&Element> = self.find(what).collect();
        let [one] = found[..] else { panic!("{} of {what}", found.len()) };
        one
    }

    /// Those of `what` that are in an `outer`.
    pub(super) fn within<'a>(&'a self, outer: &'a Element, what: &'a str) -> impl Iterator<Item = &'a Element> + 'a {
        self.find(what).filter(move |element| self.ancestors(element).any(|ancestor| std::ptr::eq(ancestor, outer)))
    }

    pub(super) fn ancestors<'a>(&'a self, element: &'a Element) -> impl Iterator<Item = &'a Element> + 'a {
        std::iter::successors(element.parent, |i| self.0[*i].parent).map(|i| &self.0[i])
    }

    pub(super) fn is_hidden(&self, element: &Element) -> bool {
        std::iter::once(element).chain(self.ancestors(element)).any(|element| element.attr("hidden").is_some())
    }
}

impl Element {
    pub(super) fn attr(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is(&self, what: &str) -> bool {
        match what.split_at(1) {
            (".", class) => self.attr("class").is_some_and(|classes| classes.split_whitespace().any(|own| own == class)),
            ("#", id) => self.attr("id") == Some(id),
            _ => self.tag == what,
        }
    }
}

fn walk(node: &Handle, parent: Option<usize>, all: &mut Vec<Element>) -> String {
    let mut here = parent;
    if let NodeData::Element { name, attrs, .. } = &node.data {
        let attrs = attrs.borrow().iter().map(|attr| (attr.name.local.to_string(), attr.value.to_string())).collect();
        all.push(Element { tag: name.local.to_string(), attrs, text: String::new(), parent, comments: false });
        here = Some(all.len() - 1);
    }
    let mut text = String::new();
    for child in node.children.borrow().iter() {
        match &child.data {
            NodeData::Text { contents } => text.push_str(&contents.borrow()),
            NodeData::Comment { .. } | NodeData::ProcessingInstruction { .. } => {
                if let Some(here) = here {
                    all[here].comments = true;
                }
            }
            _ => text.push_str(&walk(child, here, all)),
        }
    }
    if let (Some(here), NodeData::Element { .. }) = (here, &node.data) {
        all[here].text.clone_from(&text);
    }
    text
}
