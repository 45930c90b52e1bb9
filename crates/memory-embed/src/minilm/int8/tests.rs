//! The products of whole numbers against their definition, and the sets against one another.

use proptest::prelude::*;

use super::*;

/// Sums of codes as `[token][output]`, and the numbers made of them.
fn product(kernels: &Int8Kernels, case: &Case) -> (Vec<i32>, Vec<f32>) {
    let mut layer = Int8Dense::new(kernels, case.inputs, case.outputs);
    for (output, row) in case.weights.chunks(case.inputs).enumerate() {
        layer.set_row(kernels, output, row, 2.0);
    }
    layer.set_bias(0, &case.bias, 1.0);
    assert_eq!((layer.inputs(), layer.outputs()), (case.inputs, case.outputs));
    let mut room = Int8Room::default();
    let mut out = vec![f32::NAN; case.tokens() * case.outputs];
    kernels.dense(&layer, &case.x, &mut out, &mut room);
    let mut whole = vec![i32::MIN; out.len()];
    kernels.each_tile(&layer, &mut room, |at, from, tokens, sums| {
        assert_eq!(sums.len(), tokens.len() * kernels.width);
        for (token, sums) in sums.chunks_exact(kernels.width).enumerate() {
            let to = (from + token) * case.outputs + at * kernels.width;
            whole[to..][..kernels.width].copy_from_slice(sums);
        }
    });
    (whole, out)
}

#[derive(Debug, Clone)]
struct Case {
    inputs: usize,
    outputs: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    x: Vec<f32>,
}

impl Case {
    fn tokens(&self) -> usize {
        self.x.len() / self.inputs
    }

    /// The sums of codes, straight from the definition.
    fn sums(&self) -> Vec<i64> {
        let mut codes = vec![0_i8; self.inputs];
        let mut of_token = vec![0_u8; self.inputs];
        let mut sums = vec![0; self.tokens() * self.outputs];
        for (output, row) in self.weights.chunks(self.inputs).enumerate() {
            math::quantise_signed(row, &mut codes);
            for (token, x) in self.x.chunks(self.inputs).enumerate() {
                math::quantise(x, &mut of_token);
                let products =
                    codes.iter().zip(&of_token).map(|(w, x)| i64::from(*w) * i64::from(*x));
                sums[token * self.outputs + output] = products.sum();
            }
        }
        sums
    }
}

/// Layers and tokens of any height, with rows of one number only among them, which have the
/// largest sums that there are.
fn cases() -> impl Strategy<Value = Case> {
    let row = |inputs: usize| {
        prop_oneof![
            4 => prop::collection::vec(-8.0_f32..8.0, inputs),
            1 => prop::sample::select(vec![1.0_f32, -1.0, 0.0]).prop_map(move |x| vec![x; inputs]),
            1 => prop::sample::select(vec![1.0_f32, -1.0]).prop_map(move |x| {
                let mut row = vec![x; inputs];
                row[0] = 0.0;
                row
            }),
        ]
    };
    (1_usize..=24, 1_usize..=2, 0_usize..=30).prop_flat_map(move |(inputs, outputs, tokens)| {
        let (inputs, outputs) = (inputs * 4, outputs * 32);
        let rows = move |count| prop::collection::vec(row(inputs), count).prop_map(|r| r.concat());
        (rows(outputs), prop::collection::vec(-1.0_f32..1.0, outputs), rows(tokens))
            .prop_map(move |(weights, bias, x)| Case { inputs, outputs, weights, bias, x })
    })
}

fn check(case: &Case) {
    let want = case.sums();
    let mut first: Option<Vec<u32>> = None;
    for kernels in available() {
        let (whole, out) = product(&kernels, case);
        let name = kernels.name();
        assert!(whole.iter().map(|sum| i64::from(*sum)).eq(want.iter().copied()), "{name}");
        let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
        assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{name}");
        for (at, got) in out.iter().enumerate() {
            let (token, output) = (at / case.outputs, at % case.outputs);
            let x = &case.x[token * case.inputs..][..case.inputs];
            let row = &case.weights[output * case.inputs..][..case.inputs];
            let product: f64 =
                x.iter().zip(row).map(|(x, w)| f64::from(*x) * f64::from(*w) * 2.0).sum();
            // Each number is off by at most half a step of its scale.
            let range = |row: &[f32]| {
                let high = row.iter().fold(f32::NEG_INFINITY, |high, x| high.max(*x));
                let low = row.iter().fold(f32::INFINITY, |low, x| low.min(*x));
                f64::from(high - low)
            };
            let largest = |row: &[f32]| f64::from(row.iter().fold(0.0_f32, |m, x| m.max(x.abs())));
            let (of_x, of_w) = (range(x) / 510.0, largest(row) / 254.0);
            let each = of_x * largest(row) + of_w * largest(x) + of_x * of_w;
            #[expect(clippy::cast_precision_loss, reason = "below 100")]
            let bound = 2.0 * case.inputs as f64 * each + 1e-3;
            let want = product + f64::from(case.bias[output]);
            assert!((f64::from(*got) - want).abs() <= bound, "{name} {token} {output}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// The whole numbers are those of the definition with every set, and so every set gives the
    /// same bits; the numbers are near the product.
    #[test]
    fn every_set_gives_the_sums_of_the_definition(case in cases()) {
        check(&case);
    }
}

#[test]
fn the_largest_sums_of_the_network_are_exact() {
    // 1,536 products of 255 and 127, or -127, one number of each token being 0 so that the others
    // are 255.
    let inputs = 1_536;
    let mut x = vec![1.0; inputs];
    x[7] = 0.0;
    let rows: Vec<f32> = [1.0, -1.0].iter().cycle().take(32).copied().collect();
    let case = Case {
        inputs,
        outputs: 32,
        weights: rows.iter().flat_map(|sign| vec![*sign; inputs]).collect(),
        bias: vec![0.0; 32],
        x: x.repeat(14),
    };
    assert_eq!(case.sums()[..2], [1_535 * 255 * 127, -1_535 * 255 * 127]);
    check(&case);
}

#[test]
fn a_set_of_f32_takes_no_more_than_it_has() {
    let names: Vec<_> = available().iter().map(Int8Kernels::name).collect();
    assert_eq!(names.last(), Some(&"portable"));
    assert_eq!(beside("portable").name(), "portable");
    assert_eq!(beside("neon").name(), "portable");
    if names.contains(&"avx2") {
        assert_eq!(beside("avx2").name(), "avx2");
        assert_eq!(beside("avx512").name(), names[0]);
    }
}

#[test]
fn the_sum_takes_in_every_code() {
    for kernels in available() {
        let mut codes = vec![0_i8; 700];
        assert_eq!(kernels.sum(&codes).to_bits(), 0);
        for at in [0, 255, 256, 511, 512, 699] {
            codes[at] = 1;
            assert!(kernels.sum(&codes) > 0.0, "{} {at}", kernels.name());
            codes[at] = 0;
        }
    }
}
