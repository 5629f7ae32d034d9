//! "Did you mean": the closest of some names, if one is close enough.

/// The candidate with the fewest edits away from `wrong`, at most a third of its length.
pub(crate) fn closest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (wrong.chars().count() / 3).max(1);
    let ranked = candidates.into_iter().map(|c| (distance(&wrong.to_lowercase(), &c.to_lowercase()), c));
    ranked.filter(|(d, _)| *d <= allowed).min().map(|(_, c)| c)
}

/// Edits (insert, remove, replace, swap of neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let replace = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            next.push(best);
        }
        before = row;
        row = next;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_close_name_is_suggested() {
        let check = |wrong, expect| assert_eq!(closest(wrong, ["orders", "orders-db", "stock", "web"]), expect, "{wrong}");
        check("oders", Some("orders"));
        check("order-db", Some("orders-db"));
        check("sotck", Some("stock"));
        check("Stock", Some("stock"));
        check("wbe", Some("web"));
        check("payments", None);
        check("", None);
    }
}
