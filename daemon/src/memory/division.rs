//! Divides something among those who want some of it.

/// Divides `whole` max-min fairly: who wants less than an equal part gets what it wants, and what it
/// leaves is divided equally among the others. In the order of `wants`.
pub(super) fn divide(whole: u64, wants: &[u64]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|index| wants[*index]);
    let (mut left, mut parts) = (whole, vec![0; wants.len()]);
    for (done, index) in order.into_iter().enumerate() {
        let equal = left / (wants.len() - done) as u64;
        parts[index] = wants[index].min(equal);
        left -= parts[index];
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_wants_little_leaves_the_rest_to_the_others() {
        assert!(divide(100, &[]).is_empty());
        assert_eq!(divide(100, &[30]), [30]);
        assert_eq!(divide(100, &[300]), [100]);
        assert_eq!(divide(100, &[300, 10, 200]), [45, 10, 45]);
        assert_eq!(divide(100, &[60, 60]), [50, 50]);
        assert_eq!(divide(3, &[9, 9]), [1, 2]);
    }

    #[test]
    fn thirty_who_want_everything_get_equal_parts() {
        let parts = divide(24 << 20, &[16 << 20; 30]);
        assert_eq!(parts.iter().sum::<u64>(), 24 << 20);
        assert!(parts.iter().all(|part| (838_860..=838_861).contains(part)));
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_it_wants_and_all_together_what_there_is(
            whole in 0..1_000_000u64, wants in prop::collection::vec(0..100_000u64, 0..40),
        ) {
            let parts = divide(whole, &wants);
            prop_assert!(parts.iter().zip(&wants).all(|(part, want)| part <= want));
            let wanted = wants.iter().sum::<u64>();
            prop_assert_eq!(parts.iter().sum::<u64>(), whole.min(wanted));
            let most = parts.iter().max().copied().unwrap_or_default();
            for (part, want) in parts.iter().zip(&wants) {
                prop_assert!(part == want || *part + 1 >= most, "{:?}", parts);
            }
        }
    }
}
