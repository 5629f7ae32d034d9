//! "Did you mean": the few known names nearest to a mistyped one.

use crate::limits::SUGGESTIONS_MAX;

/// The nearest of `known`, best first; none when nothing is near.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    // A third of the name itself; the namespace before it would make strangers near.
    let limit = (typed.rsplit('/').next().map_or(0, |t| t.chars().count()) / 3).max(2);
    let mut near: Vec<(usize, &str)> = known.into_iter().filter_map(|k| score(typed, k).filter(|d| *d <= limit).map(|d| (d, k))).collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(SUGGESTIONS_MAX).map(|(_, k)| k).collect()
}

/// `; did you mean a, b?`, or nothing.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(typed, known)[..] {
        [] => String::new(),
        ref near => format!("; did you mean {}?", near.join(" or ")),
    }
}

/// A right name in another namespace is as near as one mistyped letter.
fn score(typed: &str, known: &str) -> Option<usize> {
    let tail = |s: &str| s.rsplit_once('/').map(|(_, t)| t.to_owned());
    if tail(typed).is_some_and(|t| tail(known) == Some(t)) {
        return Some(1);
    }
    let (a, b): (Vec<char>, Vec<char>) = (typed.chars().collect(), known.chars().collect());
    // Names are bounded; what is much longer is not near, and is not worth the table.
    (a.len().abs_diff(b.len()) <= 8 && a.len() <= 256).then(|| distance(&a, &b))
}

/// Optimal string alignment: insertion, deletion, substitution and a swap of neighbours cost one each.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_best_first_and_far_ones_not_at_all() {
        let known = ["shop/orders", "shop/orders-db", "shop/stock", "billing/ledger"];
        let check = |typed: &str, expect: &[&str]| assert_eq!(nearest(typed, known), expect, "{typed}");
        check("shop/order", &["shop/orders"]);
        check("shop/odrers", &["shop/orders"]);
        check("shop/orders-bd", &["shop/orders-db", "shop/orders"]);
        check("billing/stock", &["shop/stock"]);
        check("zzz/qqqqq", &[]);
        assert_eq!(did_you_mean("shop/stok", known), "; did you mean shop/stock?");
        assert_eq!(did_you_mean("zzz/qqqqq", known), "");
    }
}
