//! The order of a run: by order number, and every state after those it has requisites on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Sorts `0..orders.len()` so that each comes after all of `before[it]`. Among those that may come
/// next, the lower order number goes first, then the one written first; a state that others need
/// counts with the lowest number of these, as in Salt, so that it does not hold them up.
///
/// # Errors
/// The members of one circle, in its order.
pub(super) fn sort(orders: &[i64], before: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut after = vec![Vec::new(); orders.len()];
    let mut waiting = vec![0_usize; orders.len()];
    for (index, targets) in before.iter().enumerate() {
        for target in targets {
            after[*target].push(index);
            waiting[index] += 1;
        }
    }
    let own = |index: usize| (orders[index], index);
    let rank = |index: usize| {
        let needed_by = after[index].iter().map(|next| own(*next)).min();
        (needed_by.map_or(own(index), |earliest| earliest.min(own(index))), own(index))
    };
    let mut ready: BinaryHeap<_> = (0..orders.len())
        .filter(|index| waiting[*index] == 0)
        .map(|index| Reverse(rank(index)))
        .collect();
    let mut sorted = Vec::with_capacity(orders.len());
    while let Some(Reverse((_, (_, index)))) = ready.pop() {
        sorted.push(index);
        for next in &after[index] {
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                ready.push(Reverse(rank(*next)));
            }
        }
    }
    if sorted.len() == orders.len() {
        return Ok(sorted);
    }
    Err(circle(before, &waiting))
}

/// Walks from one waiting state to a waiting one it needs, until it meets itself.
fn circle(before: &[Vec<usize>], waiting: &[usize]) -> Vec<usize> {
    let Some(start) = waiting.iter().position(|count| *count > 0) else { return Vec::new() };
    let mut path = vec![start];
    loop {
        let last = *path.last().expect("invariant: the path begins with one member");
        let Some(next) = before[last].iter().copied().find(|target| waiting[*target] > 0) else {
            return path;
        };
        if let Some(at) = path.iter().position(|member| *member == next) {
            path.drain(..at);
            return path;
        }
        path.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requisites_override_order_numbers() {
        assert_eq!(sort(&[1, 2, 3], &[vec![2], vec![], vec![]]), Ok(vec![2, 0, 1]));
    }

    #[test]
    fn needed_state_counts_with_those_that_need_it() {
        assert_eq!(sort(&[9, 1, 2], &[vec![], vec![0], vec![]]), Ok(vec![0, 1, 2]));
    }

    #[test]
    fn circle_is_found() {
        let before = [vec![], vec![2], vec![3], vec![1], vec![1]];
        assert_eq!(sort(&[0; 5], &before), Err(vec![1, 2, 3]));
    }
}
