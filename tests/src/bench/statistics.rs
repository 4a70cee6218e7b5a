//! Order statistics: medians and quantiles, because a mean on a shared machine measures its neighbours.

/// The value below which this share of the values lies, by linear interpolation; NaN where there are none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_of_sorted(&sorted, share)
}

fn quantile_of_sorted(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = share.clamp(0.0, 1.0) * last as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    below + (above - below) * position.fract()
}

/// Rounds in four figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The least.
    pub least: f64,
    /// A quarter lies below.
    pub low: f64,
    /// Half lies below.
    pub median: f64,
    /// A quarter lies above.
    pub high: f64,
}

impl Summary {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile_of_sorted(&sorted, share);
        Self {
            least: at(0.0),
            low: at(0.25),
            median: at(0.5),
            high: at(0.75),
        }
    }

    /// The width of the middle half, as a share of the median.
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / self.median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let values = [4.0, 1.0, 3.0, 2.0, 5.0];
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&values, 0.5), 3.0);
        assert_eq!(quantile(&values, 0.9), 4.6);
        assert_eq!(quantile(&values, 1.0), 5.0);
        assert_eq!(quantile(&[7.0], 0.999), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn an_outlier_moves_neither_median_nor_spread() {
        let calm = Summary::of(&[10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 1_000.0]);
        assert_eq!((calm.median, calm.spread()), (10.0, 0.0));
        assert_eq!(
            Summary::of(&[1.0, 2.0, 3.0, 4.0, 5.0]),
            Summary {
                least: 1.0,
                low: 2.0,
                median: 3.0,
                high: 4.0
            }
        );
    }
}
