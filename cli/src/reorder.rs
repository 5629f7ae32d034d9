//! Flows of several nodes in one order of time, as far as that can be had from a stream. Pure: the time is a parameter.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    limits::{FOLLOWED_MAX, REORDER_MAX_FLOWS, REORDER_WINDOW},
    view::FlowView,
};

/// Holds each flow for a moment, so that an earlier one of a slower node still comes out before it.
pub struct Reorder {
    window: Duration,
    held: Vec<(Instant, FlowView)>,
    /// How many of the first batch may pass: the recorded ones that were asked for.
    last: Option<usize>,
}

impl Reorder {
    pub fn new(last: Option<u32>) -> Self {
        Self { window: REORDER_WINDOW, held: Vec::new(), last: last.map(|n| n as usize) }
    }

    pub fn push(&mut self, flow: FlowView, now: Instant) {
        self.held.push((now, flow));
    }

    /// When [`Self::due`] has something to give.
    pub fn next_due(&self) -> Option<Instant> {
        let first = self.held.iter().map(|(at, _)| *at).min()?;
        Some(if self.held.len() >= REORDER_MAX_FLOWS { first } else { first + self.window })
    }

    /// What was held long enough, and whatever is older than that, in order of time.
    pub fn due(&mut self, now: Instant) -> Vec<FlowView> {
        let full = self.held.len() >= REORDER_MAX_FLOWS;
        let waited = |at: &Instant| full || now.duration_since(*at) >= self.window;
        let Some(newest) = self.held.iter().filter(|(at, _)| waited(at)).map(|(_, f)| f.at).max() else { return Vec::new() };
        let held = std::mem::take(&mut self.held);
        let (out, keep): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, f)| f.at <= newest);
        self.held = keep;
        newest_of(out.into_iter().map(|(_, f)| f).collect(), self.last.take())
    }
}

/// What was printed of each flow. Records grow while a connection lives; a line is worth printing again only when it says something new.
#[derive(Default)]
pub struct Printed {
    lines: HashMap<(String, String, String), String>,
    order: VecDeque<(String, String, String)>,
}

impl Printed {
    /// Whether `line` is new for this end of the connection; remembers it.
    pub fn is_news(&mut self, flow: &FlowView, line: &str) -> bool {
        let (id, node, end) = flow.end();
        let key = (id.to_owned(), node.to_owned(), end.to_owned());
        if self.lines.get(&key).is_some_and(|known| known == line) {
            return false;
        }
        if self.lines.insert(key.clone(), line.to_owned()).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > FOLLOWED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.lines.remove(&oldest);
        }
        true
    }
}

/// Sorted by time; with `last`, only that many, the newest.
pub fn newest_of(mut flows: Vec<FlowView>, last: Option<usize>) -> Vec<FlowView> {
    flows.sort_by(|a, b| a.order().cmp(&b.order()));
    let skip = last.map_or(0, |n| flows.len().saturating_sub(n));
    flows.split_off(skip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Stamp;

    fn flow(id: &str, at: i64) -> FlowView {
        FlowView { id: id.to_owned(), at: Stamp::millis(at), ..FlowView::default() }
    }

    fn ids(flows: &[FlowView]) -> String {
        flows.iter().map(|f| f.id.as_str()).collect()
    }

    #[test]
    fn a_late_flow_of_another_node_comes_out_in_its_place() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut order = Reorder::new(None);
        order.push(flow("b", 20), ms(0));
        order.push(flow("a", 10), ms(100));
        order.push(flow("c", 30), ms(200));
        assert_eq!(order.next_due(), Some(ms(250)));
        assert_eq!(ids(&order.due(ms(249))), "");
        // c has not waited long enough, and nothing older than b is kept back.
        assert_eq!(ids(&order.due(ms(250))), "ab");
        assert_eq!(ids(&order.due(ms(450))), "c");
        assert_eq!(order.next_due(), None);
    }

    #[test]
    fn a_record_that_grows_is_printed_again_only_when_its_line_changes() {
        let mut printed = Printed::default();
        let out = FlowView { point: "kernel-out".to_owned(), ..flow("a", 1) };
        assert!(printed.is_news(&out, "allow"));
        assert!(!printed.is_news(&out, "allow"));
        // The other end is a record of its own; a proxy that overrules the kernel is news of the same one.
        assert!(printed.is_news(&FlowView { point: "kernel-in".to_owned(), ..flow("a", 1) }, "allow"));
        assert!(printed.is_news(&FlowView { point: "proxy-out".to_owned(), ..flow("a", 1) }, "deny"));
        for n in 0..=FOLLOWED_MAX {
            printed.is_news(&flow(&format!("x{n}"), 1), "allow");
        }
        assert!(printed.lines.len() <= FOLLOWED_MAX && printed.lines.len() == printed.order.len());
    }

    #[test]
    fn last_counts_over_all_nodes_and_for_the_first_batch_only() {
        let start = Instant::now();
        let mut order = Reorder::new(Some(2));
        for (id, at) in [("a", 1), ("c", 3), ("b", 2), ("d", 4)] {
            order.push(flow(id, at), start);
        }
        assert_eq!(ids(&order.due(start + REORDER_WINDOW)), "cd");
        for (id, at) in [("e", 5), ("f", 6), ("g", 7)] {
            order.push(flow(id, at), start);
        }
        assert_eq!(ids(&order.due(start + REORDER_WINDOW)), "efg");
    }
}
